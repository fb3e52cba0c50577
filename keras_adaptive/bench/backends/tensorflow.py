"""Updates under TensorFlow: in a graph, as `fit` runs them, and as one XLA function."""

import numpy as np
import tensorflow as tf

from keras_adaptive.bench.backends import process
from keras_adaptive.core.backends.tensorflow import is_accelerated

_GPUS = tf.config.list_physical_devices("GPU")
# By default Keras uses XLA if there is any device other than CPUs.
FORMS = {"in fit": True} if is_accelerated() else {"in fit": False, "in one XLA function": True}


class Update:
    def __init__(self, step, jit_compile):
        def done():
            step()
            return tf.constant(True)

        self.trace = tf.function(done, jit_compile=jit_compile, autograph=False).get_concrete_function
        self.function = None

    def __call__(self):
        self.several(1)()

    def several(self, count):
        if self.function is None:
            self.function = self.trace()
        function = self.function

        def run():
            for _ in range(count):
                function()
            if _GPUS:
                tf.test.experimental.sync_devices()

        return run

    def extra_bytes(self):
        # TensorFlow's allocator holds freed memory, so the process would not show what a step takes.
        device = "GPU:0" if _GPUS else "CPU:0"
        try:
            tf.config.experimental.reset_memory_stats(device)
        except ValueError:
            # Some versions of TensorFlow have no memory statistics for CPUs.
            return process.extra_bytes(self)
        before = tf.config.experimental.get_memory_info(device)["current"]
        self()
        return tf.config.experimental.get_memory_info(device)["peak"] - before


def device():
    return tf.config.experimental.get_device_details(_GPUS[0])["device_name"] if _GPUS else process.processor()


def gradient(shape, seed):
    # A variable: a small tensor would be a constant of the graph.
    return tf.Variable(tf.random.stateless_normal(shape, (seed, 0)), trainable=False)


def gradient_of_rows(shape, ids, seed):
    values = gradient((len(ids), *shape[1:]), seed)
    return tf.IndexedSlices(values, tf.constant(ids, tf.int32), tf.constant(shape, tf.int32))


def update(optimizer, variables, gradients, jit_compile):
    return Update(lambda: optimizer.apply([_read(g) for g in gradients], variables), jit_compile)


def _read(gradient):
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(gradient.values.read_value(), gradient.indices, gradient.dense_shape)
    return gradient.read_value()


def other_library(name):
    return None


def other(name, settings, variables, gradients):
    raise ValueError(f"No other library is measured on TensorFlow. Received: name={name!r}")


def triad(elements):
    a, b = (tf.Variable(np.ones(elements, "float32"), trainable=False) for _ in range(2))
    return Update(lambda: a.assign(a + 0.5 * b), True)
