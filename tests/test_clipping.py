"""Clipping on one device: norms of all finite gradients, and nonfinite gradients show in the weights."""

import numpy as np
import pytest
from cases import QUICKEST, each
from keras import ops
from support import a_weight, difference, values

KINDS = ("clipnorm", "global_clipnorm", "clipvalue")


def by_hand(gradients, kind, limit):
    """The clipped gradients, in float64."""
    if kind == "clipvalue":
        return [np.clip(g, -limit, limit) for g in gradients]
    groups = [gradients] if kind == "global_clipnorm" else [[g] for g in gradients]
    clipped = []
    for group in groups:
        norm = np.sqrt(sum(np.sum(np.square(g)) for g in group))
        clipped += [g * min(1.0, limit / norm) if norm else g for g in group]
    return clipped


def moved(case, gradients, dtype, kind=None, limit=None, by_optimizer=True):
    """The weights and the slots after two steps; the second's gradient is half the first's and turned around."""
    variables = [a_weight(np.ones(g.shape), dtype=dtype) for g in gradients]
    optimizer = case.make(learning_rate=0.1, **({kind: limit} if by_optimizer else {}))
    for sign in (1, -0.5):
        given = [sign * g for g in gradients]
        given = given if by_optimizer else by_hand(given, kind, limit)
        optimizer.apply([ops.convert_to_tensor(g, dtype=dtype) for g in given], variables)
    kept = [v for s in optimizer.plan.states for v in s.stored.values()]
    return values([*variables, *kept])


@each()
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limit", [1e-3, 1.0, 1e3] if QUICKEST else [1.0])
def test_clipping_matches_clipping_by_hand(case, kind, limit, float64):
    rng = np.random.default_rng(51)
    gradients = [rng.normal(size=shape) for shape in [(), (3, 0), (4, 3), (2, 1, 2)]]
    ours, expected = (moved(case, gradients, "float64", kind, limit, it) for it in (True, False))
    assert difference(ours, expected) <= 1e-12


@each()
@pytest.mark.parametrize("kind", ["clipnorm", "global_clipnorm"])
@pytest.mark.parametrize("size", [1e-30, 1e25, 1e37, 3e38])
def test_norms_of_gradients_whose_squares_overflow_or_underflow(case, kind, size):
    gradients = [np.array(size), np.full((5, 3), -size)]
    ours, expected = (moved(case, gradients, "float32", kind, 1.0, it) for it in (True, False))
    assert difference(ours, expected) <= 1e-6


@each()
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_nonfinite_gradient_shows_in_every_weight(case, bad):
    (first, second, *_) = moved(case, [np.array([1.0, bad]), np.array([1.0, 2.0])], "float32", "global_clipnorm", 1.0)
    assert np.all(np.isnan(first))
    assert np.all(np.isnan(second))
