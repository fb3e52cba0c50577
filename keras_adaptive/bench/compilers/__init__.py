"""The TPU compiler without a TPU: an optimizer's update as the program that one chip of a v5e would run.

The package libtpu holds the real compiler and needs no device. Two programs of an update are compiled: the one that
JAX traces from `stateless_apply`, and the one that TensorFlow's XLA bridge makes of the graph of `apply`. Imported in a
process with the `environment` of `keras_adaptive.bench` alone.
"""

from typing import Any, Protocol

import keras


class Compiler(Protocol):
    """What each module of this package offers."""

    def program(self, optimizer, variables, rows=None) -> Any:
        """A Program: one update of the Keras variables, with which it builds the optimizer.

        Args:
            rows: for each variable whose gradient is sparse, by its place, how many rows that has. Which ones is not
                known to the compiler, so they may repeat.
        """


def _running() -> Compiler:
    if keras.backend.backend() == "tensorflow":
        from keras_adaptive.bench.compilers import tensorflow

        return tensorflow
    from keras_adaptive.bench.compilers import jax

    return jax


running = _running()
