"""What a measurement of updates needs from a backend.

Each module of this package offers the same names (`Bench`). Only the module of the running Keras backend is imported.

An Update owns the variables that it was given: under JAX their values are gone after the first step. Calling it takes
one step and returns when the step is done. Its `extra_bytes()` takes one more step and returns the memory which that
needs in addition to weights, gradients and state, or None if that is unknown. Its `several(count)` returns a function
that takes so many steps and waits for the last one only. The Update of another library has `state_bytes`.
"""

from typing import Any, Protocol

import keras


class Bench(Protocol):
    """What each module of this package offers."""

    FORMS: dict[str, bool]
    """The ways to run a Keras optimizer's update, by name: whether the caller compiles it. The first is Keras's way."""

    def device(self) -> str:
        """The name of the device on which updates run."""

    def gradient(self, shape, seed) -> Any:
        """A dense gradient of normally distributed numbers."""

    def gradient_of_rows(self, shape, ids, seed) -> Any:
        """The gradient of an embedding table after a lookup of these ids."""

    def update(self, optimizer, variables, gradients, jit_compile) -> Any:
        """An Update of the variables by a Keras optimizer that is built."""

    def other_library(self, name) -> str | None:
        """The installed library that also has an optimizer of this name, or None."""

    def other(self, name, settings, variables, gradients) -> Any:
        """An Update by the other library's optimizer."""

    def triad(self, elements) -> Any:
        """An Update that replaces a by a + s b, for two float32 arrays."""


def _running() -> Bench:
    if keras.backend.backend() == "tensorflow":
        from keras_adaptive.bench.backends import tensorflow

        return tensorflow
    if keras.backend.backend() == "jax":
        from keras_adaptive.bench.backends import jax

        return jax
    from keras_adaptive.bench.backends import torch

    return torch


running = _running()
