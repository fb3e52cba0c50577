"""In which dtype the arithmetic is done, and the few functions whose naive form loses digits or overflows."""

import math

import numpy as np
from keras import backend, ops

from keras_adaptive.core import backends

# By dtype, the least and the largest sum of squares that is right as it is, and how elements are scaled if it is larger
# or smaller: a power of two, and a little that has no square.
_SQUARES = {
    "float32": (2.0**-60, 2.0**120, (2.0**-80, 2.0**-120), (2.0**90, 2.0**-101)),
    "float64": (2.0**-600, 2.0**1000, (2.0**-600, 2.0**-800), (2.0**800, 2.0**-801)),
}


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
    """The larger of a tensor and another, or a number; NaN where one of them is."""
    y = constant(y, backend.standardize_dtype(x.dtype)) if isinstance(y, int | float) else y
    return ops.where(x > y, x, ops.where(y >= x, y, x + y))


def minimum(x, y):
    """The smaller of a tensor and another, or a number; NaN where one of them is."""
    return -maximum(-x, -y)


def sign(x):
    """1, 0 or -1; NaN for NaN, of which torch says 0."""
    return ops.where(ops.isnan(x), x, ops.sign(x))


def power(x, exponent: float):
    """x to that power; 0 to the power of 0 is 1."""
    return ops.power(x, constant(exponent, x.dtype))


def powers(base: float, exponents):
    """The number, from 0 to 1, to each of these powers; 0 to the power of 0 is 1."""
    if base == 0.0:
        return ops.cast(ops.equal(exponents, 0.0), exponents.dtype)
    return ops.exp(exponents * math.log(base))


def quotient(x, y):
    """x / y, and 0 where y is 0."""
    return ops.where(y != 0.0, x / ops.where(y != 0.0, y, ops.ones_like(y)), ops.zeros_like(y))


def mean(x, axis=None, keepdims=False):
    """The mean over one axis, some or (None) all; 0 where there is nothing to average. On torch Keras's is float32."""
    axes = tuple(range(len(x.shape))) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
    if not axes:
        return x
    return ops.sum(x, axis=axes, keepdims=keepdims) / max(1, math.prod(x.shape[place] for place in axes))


def sine(x):
    """sin(x) for x from 0 to pi / 2, by its series: on JAX that of Keras is float32 even for float64."""
    series = ops.ones_like(x)
    for n in range(22, 0, -2):
        series = 1.0 - series * x * x / (n * (n + 1))
    return x * series


def debias(beta: float, t):
    """1 - beta^t as -expm1(t log beta), which keeps all digits while beta^t is close to 1."""
    if beta == 0.0:
        return ops.ones_like(t)
    return -ops.expm1(t * math.log(beta))


def norm(x, axis=None):
    """The Euclidean norm of all elements, a scalar, or along one axis or some, which are kept; 0 where there are none.

    No square overflows, and none vanishes that counts.
    """
    return _common_norm([x], axis=axis)


def rms(x, axis=None):
    """The root of the mean square, as `norm`."""
    axes = range(len(x.shape)) if axis is None else (axis,) if isinstance(axis, int) else axis
    return norm(x, axis) / math.sqrt(max(1, math.prod(x.shape[place] for place in axes)))


def global_norm(tensors, unit: float):
    """The Euclidean norm of all tensors together, in multiples of `unit`, in the widest of their dtypes."""
    of_dtype: dict = {}
    for x in tensors:
        of_dtype.setdefault(compute_dtype(x.dtype), []).append(x)
    parts = [_common_norm(of_one, unit) for of_one in of_dtype.values()]
    return parts[0] if len(parts) == 1 else norm(ops.stack([ops.cast(part, "float64") for part in parts]))


def _common_norm(tensors, unit=1.0, axis=None):
    """That of tensors of one dtype.

    Where the sum of the squares is so large that one may have overflowed, or so small that one that counts may have
    vanished, there are the sums of scaled elements. What is added to these is too little to change one that counts;
    without it XLA may turn (s x)(s x) into s s x x.
    """
    least, most, large, small = _SQUARES[backend.standardize_dtype(tensors[0].dtype)]

    def summed(change=lambda x: x):
        return sum(ops.sum(ops.square(change(x)), axis=axis, keepdims=axis is not None) for x in tensors)

    def root(squares, scale=1.0):
        return ops.sqrt(squares) / unit / scale

    def scaled(scale, little):
        return root(summed(lambda x: x * scale + little), scale)

    plain = summed()

    def of_any_size():
        return ops.where(plain > most, scaled(*large), ops.where(plain < least, scaled(*small), root(plain)))

    usual = ops.logical_and(plain >= least, plain <= most)
    return backends.rarely(ops.logical_not(ops.all(usual)), of_any_size, root(plain))


def norm_clip(tensors, limit: float):
    """What the tensors must be multiplied by for their common norm to be at most `limit`.

    NaN where the norm is not finite, so that a bad gradient shows in every weight and not in some.
    """
    ratio = global_norm(tensors, unit=limit)
    return 1.0 / ops.where(ratio > 1.0, ratio, ops.ones_like(ratio)) + 0.0 * ratio


def all_finite(tensors):
    """One boolean: no element of any tensor is infinite or NaN."""
    return ops.all(ops.stack([ops.all(ops.isfinite(x)) for x in tensors]))
