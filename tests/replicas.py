"""One strategy over logical CPUs, and training loops that run on all of its replicas or on one device."""

import contextlib
import functools
import os

import keras
import numpy as np
import tensorflow as tf
from support import in_mode, values

COUNT = int(os.environ.get("KERAS_ADAPTIVE_REPLICAS", "2"))


@functools.cache
def strategy():
    """The strategy of this process. It is the only one, because two would mix up TensorFlow's collective operations."""
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * COUNT)
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(COUNT)])


def scope(replicated):
    return strategy().scope() if replicated else contextlib.nullcontext()


def per_replica(variable):
    """The value of a variable on each replica that has one."""
    variable = variable if isinstance(variable, tf.Variable) else variable.value
    return [copy.read_value().numpy().astype("float64") for copy in getattr(variable, "values", [variable])]


def assert_identical(*variables):
    """Every replica holds the same bits (NaN included)."""
    for variable in variables:
        first, *others = per_replica(variable)
        assert len(others) == COUNT - 1
        for other in others:
            np.testing.assert_array_equal(first, other, err_msg=variable.name)


class Loop:
    """A training loop of the user's own.

    Args:
        make: makes the optimizer.
        start: the first weights.
        replicated: on all replicas of the strategy, else on one device.
        gradients: function of the weights and of one share of the batch; the step is about the sum over all shares.
        mode: "graph" or "eager".
        dtype: of the weights.
    """

    def __init__(self, make, start, replicated, gradients, mode="graph", dtype="float32"):
        self.replicated, self.gradients = replicated, gradients
        with scope(replicated):
            self.weights = [keras.Variable(value, dtype=dtype, name=f"w{i}") for i, value in enumerate(start)]
            self.optimizer = make()
            self.optimizer.build(self.weights)
        self._step = in_mode(self._everywhere if replicated else self._alone, mode)

    def step(self, *shares):
        """One step; each argument holds one share of the batch per replica, along its first axis."""
        self._step(*[tf.convert_to_tensor(share) for share in shares])

    def _everywhere(self, *shares):
        def on_one(*shares):
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            thetas = [weight.value for weight in self.weights]
            self.optimizer.apply(self.gradients(thetas, *[share[replica] for share in shares]), self.weights)

        strategy().run(on_one, args=shares)

    def _alone(self, *shares):
        thetas = [weight.value for weight in self.weights]
        parts = [self.gradients(thetas, *[share[replica] for share in shares]) for replica in range(COUNT)]
        self.optimizer.apply([added(gradients) for gradients in zip(*parts, strict=True)], self.weights)

    @property
    def variables(self):
        return [*self.weights, *self.optimizer.variables]

    def ends(self):
        """The weights, and the averages that the optimizer keeps of them; after a look at every replica."""
        if self.replicated:
            assert_identical(*self.variables)
        averages = self.optimizer._model_variables_moving_average if self.optimizer.use_ema else []
        return values([*self.weights, *averages])


def added(gradients):
    """The sum of the shares' gradients in float32, dense."""
    if gradients[0] is None:
        return None
    return sum(tf.cast(tf.convert_to_tensor(gradient), tf.float32) for gradient in gradients)
