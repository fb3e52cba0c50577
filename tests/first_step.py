"""The memory that the first training step takes, measured in a separate process.

    python first_step.py ENTRY NAME            ENTRY: one of `ENTRIES`; NAME: of a class of keras_adaptive

prints how far the memory of the process rose above what it was before the step, in multiples of the weights' bytes.
"""

import sys
from pathlib import Path

import keras
import numpy as np

import keras_adaptive

WIDTH = 2500
X, Y = np.ones((2, WIDTH), "float32"), np.ones((2, 1), "float32")


def memory(field):
    """Bytes by the name that Linux has for them: VmRSS is now, VmHWM the highest so far."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0]) * 1024


def model(layers=2):
    return keras.Sequential([keras.Input((WIDTH,)), *[keras.layers.Dense(WIDTH) for _ in range(layers)]])


def compiled(optimizer):
    made = model()
    made.compile(optimizer, "mse")
    return made


def fit(make):
    made = compiled(make())
    return lambda: made.train_on_batch(X, Y)


def load(make):
    """A state waits until the first step builds the optimizer."""
    before, made = compiled(make()), compiled(make())
    before.train_on_batch(X, Y)
    made.optimizer.set_state(before.optimizer.get_state())
    return lambda: made.train_on_batch(X, Y)


def extend(make):
    made = model()
    made.layers[0].trainable = False
    made.compile(make(), "mse")
    made.train_on_batch(X, Y)

    def unfrozen():
        made.layers[0].trainable = True
        made.optimizer.extend(made.trainable_variables)
        made.compile(made.optimizer, "mse")
        made.train_on_batch(X, Y)

    return unfrozen


def function(make):
    import tensorflow as tf

    made, optimizer = model(), make()

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(made(x) ** 2)
        optimizer.apply(tape.gradient(loss, made.trainable_variables), made.trainable_variables)

    return lambda: step(tf.constant(X))


def replicas(make):
    """A loop of the user's own: the first call of a replica builds the optimizer."""
    import replicas
    import tensorflow as tf

    with replicas.strategy().scope():
        made, optimizer = model(), make()

    @tf.function
    def step(x):
        def on_each():
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(made(x) ** 2)
            optimizer.apply(tape.gradient(loss, made.trainable_variables), made.trainable_variables)

        replicas.strategy().run(on_each)

    return lambda: step(tf.constant(X))


ENTRIES = {of_entry.__name__: of_entry for of_entry in (fit, load, extend, function, replicas)}

if __name__ == "__main__":
    entry, name = sys.argv[1:]
    # Slots of every kind that an optimizer may make.
    options = {"gradient_accumulation_steps": 2, "use_ema": True, "monitor": True}
    step = ENTRIES[entry](lambda: getattr(keras_adaptive, name)(**options))
    # Resets the highest memory so far.
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    step()
    print((memory("VmHWM") - before) / (4 * 2 * WIDTH * WIDTH))
