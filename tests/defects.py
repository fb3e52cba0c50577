"""The defects of Keras's optimizers that are fixed here, each measured for Keras's class and for ours.

python tests/defects.py            prints the table of the README, on TensorFlow, with two logical CPUs
"""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import worlds

os.environ.update(worlds.environment("mirrored"))

import defects_of_rules as of_rules
import defects_of_state as of_state
import keras
import numpy as np
import tensorflow as tf
from support import Ramp, difference, is_ours, value, values

import keras_adaptive
from keras_adaptive.core import tables


@dataclass(frozen=True)
class Defect:
    """One row of the table.

    Args:
        what: what the figure is of.
        measure: the figure of a class, a number or a word; the name of what it raises stands for it too.
        name: of the class, in both libraries.
    """

    what: str
    measure: Callable[[Any], float | str]
    name: str = "Adam"

    def row(self):
        return [
            self.what,
            *(cell(self.measure, getattr(library, self.name)) for library in (keras.optimizers, keras_adaptive)),
        ]


def cell(measure, cls):
    try:
        figure = measure(cls)
    except (RuntimeError, TypeError, ValueError) as error:
        return type(error).__name__
    return figure if isinstance(figure, str) else printed(figure)


def printed(number):
    """Two significant digits, so that the figure is the same on every machine; what is below 1e-6 is rounding."""
    if isinstance(number, int):
        return str(number)
    return "<1e-6" if number < 1e-6 else f"{number:#.2g}"


def float32(start):
    """A variable; Keras takes its dtype from NumPy otherwise."""
    return keras.Variable(start, dtype="float32")


def moved(cls, gradients, start=1.0, dtype="float32", learning_rate=0.1, **options):
    """How far a weight goes with these gradients."""
    weight = keras.Variable([start], dtype=dtype)
    optimizer = cls(learning_rate=learning_rate, **options)
    for gradient in gradients:
        optimizer.apply([tf.constant([gradient], dtype)], [weight])
    return float(abs(value(weight)[0] - start))


# Sparse gradients


def repeated_rows(cls):
    """An embedding against the same model with one-hot inputs."""
    rng = np.random.default_rng(1)
    start, head, batches = rng.normal(size=(7, 3)), rng.normal(size=(3, 1)), rng.integers(0, 3, size=(5, 8))
    ends = []
    for one_hot in (False, True):
        table, optimizer = float32(start), cls(learning_rate=0.1)
        for ids in batches:
            with tf.GradientTape() as tape:
                rows = tf.one_hot(ids, 7) @ table.value if one_hot else tf.nn.embedding_lookup(table.value, ids)
                loss = tf.reduce_mean(tf.square(tf.tanh(rows) @ tf.constant(head, "float32") - 1.0))
            optimizer.apply(tape.gradient(loss, [table.value]), [table])
        ends.append(values([table]))
    return difference(*ends)


def row_seen_16_times(cls):
    table = keras.Variable([[1.0], [1.0]])
    rows = tf.IndexedSlices(tf.ones((16, 1)), tf.zeros(16, tf.int32), tf.constant((2, 1)))
    cls(learning_rate=0.1).apply([rows], [table])
    return (1.0 - value(table)[0, 0]) / 0.1


def scaled_rows(cls):
    """A loss scale of 8 on a sparse gradient against the plain dense one."""
    ends = []
    for factor, gradient in (
        (8.0, tf.IndexedSlices(8.0 * tf.ones((1, 1)), tf.constant([0]), tf.constant((2, 1)))),
        (None, tf.constant([[1.0], [0.0]])),
    ):
        table = keras.Variable([[1.0], [1.0]])
        cls(learning_rate=0.1, loss_scale_factor=factor).apply([gradient], [table])
        ends.append(values([table]))
    return difference(*ends)


# Low precision, extreme numbers


def bfloat16_weight(cls):
    return moved(cls, [1.0] * 20, dtype="bfloat16", learning_rate=1 / 64)


def small_steps(cls):
    options = {"stochastic_rounding": True} if is_ours(cls) else {}
    return 1.0 + moved(cls, [-1.0] * 1000, dtype="bfloat16", learning_rate=1e-3, **options)


def bfloat16_average(cls):
    """The weight goes from 1 to 20, so the average leaves 1."""
    weight = keras.Variable([0.0], dtype="bfloat16")
    optimizer = cls(learning_rate=1.0, use_ema=True, ema_momentum=0.999)
    for _ in range(20):
        optimizer.apply([tf.constant([-1.0], "bfloat16")], [weight])
    (average,) = values(optimizer._model_variables_moving_average)
    return float(average[0] - 1.0)


