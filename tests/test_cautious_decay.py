"""Cautious weight decay, `weight_decay_mode="cautious"`."""

import numpy as np
import pytest
from keras import ops
from support import a_weight, value

from keras_adaptive import Adam, Lamb


def test_decay_applies_only_where_the_step_moves_towards_zero():
    """Also those whose step is exactly 0, as in the paper."""
    theta, g = np.array([1.0, -2.0, 3.0, -4.0, 5.0]), np.array([0.5, 0.5, -1.0, -1.0, 0.0])
    plain, cautious = (a_weight(theta, dtype="float64") for _ in range(2))
    options = {"weight_decay": 0.1, "weight_decay_mode": "cautious"}
    for given, variable in (({}, plain), (options, cautious)):
        Adam(0.5, **given).apply([ops.convert_to_tensor(g)], [variable])
    delta = theta - value(plain)
    mask = delta * theta >= 0.0
    assert list(mask) == [True, False, False, True, True]
    np.testing.assert_allclose(value(cautious), theta - delta - 0.5 * 0.1 * mask * theta, rtol=1e-12)


def test_an_algorithm_with_decay_in_its_rule_refuses_cautious_decay():
    with pytest.raises(ValueError, match="`weight_decay_mode` must be 'decoupled' for Lamb"):
        Lamb(weight_decay_mode="cautious")
