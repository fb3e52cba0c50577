"""Eight bits with a scale for each row, in NumPy float64: the tables of what every code stands for."""

import numpy as np

_POSITIVE = (np.arange(4, 131) / 130) ** 4
SIGNED = np.concatenate([-_POSITIVE[::-1], [0.0], _POSITIVE])
NONNEGATIVE = np.concatenate([[0.0], (np.arange(8, 263) / 262) ** 8])


def decoded(codes, scales, nonnegative):
    table = NONNEGATIVE if nonnegative else SIGNED
    with np.errstate(invalid="ignore"):
        return table[np.asarray(codes, int) + (0 if nonnegative else 127)] * scales


def neighbours(x, scales, nonnegative):
    """Of each element, with finite scales, the two values between which it is rounded; the same where there is one."""
    table = NONNEGATIVE if nonnegative else SIGNED
    units = np.divide(x, scales, out=np.zeros_like(x), where=scales > 0)
    above = np.searchsorted(table, units, side="left")
    below = np.searchsorted(table, units, side="right") - 1
    lower, upper = table[np.maximum(below, 0)], table[np.minimum(above, len(table) - 1)]
    if nonnegative:
        lower = np.where(units > 0, np.maximum(lower, table[1]), lower)
    return lower * scales, upper * scales
