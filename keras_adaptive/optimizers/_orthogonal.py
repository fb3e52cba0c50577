"""Matrices made nearly orthogonal, as Muon and its relatives do. All functions take any number of leading axes."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

from keras import ops

from keras_adaptive.core import checks
from keras_adaptive.core.backends import running as backends
from keras_adaptive.optimizers._matrices import transposed

# Muon's polynomial, the same in every step: singular values in (0, 1] come near 1 in 5 steps.
QUINTIC = ((3.4445, -4.7750, 2.0315),)
# Amsel et al., "The Polar Express", 2025, arXiv:2505.16932, Algorithm 1. In all but the last, x is divided by MARGIN.
MARGIN = 1.01
_PUBLISHED = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
    (1.875, -1.25, 0.375),
)
POLAR_EXPRESS = tuple((a / MARGIN, b / MARGIN**3, c / MARGIN**5) for a, b, c in _PUBLISHED[:-1]) + _PUBLISHED[-1:]


# By name: the polynomial of each step, the last one for all that follow.
TABLES = {"quintic": QUINTIC, "polar_express": POLAR_EXPRESS}


def _polynomials(value):
    if isinstance(value, str):
        return value
    if not isinstance(value, Sequence) or not value or not all(isinstance(x, Sequence) and len(x) == 3 for x in value):
        raise TypeError
    return tuple(tuple(checks.real(number) for number in numbers) for numbers in value)


coefficients = checks.Check(
    '"quintic", "polar_express", or a list of (a, b, c), one for each step',
    _polynomials,
    lambda value: value in TABLES if isinstance(value, str) else all(map(math.isfinite, itertools.chain(*value))),
    Literal["quintic", "polar_express"] | Sequence[Sequence[float]],
)


def table(chosen: Any, steps: int) -> tuple[list, float]:
    """The polynomial of each step, the last one repeated, and the factor of the norm by which the matrix is divided."""
    found = TABLES[chosen] if isinstance(chosen, str) else chosen
    repeated = [*found, *([found[-1]] * steps)][:steps]
    return repeated, MARGIN if chosen == "polar_express" else 1.0


def step_scale(scale, rows, columns):
    """The factor of Muon's orthogonal matrix."""
    if scale == "moonlight":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(columns / rows) if scale == "spectral" else math.sqrt(max(1.0, columns / rows))


def newton_schulz(u, steps, chosen="quintic", dtype=None):
    """u with all singular values near 1, if they were not tiny beside the norm.

    Args:
        u: a matrix, or any number of matrices along leading axes.
        steps: number of polynomials.
        chosen: the `coefficients`.
        dtype: of the products; None for that of u.
    """
    if len(u.shape) == 2:
        return _newton_schulz(u, steps, chosen, dtype)
    matrices = ops.reshape(u, (math.prod(u.shape[:-2]), *u.shape[-2:]))
    return ops.reshape(backends.divided(lambda x: _newton_schulz(x, steps, chosen, dtype), matrices), u.shape)


def _newton_schulz(u, steps, chosen, dtype):
    polynomials, margin = table(chosen, steps)
    tall = u.shape[-2] > u.shape[-1]
    x = normalized(transposed(u) if tall else u, margin)
    x = x if dtype is None else ops.cast(x, dtype)
    for a, b, c in polynomials:
        gram = backends.matmul(x, transposed(x))
        x = a * x + backends.matmul(b * gram + c * backends.matmul(gram, gram), x)
    x = x if dtype is None else ops.cast(x, u.dtype)
    return transposed(x) if tall else x


def normalized(x, margin=1.0):
    """x / (margin norm + 1e-7) of every matrix, although squares may overflow.

    x is first divided by its largest element. `norm` is not used: its branch on a CPU would keep XLA from computing the
    products of several matrices at once.
    """
    if 0 in x.shape:
        return x
    largest = ops.max(ops.abs(x), axis=(-2, -1), keepdims=True)
    unit = ops.where(largest > 0.0, largest, ops.ones_like(largest))
    x = x / unit
    return x / (margin * ops.sqrt(ops.sum(ops.square(x), axis=(-2, -1), keepdims=True)) + 1e-7 / unit)
