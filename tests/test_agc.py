"""Adaptive gradient clipping, `agc=`."""

import keras
import numpy as np
import pytest
from keras import ops
from support import a_weight, value

from keras_adaptive import SGD, Group


def clipped(g, theta, limit, axes):
    """The equations of the paper in NumPy."""
    size, length = (np.sqrt(np.sum(x**2, axis=axes, keepdims=True)) for x in (theta, g))
    largest = limit * np.maximum(size, 1e-3)
    return np.where(length > largest, g * largest / np.maximum(length, 1e-6), g)


@pytest.mark.parametrize(
    ("shape", "group", "axes"),
    [
        ((5,), {}, (0,)),
        ((4, 3), {}, (0,)),
        ((3, 3, 2, 4), {}, (0, 1, 2)),
        ((2, 4, 3), {"role": "kernel", "inputs": (0,)}, (0,)),
        ((4, 3), {"role": "bias"}, (0, 1)),
        ((4, 3), {"role": "output", "inputs": (0,)}, None),
    ],
    ids=str,
)
def test_each_unit_is_clipped_by_its_own_norm(shape, group, axes):
    random = np.random.default_rng(1)
    theta, g = random.normal(size=shape), random.normal(size=shape)
    # Some units stay within their limit, and some have no weights yet.
    if axes is None or len(axes) < len(shape):
        theta[..., 0] *= 100.0
        theta[..., -1] = 0.0
    expected = theta - (g if axes is None else clipped(g, theta, 0.1, axes))
    variable = keras.Variable(theta, dtype="float64", name="w")
    groups = [Group("w", **group)] if group else None
    SGD(1.0, agc=0.1, groups=groups).apply([ops.convert_to_tensor(g)], [variable])
    np.testing.assert_allclose(value(variable), expected, rtol=1e-12)
    assert np.abs(expected - theta + g).max() > 0.1 or axes is None


def test_the_output_layer_is_not_clipped():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(2)])
    before = [value(v) for v in model.trainable_variables]
    gradients = [ops.ones(v.shape) for v in model.trainable_variables]
    SGD(1.0, agc=0.01).apply(gradients, model.trainable_variables)
    moved = [np.abs(value(v) - old).max() for v, old in zip(model.trainable_variables, before, strict=True)]
    assert moved[0] < 0.1
    np.testing.assert_allclose(moved[2], 1.0, rtol=1e-6)


def test_wrong_limits_are_refused_and_the_option_needs_all_rows():
    for wrong in (0.0, -1.0, "0.1"):
        with pytest.raises((ValueError, TypeError), match="`agc` must be"):
            SGD(agc=wrong)
    optimizer = SGD(agc=0.1, monitor=True)
    optimizer.apply([100.0 * ops.ones((4, 2))], [a_weight(np.ones((4, 2)))])
    assert optimizer.metrics["fraction_clipped"] == 1.0
    assert "agc" in optimizer.plan.states[0].why_all_rows
