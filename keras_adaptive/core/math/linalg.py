"""Functions of a full variable, or of its rows and columns: sizes, trust ratios, factored averages."""

from keras import backend, ops

from keras_adaptive.core.math.numerics import maximum, mean, rms
from keras_adaptive.core.state.slots import Slot

# Sizes


def largest(x, axis=None):
    """The largest element along the axes (default: all), which stay with length 1; 0 if there are no elements."""
    axes = range(len(x.shape)) if axis is None else (axis,) if isinstance(axis, int) else axis
    axes = [a % len(x.shape) for a in axes]
    if 0 in x.shape:
        return ops.zeros([1 if a in axes else n for a, n in enumerate(x.shape)], backend.standardize_dtype(x.dtype))
    return ops.max(x, axis=tuple(axes), keepdims=True) if axes else x


# Layer-wise adaptation


def trusted(u, size, length, phi=lambda size: size):
    """u phi(size) / length; u itself where size or length is 0. The ratio alone could overflow float32."""
    none = ops.logical_or(ops.equal(size, 0), ops.equal(length, 0))
    return ops.where(none, u, phi(size) * (u / ops.where(none, ops.ones_like(length), length)))


def rms_clip(u, limit: float):
    """u with a root mean square of at most the limit."""
    return u / maximum(rms(u) / limit, 1.0)


# Averages of rows and columns instead of the full matrix, over the two last axes


def factored(shape, least: int = 1) -> bool:
    """Whether a variable of this shape has rows and columns, and at least that many of each."""
    return len(shape) >= 2 and min(shape[-2:]) >= least


def factors(row: str, column: str, whole: str | None = None) -> tuple[Slot, ...]:
    """The slots of a factored average, by `about`'s "factored"; the last is for variables that are not factored."""
    slots = (
        Slot(row, shape=lambda shape, h: shape[:-1] if h.variable.factored else None, nonnegative=True),
        Slot(column, shape=lambda shape, h: shape[:-2] + shape[-1:] if h.variable.factored else None, nonnegative=True),
    )
    if whole is None:
        return slots
    return (*slots, Slot(whole, shape=lambda shape, h: None if h.variable.factored else shape, nonnegative=True))


def factored_root(x, beta, R, C):
    """The root of the factored moving average of x, and the averages of its rows and of its columns."""
    R = beta * R + (1 - beta) * mean(x, axis=-1)
    C = beta * C + (1 - beta) * mean(x, axis=-2)
    # A product of roots. Where a row and a column are all zeros, the average itself would be too small for float32.
    of_rows = ops.sqrt(R) / ops.sqrt(mean(R, axis=-1, keepdims=True))
    return ops.expand_dims(of_rows, -1) * ops.expand_dims(ops.sqrt(C), -2), R, C
