"""Gradient centralization, `centralize=`."""

import keras
import numpy as np
import pytest
from keras import ops
from support import a_weight, value

from keras_adaptive import SGD, Group


@pytest.mark.parametrize(
    ("shape", "group", "axes"),
    [
        ((5,), {}, None),
        ((4, 3), {}, (0,)),
        ((3, 3, 2, 4), {}, (0, 1, 2)),
        ((2, 4, 3), {"role": "kernel", "inputs": (2,), "outputs": (0, 1)}, (2,)),
        ((4, 3), {"role": "bias"}, None),
        ((4, 3), {"role": "embedding"}, None),
    ],
    ids=str,
)
def test_the_mean_of_the_gradient_of_each_output_is_removed(shape, group, axes):
    random = np.random.default_rng(2)
    theta, g = random.normal(size=shape), random.normal(size=shape) + 1.0
    variable = keras.Variable(theta, dtype="float64", name="w")
    groups = [Group("w", **group)] if group else None
    SGD(1.0, centralize=True, groups=groups).apply([ops.convert_to_tensor(g)], [variable])
    centralized = g if axes is None else g - g.mean(axis=axes, keepdims=True)
    np.testing.assert_allclose(value(variable), theta - centralized, rtol=1e-12, atol=1e-14)


def test_the_penalty_of_coupled_decay_is_centralized_too():
    theta, g = np.array([[1.0, 2.0], [5.0, 3.0]]), np.array([[0.5, 0.0], [0.25, 1.0]])
    variable = a_weight(theta, dtype="float64")
    SGD(1.0, centralize=True, weight_decay=0.1, weight_decay_mode="coupled").apply(
        [ops.convert_to_tensor(g)], [variable]
    )
    penalized = g + 0.1 * theta
    np.testing.assert_allclose(value(variable), theta - (penalized - penalized.mean(axis=0)), rtol=1e-12)
