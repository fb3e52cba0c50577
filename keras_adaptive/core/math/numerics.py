"""The dtype of the arithmetic, and functions whose naive form loses precision or overflows."""

import math
from typing import Any, NamedTuple

import numpy as np
from keras import backend, ops

from keras_adaptive.core.backends import running as backends

# By dtype: the smallest and the largest sum of squares that needs no scaling, and how elements are scaled if the sum is
# larger or smaller. A scaling is a factor, a power of two, and a small number to add whose square is zero.
_SQUARES = {
    "float32": (2.0**-60, 2.0**120, (2.0**-80, 2.0**-120), (2.0**90, 2.0**-101)),
    "float64": (2.0**-600, 2.0**1000, (2.0**-600, 2.0**-800), (2.0**800, 2.0**-801)),
}


def compute_dtype(dtype: str) -> str:
    """float64 for float64 weights and float32 for all others, also for those with fewer bits."""
    return "float64" if backend.standardize_dtype(dtype) == "float64" else "float32"


def constant(number, dtype):
    """The number as a scalar tensor of the dtype, in full precision.

    Most of Keras's functions of two tensors round a Python number to float32 (`tensor * number` does not). On torch
    `ops.maximum` and `ops.minimum` even round tensors. So these are not used here.
    """
    if ops.is_tensor(number):
        return ops.cast(number, dtype)
    return ops.convert_to_tensor(np.asarray(number, backend.standardize_dtype(dtype)))


def sqrt_of(number):
    """The square root of a hyperparameter: a Python number (in full precision) or a scalar tensor."""
    return ops.sqrt(number) if ops.is_tensor(number) else math.sqrt(number)


def log_of(number):
    """The logarithm of a hyperparameter, as in `sqrt_of`; minus infinity for 0."""
    if ops.is_tensor(number):
        return ops.log(number)
    return math.log(number) if number else -math.inf


def positive_part(x):
    """max(x, 0), for a difference that rounding can make negative; NaN stays NaN."""
    return ops.relu(x)


def clip(x, limit):
    """x with every element clipped to [-limit, limit]."""
    limit = constant(limit, x.dtype)
    return ops.where(x > limit, limit, ops.where(x < -limit, -limit, x))


def maximum(x, y):
    """The larger of a tensor and another tensor or a number; NaN where one of them is NaN."""
    y = constant(y, backend.standardize_dtype(x.dtype)) if isinstance(y, int | float) else y
    return ops.where(x > y, x, ops.where(y >= x, y, x + y))


def minimum(x, y):
    """The smaller of a tensor and another tensor or a number; NaN where one of them is NaN."""
    return -maximum(-x, -y)


def sign(x):
    """1, 0 or -1; NaN for NaN, for which torch returns 0."""
    return ops.where(ops.isnan(x), x, ops.sign(x))


def power(x, exponent):
    """x to the power of the exponent; 0 to the power of 0 is 1."""
    return ops.power(x, constant(exponent, x.dtype))


def powers(base, exponents):
    """The base, from 0 to 1, to the power of each exponent; 0 to the power of 0 is 1."""
    if ops.is_tensor(base):
        # Minus infinity times 0 would be NaN.
        none = ops.equal(exponents, 0.0)
        return ops.where(none, ops.ones_like(exponents), ops.exp(exponents * ops.log(base)))
    if base == 0.0:
        return ops.cast(ops.equal(exponents, 0.0), exponents.dtype)
    return ops.exp(exponents * math.log(base))


def quotient(x, y):
    """x / y, and 0 where y is 0."""
    return ops.where(y != 0.0, x / ops.where(y != 0.0, y, ops.ones_like(y)), ops.zeros_like(y))


def mean(x, axis=None, keepdims=False):
    """The mean over one axis, several or (None) all; 0 of no elements. On torch Keras's mean is float32."""
    axes = tuple(range(len(x.shape))) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
    if not axes:
        return x
    return ops.sum(x, axis=axes, keepdims=keepdims) / max(1, math.prod(x.shape[place] for place in axes))


