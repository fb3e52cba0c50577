"""What a measurement of updates needs of a backend.

Each module of this package offers the same names (`Bench`); that of the running Keras backend is imported, no other.

An Update owns the variables that it was given: under JAX their values are gone after the first step. It is called to
take one step and returns when the step is done. Its `extra_bytes()` takes one more step and says
how much memory that takes besides weights, gradients and state, or None where that is not known. The Update of another
library has `state_bytes`.
"""

from typing import Any, Protocol

import keras


class Bench(Protocol):
    """What each module of this package offers."""

    FORMS: dict[str, bool]
    """By name, the ways to run a Keras optimizer's update: whether the caller compiles it; the first is Keras's."""

    def device(self) -> str:
        """What updates run on, in words."""

    def gradient(self, shape, seed) -> Any:
        """A dense gradient of normal numbers."""

    def gradient_of_rows(self, shape, ids, seed) -> Any:
        """The gradient of an embedding table that was looked up at these ids."""

    def update(self, optimizer, variables, gradients, jit_compile) -> Any:
        """An Update: of the variables by a Keras optimizer that is built."""

    def other_library(self, name) -> str | None:
        """Which other library has an optimizer of that name; None if none is there."""

    def other(self, name, settings, variables, gradients) -> Any:
        """An Update by the other library's optimizer."""

    def triad(self, elements) -> Any:
        """An Update that makes a + s b of two float32 arrays, in place of a."""


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
