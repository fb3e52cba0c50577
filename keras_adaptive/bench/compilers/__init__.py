"""The TPU compiler without a TPU: an optimizer's update as the program that one chip of a v5e would run.

The package libtpu contains the real compiler and needs no device. Two programs of an update are compiled: the one that
JAX traces from `stateless_apply`, and the one that TensorFlow's XLA bridge makes from the graph of `apply`. Import this
package only in a process with the `environment` of `keras_adaptive.bench`.
"""

from typing import Any, Protocol

import keras


class Compiler(Protocol):
    """What each module of this package offers."""

    def program(self, optimizer, variables, rows=None) -> Any:
        """Builds the optimizer with these Keras variables and returns the Program of one update.

        Args:
            rows: by the place of each variable with a sparse gradient, the number of rows of that gradient. The
                compiler does not know which rows they are, so they may repeat.
        """


def _running() -> Compiler:
    if keras.backend.backend() == "tensorflow":
        from keras_adaptive.bench.compilers import tensorflow

        return tensorflow
    from keras_adaptive.bench.compilers import jax

    return jax


running = _running()
