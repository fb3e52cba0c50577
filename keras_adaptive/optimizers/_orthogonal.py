"""Matrices made nearly orthogonal, as Muon and its relatives do. All functions take any number of leading axes."""

import math

from keras import ops

from keras_adaptive.core.backends import running as backends
from keras_adaptive.optimizers._matrices import transposed

# Muon's quintic polynomial: singular values in (0, 1] come near 1 in 5 steps.
QUINTIC = (3.4445, -4.7750, 2.0315)


def step_scale(scale, rows, columns):
    """The factor of Muon's orthogonal matrix, for the scale "original" or "moonlight"."""
    if scale == "moonlight":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1.0, columns / rows))


def newton_schulz(u, steps):
    """u with all singular values near 1: the polynomial brings them into [0.68, 1.14], except for tiny ones.

    u is a matrix, or any number of matrices along leading axes.
    """
    if len(u.shape) == 2:
        return _newton_schulz(u, steps)
    matrices = ops.reshape(u, (math.prod(u.shape[:-2]), *u.shape[-2:]))
    return ops.reshape(backends.divided(lambda x: _newton_schulz(x, steps), matrices), u.shape)


def _newton_schulz(u, steps):
    a, b, c = QUINTIC
    tall = u.shape[-2] > u.shape[-1]
    x = normalized(transposed(u) if tall else u)
    for _ in range(steps):
        gram = backends.matmul(x, transposed(x))
        x = a * x + backends.matmul(b * gram + c * backends.matmul(gram, gram), x)
    return transposed(x) if tall else x


def normalized(x):
    """x / (norm + 1e-7) of every matrix, although squares may overflow.

    x is first divided by its largest element. `norm` is not used: its branch on a CPU would keep XLA from computing the
    products of several matrices at once.
    """
    if 0 in x.shape:
        return x
    largest = ops.max(ops.abs(x), axis=(-2, -1), keepdims=True)
    unit = ops.where(largest > 0.0, largest, ops.ones_like(largest))
    x = x / unit
    return x / (ops.sqrt(ops.sum(ops.square(x), axis=(-2, -1), keepdims=True)) + 1e-7 / unit)
