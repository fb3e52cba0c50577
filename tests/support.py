"""Shared by the tests: variables, a problem whose gradients depend on the weights, and ways to run a step."""

import itertools

import keras
import numpy as np
from keras import ops

from keras_adaptive import Group

# The ways to run a step that the backend has.
MODES = {"tensorflow": ("eager", "graph", "jit"), "jax": ("eager", "jit"), "torch": ("eager",)}[keras.backend.backend()]
NUMBERS = itertools.count()
SHAPES = [(), (1,), (3, 0), (7,), (4, 3), (2, 1, 3, 2, 2)]

# Ways to train, for tests of a full step in every mode. The group holds some of the variables of each.
OPTIONS = {
    "plain": {},
    "decay": {"weight_decay": 0.1, "loss_scale_factor": 64.0, "skip_nonfinite": True},
    "everything": {
        "groups": [Group("w1|bias", 0.5, weight_decay=keras.optimizers.schedules.ExponentialDecay(0.3, 1, 0.5))],
        "global_clipnorm": 0.5,
        "weight_decay": 0.1,
        "use_ema": True,
        "ema_momentum": 0.9,
        "ema_overwrite_frequency": 2,
        "gradient_accumulation_steps": 2,
        "skip_nonfinite": True,
    },
}


class Ramp(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that begins at zero, rises over 10 updates and falls again."""

    def __init__(self, peak):
        self.peak = peak

    def __call__(self, step):
        x = ops.cast(step, keras.config.floatx())
        return self.peak * ops.where(x <= 9.0, x / 10.0, 10.0 / (x + 1.0))

    def at(self, t):
        """The same number for the t-th update, from 1."""
        return self.peak * ((t - 1) / 10.0 if t <= 10 else 10.0 / t)

    def get_config(self):
        return {"peak": self.peak}


class Problem:
    """Random weights and a gradient that depends on them, on the step and on a scale.

    The slope rises with the weight, so a difference of rounding is not amplified from step to step.
    """

    def __init__(self, seed, scale=1.0, shapes=SHAPES, steps=100):
        rng = np.random.default_rng(seed)
        self.scale, self.steps = scale, steps
        self.start = [rng.normal(size=shape) for shape in shapes]
        self.phase = [rng.uniform(0, 6, size=shape) for shape in shapes]
        self.noise = [rng.normal(size=(steps + 1, *shape)) for shape in shapes]

    def gradient(self, index):
        """The gradient of one variable as a function of t and its value."""

        def gradient(t, theta):
            slope = 0.4 * np.sin(theta + self.phase[index]) + 0.5 * theta + 0.2 * self.noise[index][t]
            return np.asarray(self.scale * slope)

        return gradient

    def gradients(self, t, thetas):
        return [self.gradient(i)(t, theta) for i, theta in enumerate(thetas)]

    def variables(self, dtype):
        return [keras.Variable(value, dtype=dtype, name=f"w{i}") for i, value in enumerate(self.start)]

    def reference(self, run, eta, coupled=False, **arguments):
        """The last weights by a twin or an oracle."""
        if coupled:
            return run(self.start, self.gradients, eta, self.steps, **arguments)
        return [run(theta, self.gradient(i), eta, self.steps, **arguments) for i, theta in enumerate(self.start)]

    def run(self, optimizer, dtype):
        """The last weights by an optimizer, with gradients in the dtype of the weights."""
        variables = self.variables(dtype)
        for t in range(1, self.steps + 1):
            gradients = self.gradients(t, [value(v) for v in variables])
            optimizer.apply([ops.convert_to_tensor(g, dtype=dtype) for g in gradients], variables)
        return [value(v) for v in variables]


def a_weight(start, dtype=None):
    """A variable of no layer, by its name: for one without a name torch's users may have a wrapped module, so the
    optimizer would look at every object of the process for an owner."""
    return keras.Variable(start, dtype=dtype, name=f"theta_{next(NUMBERS)}")


def value(variable):
    """The variable's value in NumPy, float64 if it is a float."""
    array = ops.convert_to_numpy(variable)
    return array.astype("float64")


def values(variables):
    return [value(variable) for variable in variables]


def difference(left, right):
    """The largest difference between two lists of arrays, each in units of its largest element if that is above 1."""
    assert [np.shape(a) for a in left] == [np.shape(b) for b in right]
    gaps = [np.max(np.abs(a - b)) / max(1.0, np.max(np.abs(b))) for a, b in zip(left, right, strict=True) if np.size(a)]
    return float(np.max(gaps))


def state(optimizer):
    """Every variable of the optimizer, by path."""
    return {variable.path: value(variable) for variable in optimizer.variables}


def descend(optimizer, variables, first, last):
    """Steps number `first` to `last` - 1, with gradients that depend on the weights, the step and the shape alone."""
    # As `fit` runs it on JAX; called eagerly, every operation would be a separate program.
    on_jax = keras.backend.backend() == "jax"
    apply = compiled(optimizer, variables) if on_jax else lambda gradients: optimizer.apply(gradients, variables)
    for t in range(first, last):
        gradients = [0.3 * np.sin(3.0 * value(v) + t + np.size(v)) for v in variables]
        apply([ops.convert_to_tensor(g, dtype=v.dtype) for g, v in zip(gradients, variables, strict=True)])


def compiled(optimizer, variables):
    """`apply` to gradients of these variables, as one program where the backend compiles."""
    if not optimizer.built:
        optimizer.build(variables)
    if keras.backend.backend() == "torch":
        return lambda gradients: optimizer.apply(gradients, variables)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(lambda gradients: optimizer.apply(gradients, variables), jit_compile=True)
    import jax

    step = jax.jit(lambda *arguments: optimizer.stateless_apply(*arguments))

    def apply(gradients):
        weights, kept = step([v.value for v in optimizer.variables], gradients, [v.value for v in variables])
        for variable, new in zip([*variables, *optimizer.variables], [*weights, *kept], strict=True):
            variable.assign(new)

    return apply


def in_mode(step, mode):
    """A function without arguments as TensorFlow runs it: eager, as a graph, or compiled by XLA."""
    if mode == "eager":
        return step
    import tensorflow as tf

    return tf.function(step, jit_compile=mode == "jit")


def is_ours(cls):
    return cls.__module__.startswith("keras_adaptive.")