def sine(x):
    """sin(x) for x from 0 to pi / 2, by its series: on JAX Keras's sin is float32 even for float64."""
    series = ops.ones_like(x)
    for n in range(22, 0, -2):
        series = 1.0 - series * x * x / (n * (n + 1))
    return x * series


def debias(beta, t):
    """1 - beta^t as -expm1(t log beta), which loses no precision while beta^t is close to 1."""
    if ops.is_tensor(beta):
        # Minus infinity times 0 would be NaN.
        return ops.where(ops.equal(t, 0.0), ops.zeros_like(t), -ops.expm1(t * ops.log(beta)))
    if beta == 0.0:
        return ops.ones_like(t)
    return -ops.expm1(t * math.log(beta))


def norm(x, axis=None):
    """The Euclidean norm of all elements, a scalar, or along some axes, which stay with length 1; 0 of no elements.

    Squares do not overflow, and no square that matters underflows.
    """
    size, scale = _scaled_norm([x], axis)
    return size / scale


def rms(x, axis=None):
    """The root mean square, computed as in `norm`; it is right even if the norm overflows the dtype."""
    axes = range(len(x.shape)) if axis is None else (axis,) if isinstance(axis, int) else axis
    size, scale = _scaled_norm([x], axis)
    return size / math.sqrt(max(1, math.prod(x.shape[place] for place in axes))) / scale


def _scaled_norm(tensors, axis=None):
    """The common norm of tensors of one dtype times a power of two, and that power; neither overflows.

    If the sum of squares is so large that a square may have overflowed, or so small that one may have underflowed, the
    sum of squares of scaled elements is used. A small number is added to these, too small to matter. Without it XLA may
    turn (s x)(s x) into s s x x.
    """
    least, most, large, small = _SQUARES[backend.standardize_dtype(tensors[0].dtype)]

    def summed(change=lambda x: x):
        return sum(ops.sum(ops.square(change(x)), axis=axis, keepdims=axis is not None) for x in tensors)

    def scaled(scale, little):
        return ops.sqrt(summed(lambda x: x * scale + little)), scale * ops.ones_like(plain)

    plain = summed()
    unscaled = ops.sqrt(plain), ops.ones_like(plain)

    def of_any_size():
        choices = zip(scaled(*large), scaled(*small), unscaled, strict=True)
        return tuple(ops.where(plain > most, a, ops.where(plain < least, b, c)) for a, b, c in choices)

    usual = ops.logical_and(plain >= least, plain <= most)
    return backends.rarely(ops.logical_not(ops.all(usual)), of_any_size, unscaled)


# Clipping by a norm


class Clip(NamedTuple):
    """Scales tensors to a norm of at most a limit, by three numbers one after the other.

    A single factor could underflow, for example to scale 1e38 to 1. TensorFlow multiplies several factors with each
    other first, so a division separates them.
    """

    scale: Any
    size: Any
    limit: Any

    def __call__(self, x):
        scale, size, limit = (ops.cast(number, x.dtype) for number in self)
        return x * scale / size * limit


def norm_clip(tensors, limit: float) -> Clip:
    """Clips tensors to a common norm of at most `limit`, in the widest of their dtypes.

    The result is NaN if the norm is not finite, so that a bad gradient shows in all weights and not only in some.
    """
    of_dtype: dict = {}
    for x in tensors:
        of_dtype.setdefault(compute_dtype(x.dtype), []).append(x)
    parts = [_scaled_norm(of_one) for of_one in of_dtype.values()]
    if len(parts) > 1:
        norms = [ops.cast(size, "float64") / ops.cast(scale, "float64") for size, scale in parts]
        parts = [_scaled_norm([ops.stack(norms)])]
    ((size, scale),) = parts
    one = ops.ones_like(size)
    clips = size > limit * scale
    divisor = ops.where(clips, size, one) + 0.0 * size
    return Clip(ops.where(clips, scale, one), divisor, ops.where(clips, limit * one, one))


def all_finite(tensors):
    """One boolean: no element of any tensor is infinite or NaN."""
    return ops.all(ops.stack([ops.all(ops.isfinite(x)) for x in tensors]))