def centered_nan(cls):
    """With constant gradients the variance that it divides by is zero except for rounding."""
    gradients = np.random.default_rng(2).uniform(1, 100, size=1000)
    weight, optimizer = float32(np.zeros(1000)), cls(centered=True)
    for _ in range(200):
        optimizer.apply([tf.constant(gradients, "float32")], [weight])
    return int(np.sum(np.isnan(value(weight))))


# Counting


def micro_batches(cls):
    """Four micro-batches against one batch, 10 updates under a schedule."""
    gradients, ends = np.random.default_rng(3).normal(size=(10, 4, 5)), []
    for steps in (4, None):
        weight = float32(np.zeros(5))
        optimizer = cls(learning_rate=Ramp(0.1), gradient_accumulation_steps=steps)
        for window in gradients:
            for gradient in window if steps else [window.mean(axis=0)]:
                optimizer.apply([tf.constant(gradient, "float32")], [weight])
        ends.append(values([weight]))
    return difference(*ends)


def operations(cls):
    """Those in the graph of an update of 20 variables that read or make something of a variable's size."""
    shape = (4, 3)
    weights, optimizer = [float32(np.zeros(shape)) for _ in range(20)], cls()
    optimizer.build(weights)
    update = tf.function(lambda gradients: optimizer.apply(gradients, weights), autograph=False)
    graph = update.get_concrete_function([tf.zeros(shape)] * 20).graph
    return sum(
        any(tensor.shape == shape for tensor in [*operation.inputs, *operation.outputs])
        for operation in graph.get_operations()
        if operation.type not in ("Placeholder", "Identity", "ReadVariableOp")
    )


# Two replicas


