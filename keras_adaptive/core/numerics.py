"""In which dtype the arithmetic is done, and the few functions whose naive form loses digits or overflows."""

import math

import numpy as np
from keras import backend, ops

# Finite float32 numbers times this have squares that do not overflow, and the product is exact.
_SHRINK = 2.0**-90


def compute_dtype(dtype: str) -> str:
    """float64 for float64 weights and float32 for all others, however few bits they are stored in."""
    return "float64" if backend.standardize_dtype(dtype) == "float64" else "float32"


def constant(number: float, dtype):
    """The number with all digits that the dtype has.

    Keras rounds a Python number to float32 on its way into most functions of two tensors (not in `tensor * number`),
    and on torch `ops.maximum` and `ops.minimum` round even tensors: none of them is used here.
    """
    return ops.convert_to_tensor(np.asarray(number, backend.standardize_dtype(dtype)))


def positive_part(x):
    """max(x, 0), for a difference that rounding can make negative; NaN stays NaN."""
    return ops.relu(x)


def clip(x, limit: float):
    """Every element within [-limit, limit]."""
    limit = constant(limit, x.dtype)
    return ops.where(x > limit, limit, ops.where(x < -limit, -limit, x))


def caution(delta, g):
    """What a step is multiplied by to keep the coordinates that go against the gradient, enlarged by their share."""
    mask = ops.cast(delta * g > 0, backend.standardize_dtype(g.dtype))
    return mask * (math.prod(g.shape) / (ops.sum(mask) + 1.0))


def maximum(x, y):
    """The larger of two tensors; NaN where one of them is."""
    return ops.where(x > y, x, ops.where(y >= x, y, x + y))


def at_least(x, limit: float):
    """Every element, or the limit where that is larger; NaN stays NaN."""
    return maximum(x, constant(limit, backend.standardize_dtype(x.dtype)))


def minimum(x, y):
    """The smaller of two tensors; NaN where one of them is."""
    return ops.where(x < y, x, ops.where(y <= x, y, x + y))


def power(x, exponent: float):
    """x to that power; 0 to the power of 0 is 1."""
    return ops.power(x, constant(exponent, x.dtype))


def quotient(x, y):
    """x / y, and 0 where y is 0."""
    return ops.where(y != 0.0, x / ops.where(y != 0.0, y, ops.ones_like(y)), ops.zeros_like(y))


def mean(x, axes):
    """The mean over these axes, which stay with length 1; 0 where there is nothing to average."""
    if not axes:
        return x
    return ops.sum(x, axis=axes, keepdims=True) / max(1, math.prod(x.shape[axis] for axis in axes))


def debias(beta: float, t):
    """1 - beta^t as -expm1(t log beta), which keeps all digits while beta^t is close to 1."""
    if beta == 0.0:
        return ops.ones_like(t)
    return -ops.expm1(t * math.log(beta))


def global_norm(tensors, unit: float):
    """The Euclidean norm of all tensors together, in multiples of `unit`.

    The squares of finite float32 numbers overflow from 1.8e19 on. A second sum, of shrunk values, is taken in the same
    pass and stands in for the first where that is infinite. It leaves out what is smaller than the unit, which does not
    count there; besides, without the `where` XLA may turn (s x)(s x) into s s x x, which is 0 times infinity.
    """
    widest = "float64" if any(compute_dtype(x.dtype) == "float64" for x in tensors) else "float32"

    def sum_of_squares(values):
        return sum(ops.cast(ops.sum(ops.square(x)), widest) for x in values)

    scaled = [x / unit for x in tensors]
    plain = sum_of_squares(scaled)
    shrunk = sum_of_squares(ops.where(ops.abs(x) > 1.0, x * _SHRINK, ops.zeros_like(x)) for x in scaled)
    return ops.where(ops.isinf(plain), ops.sqrt(shrunk) / _SHRINK, ops.sqrt(plain))


def norm_clip(tensors, limit: float):
    """What the tensors must be multiplied by for their common norm to be at most `limit`.

    NaN where the norm is not finite, so that a bad gradient shows in every weight and not in some.
    """
    ratio = global_norm(tensors, unit=limit)
    return 1.0 / ops.where(ratio > 1.0, ratio, ops.ones_like(ratio)) + 0.0 * ratio


def all_finite(tensors):
    """One boolean: no element of any tensor is infinite or NaN."""
    return ops.all(ops.stack([ops.all(ops.isfinite(x)) for x in tensors]))
