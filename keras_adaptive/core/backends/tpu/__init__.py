"""The TPU compiler without a TPU: an optimizer's update as the program that one chip of a v5e would run.

The package libtpu holds the real compiler and needs no device. Two programs of an update are compiled: the one that
JAX traces from `stateless_apply`, and the one that TensorFlow's XLA bridge makes of the graph of `apply`. Imported by
`keras_adaptive.bench.tpu` alone, in a process with its `environment`.

    program(optimizer, variables, rows=None)    a Program: one update of the Keras variables, with which it builds the
                                                optimizer; `rows` says for each variable whose gradient is sparse, by
                                                its place, how many rows that has. Which ones is not known to the
                                                compiler, so they may repeat.
"""

import keras

if keras.backend.backend() == "tensorflow":
    from keras_adaptive.core.backends.tpu.tensorflow import *  # noqa: F403
else:
    from keras_adaptive.core.backends.tpu.jax import *  # noqa: F403