@functools.cache
def two_replicas():
    """A second strategy in one process would get the first one's messages."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def on_replicas(cls, gradients, wrapped=lambda cls, **options: cls(**options), **options):
    """The weights after steps whose gradients are given replica by replica."""
    strategy = two_replicas()
    with strategy.scope():
        weight = float32(np.linspace(-1.0, 1.0, gradients.shape[-1]))
        optimizer = wrapped(cls, learning_rate=0.1, **options)
        optimizer.build([weight])

        @tf.function
        def step(of_all):
            mine = of_all[tf.distribute.get_replica_context().replica_id_in_sync_group]
            optimizer.apply([mine], [weight])

        for of_all in gradients:
            strategy.run(step, args=(tf.constant(of_all, "float32"),))
    return value(weight)


def two_against_one(**options):
    def measure(cls):
        gradients = np.random.default_rng(4).normal(size=(6, 2, 5))
        sums = gradients.sum(axis=1, keepdims=True)
        alone = float32(np.linspace(-1.0, 1.0, 5))
        optimizer = cls(learning_rate=0.1, **options)
        for (gradient,) in sums:
            optimizer.apply([tf.constant(gradient, "float32")], [alone])
        return difference([on_replicas(cls, gradients, **options)], values([alone]))

    return measure


def infinity_on_one_replica(cls):
    """How many weights of five stay finite."""
    gradients = np.ones((1, 2, 5))
    gradients[0, 1] = np.inf
    if is_ours(cls):
        after = on_replicas(cls, gradients, skip_nonfinite=True)
    else:
        after = on_replicas(
            cls, gradients, wrapped=lambda cls, **options: keras.optimizers.LossScaleOptimizer(cls(**options))
        )
    return int(np.sum(np.isfinite(after)))


# Arguments


def accepts(**arguments):
    def measure(cls):
        cls(**arguments)
        return "accepted"

    return measure


EMBEDDING = "{} and an embedding whose ids repeat: difference from one-hot inputs after 5 steps"
REPLICAS = "Adam with `{}` on 2 replicas: difference from one device after 6 steps"

DEFECTS = [
    *(Defect(EMBEDDING.format(name), repeated_rows, name) for name in ("Adam", "RMSprop", "Adagrad")),
    Defect("Adam's first step of a row that occurs 16 times, in learning rates (paper: 1)", row_seen_16_times),
    Defect("Adam with `loss_scale_factor=8` and a sparse gradient: difference from a dense one", scaled_rows),
    Defect("How far 20 steps of Adam move a bfloat16 weight (float32: 0.31)", bfloat16_weight),
    Defect(
        "Where 1000 steps of 0.001 bring a bfloat16 weight of 1 (float32: 2.0; `stochastic_rounding`)",
        small_steps,
        "SGD",
    ),
    Defect("How far the moving average of a bfloat16 weight moves (float32: 0.19)", bfloat16_average, "SGD"),
    Defect("Weights of 1000 that are NaN after 200 constant gradients, centered RMSprop", centered_nan, "RMSprop"),
    *(
        Defect(REPLICAS.format(f"{kind}={limit}"), two_against_one(**{kind: limit}))
        for kind, limit in (("clipnorm", 1.0), ("global_clipnorm", 1.0), ("clipvalue", 0.5))
    ),
    Defect(REPLICAS.format("gradient_accumulation_steps=2"), two_against_one(gradient_accumulation_steps=2)),
    Defect(REPLICAS.format("ema_overwrite_frequency=2"), two_against_one(use_ema=True, ema_overwrite_frequency=2)),
    Defect(
        "Weights of 5 that are finite after an infinity on one replica (`LossScaleOptimizer`, `skip_nonfinite`)",
        infinity_on_one_replica,
    ),
    Defect("Adam with 4 micro-batches under a schedule: difference from one batch after 10 updates", micro_batches),
    Defect(
        "Adam's first step at a gradient of 1e-6, in learning rates (paper: 0.99)",
        lambda cls: moved(cls, [1e-6]) / 0.1,
    ),
    Defect(
        "AdaGrad's first step at a gradient of 0.01, in learning rates (paper: 1)",
        lambda cls: moved(cls, [0.01]) / 0.1,
        "Adagrad",
    ),
    Defect(
        "Adam's first step at a gradient of 1e25 with `clipnorm=1`, in learning rates (paper: 1)",
        lambda cls: moved(cls, [1e25], clipnorm=1.0) / 0.1,
    ),
    Defect(
        "Weights of 12 that are NaN after a first step of Adafactor, where a row and a column of the gradient are zero",
        of_rules.switched_off_nan,
        "Adafactor",
    ),
    Defect(
        "ScheduleFreeAdamW on TensorFlow and torch (Keras on JAX: <1e-6): difference from its equations after 4 steps",
        of_rules.schedule_free(),
        "ScheduleFreeAdamW",
    ),
    Defect(
        "ScheduleFreeAdamW with `warmup_steps=4` (Keras on JAX: 0.058): difference from its equations after 4 steps",
        of_rules.schedule_free(warmup_steps=4),
        "ScheduleFreeAdamW",
    ),
    Defect(
        "How far decay moves a weight of 1 in the first step of ScheduleFreeAdamW (decay: 0.050)",
        of_rules.schedule_free_decay,
        "ScheduleFreeAdamW",
    ),
    Defect("How far decay moves a weight of 1 that is excluded as `bias$` (decay: 0.050)", of_state.bias_by_its_end),
    Defect(
        "How far decay moves an excluded weight of 1 after save and load (decay: 0.050)", of_state.reloaded_exclusion
    ),
    Defect(
        "How far decay moves a weight of 1 that is excluded after a step was traced (decay: 0.050)",
        of_state.excluded_after_a_traced_step,
    ),
    Defect(
        "Another learning rate for `net/.*kernel` (`MultiOptimizer`, `groups`), saved, loaded and trained on: "
        "difference from never stopped",
        of_state.reloaded_groups,
    ),
    Defect("A pattern of theirs that matches nothing", of_state.pattern_without_a_match),
    Defect(
        "Adam's state loaded after a layer was unfrozen, 3 steps on: difference from never stopped",
        of_state.unfrozen_and_loaded,
    ),
    Defect("A layer unfrozen, and trained on with the same optimizer (`extend`)", of_state.unfrozen_and_trained_on),
    Defect("`set_weights` with one array too few", of_state.truncated_weights),
    Defect("A saved state that lacks an array", of_state.truncated_file),
    Defect("Operations on whole variables in the graph of a step of Adam, 20 variables", operations),
    Defect("`Adam(learning_rate=1)`", accepts(learning_rate=1)),
    Defect("`Adam(learning_rate=np.float32(0.001))`", accepts(learning_rate=np.float32(0.001))),
    Defect("`SGD(momentum=0)`", accepts(momentum=0), "SGD"),
    Defect("`Adam(beta_2=1.5)`, which is wrong", accepts(beta_2=1.5)),
]


def main():
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    for line in tables.markdown(("", f"Keras {keras.__version__}", "keras_adaptive"), ()):
        print(line)
    for defect in DEFECTS:
        print(tables.markdown_line(defect.row()), flush=True)


if __name__ == "__main__":
    main()
