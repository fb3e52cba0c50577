"""One strategy, and training that runs on all of its replicas or on one device."""

import contextlib
import os

import keras
import numpy as np
import tensorflow as tf
from support import Ramp, difference, in_mode, values

COUNT = int(os.environ.get("KERAS_ADAPTIVE_REPLICAS", "2"))


_used: dict = {}


def use(strategy, call=None):
    """The strategy of this process. It is the only one, because two would mix up TensorFlow's collective operations.

    Args:
        strategy: the strategy.
        call: how a step is called, if not directly: `call(function, arguments)`.
    """
    _used.update(strategy=strategy, call=call or (lambda function, arguments: function(*arguments)))


def strategy():
    """The strategy of this process; by default one over logical CPUs."""
    if not _used:
        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * COUNT)
        use(tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(COUNT)]))
    return _used["strategy"]


def scope(replicated):
    return strategy().scope() if replicated else contextlib.nullcontext()


def per_replica(variable):
    """The value of a variable on each replica that has one."""
    variable = variable if isinstance(variable, tf.Variable) else variable.value
    return [copy.read_value().numpy().astype("float64") for copy in getattr(variable, "values", [variable])]


def assert_identical(*variables):
    """Every replica of this process holds the same bits (NaN included)."""
    for variable in variables:
        first, *others = per_replica(variable)
        assert len(others) == len(strategy().extended.worker_devices) - 1
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
        shares = [tf.convert_to_tensor(share) for share in shares]
        if self.replicated:
            _used["call"](self._step, shares)
        else:
            self._step(*shares)

    def _everywhere(self, *shares):
        strategy().run(self.on_one, args=shares)

    def on_one(self, *shares):
        """What each replica does."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        thetas = [weight.value for weight in self.weights]
        self.optimizer.apply(self.gradients(thetas, *[share[replica] for share in shares]), self.weights)

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


def noisy(thetas, *noise):
    """Each share's part of a gradient that depends on the weights."""
    return [
        tf.cast((0.4 * tf.sin(theta) + 0.5 * theta) / COUNT, theta.dtype) + tf.cast(x, theta.dtype)
        for theta, x in zip(thetas, noise, strict=True)
    ]


def noisy_loop(case, options, replicated, mode="graph", dtype="float32", steps=7):
    """A loop of some steps on random shares, done."""
    rng = np.random.default_rng(81)
    shapes = [(), (4, 3)]
    start = [rng.normal(size=shape) for shape in shapes]
    noise = [rng.normal(size=(steps, COUNT, *shape)).astype("float32") for shape in shapes]
    scale = options.get("loss_scale_factor", 1.0)

    def scaled(thetas, *noise):
        return [scale * gradient for gradient in noisy(thetas, *noise)]

    loop = Loop(lambda: case.make(Ramp(0.2), **options), start, replicated, scaled, mode, dtype)
    for step in range(steps):
        loop.step(*[x[step] for x in noise])
    assert loop.optimizer.iterations.numpy() == steps // options.get("gradient_accumulation_steps", 1)
    assert difference(values(loop.weights), start) > 1e-3
    return loop


def spoilt_loop(case, replicated, dtype="bfloat16", **options):
    """Eight steps, of which in the fourth the last share is infinite, done; in bfloat16 with stochastic rounding.

    The gradients are multiples of 1/64, so their sum is exact in any order.
    """
    rng = np.random.default_rng(86)
    start = [rng.normal(size=(3, 4))]
    shares = rng.integers(-64, 65, size=(8, COUNT, 3, 4)).astype("float32") / 64
    shares[3, -1, 0, 0] = np.inf

    def gradients(thetas, own):
        return [loop.optimizer.scale_loss(own)]

    options = {"slot_dtype": dtype, "stochastic_rounding": True, "seed": 5, "skip_nonfinite": True, **options}
    loop = Loop(lambda: case.make(**options), start, replicated, gradients, dtype=dtype)
    for of_all in shares:
        loop.step(of_all)
    assert loop.optimizer.skipped_updates.numpy() == 1
    assert loop.optimizer.iterations.numpy() == 7 // options.get("gradient_accumulation_steps", 1)
    assert difference(values(loop.weights), start) > 1e-2
    return loop


# Through model.fit.

RNG = np.random.default_rng(84)
X, Y = RNG.normal(size=(20, 3)).astype("float32"), RNG.normal(size=(20, 1)).astype("float32")


def model_with(make, replicated=True, layers=None):
    """A model that begins alike wherever it is made."""
    with scope(replicated):
        keras.utils.set_random_seed(85)
        layers = layers() if layers else [keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(1)]
        model = keras.Sequential([keras.Input((3,)), *layers])
        model.compile(optimizer=make(), loss="mse")
    return model


def fitted(make, replicated=True, layers=None, **arguments):
    """In batches of eight; the last one has four rows."""
    model = model_with(make, replicated, layers)
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)
    model.fit(data, epochs=2, shuffle=False, verbose=0, **arguments)
    if replicated:
        assert_identical(*model.trainable_variables, *model.optimizer.variables)
    return model
