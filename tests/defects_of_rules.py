"""Measures for tests/defects.py: steps of Keras's classes that are not the algorithm's. They run on every backend."""

import keras
import numpy as np
from keras import ops
from reference import twins
from support import difference, value, values

# An input and a unit that a ReLU switched off have gradients of zero: a row and a column.
SWITCHED_OFF = np.sin(np.arange(12.0)).reshape(4, 3)
SWITCHED_OFF[1], SWITCHED_OFF[:, 2] = 0.0, 0.0


def trained(cls, start, gradient, steps, learning_rate=0.1, **arguments):
    """The float32 weights after equal gradients."""
    weights = keras.Variable(start, dtype="float32", name="theta")
    optimizer = cls(learning_rate=learning_rate, **arguments)
    for _ in range(steps):
        optimizer.apply([ops.convert_to_tensor(gradient, "float32")], [weights])
    return weights


def difference_from_twin(cls, twin, start, gradient, steps, **arguments):
    """How far the weights are from those of a float64 twin."""
    expected = twin(start, lambda t, theta: gradient, lambda t: 0.1, steps, **arguments)
    return difference(values([trained(cls, start, gradient, steps, **arguments)]), [expected])


def switched_off_nan(cls):
    return int(np.sum(np.isnan(value(trained(cls, np.ones((4, 3)), SWITCHED_OFF, 1)))))


def schedule_free(**arguments):
    """The trained weight y after four gradients of 1."""

    def measure(cls):
        return difference_from_twin(cls, twins.schedule_free_adamw, np.float64(1.0), np.float64(1.0), 4, **arguments)

    return measure


def schedule_free_decay(cls):
    """How far decay alone moves a weight of 1 in a first step."""
    return float(1.0 - value(trained(cls, 1.0, 0.0, 1, weight_decay=0.5)))
