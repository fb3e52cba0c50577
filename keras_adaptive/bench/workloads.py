"""The workloads: variables with the shapes of typical models."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

from keras_adaptive.bench.arguments import WORKLOADS as NAMES
from keras_adaptive.bench.backends import running as backend
from keras_adaptive.core.backends import running as backends

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Workload:
    """Float32 variables and their gradients.

    Attributes:
        name: its name on the command line.
        what: a description.
        shapes: the shapes of the variables, by name.
        ids: the rows of the only variable that were looked up, some of them more than once; None for dense gradients.
    """

    name: str
    what: str
    shapes: dict[str, Shape]
    ids: np.ndarray | None = None

    @property
    def parameters(self) -> int:
        return sum(map(math.prod, self.shapes.values()))

    def variables(self, initializer=None):
        """New variables from the initializer; without one, with the same normal numbers at every call."""
        return [
            keras.Variable(initializer or keras.initializers.RandomNormal(0.0, 0.02, seed), shape=shape, name=name)
            for seed, (name, shape) in enumerate(self.shapes.items())
        ]

    def gradients(self):
        if self.ids is None:
            return [backend.gradient(shape, seed) for seed, shape in enumerate(self.shapes.values())]
        (shape,) = self.shapes.values()
        return [backend.gradient_of_rows(shape, self.ids, seed=0)]

    def floor_bytes(self, gradients, state_bytes) -> int:
        """The fewest bytes that an update moves: it reads gradients, weights and state, and writes weights and state.

        If a gradient holds rows of a table, only these rows count.
        """
        if self.ids is not None and any(map(backends.is_sparse, gradients)):
            (table,) = self.shapes.values()
            touched = len(np.unique(self.ids)) / table[0]
            moved = 4 * len(self.ids) * (math.prod(table[1:]) + 1)
        else:
            touched, moved = 1.0, 4 * self.parameters
        return round(moved + touched * 2 * (4 * self.parameters + state_bytes))


def large(size: float) -> Workload:
    return Workload("large", "one variable", {"kernel": (scaled(16384, size), 1024)})


def mixed(size: float) -> Workload:
    """The shapes of a transformer: with size 1, 12 layers of width 512 and 30,000 tokens."""
    layers, width, tokens, places = scaled(12, size), scaled(512, size, 8), scaled(30000, size), scaled(512, size)
    shapes: dict[str, Shape] = {"token_embeddings": (tokens, width), "position_embeddings": (places, width)}
    for layer in range(layers):
        for part in ("query", "key", "value", "output"):
            shapes |= _dense(f"layer_{layer}_attention_{part}", width, width)
        shapes |= _dense(f"layer_{layer}_feedforward_inner", width, 4 * width)
        shapes |= _dense(f"layer_{layer}_feedforward_outer", 4 * width, width)
        shapes |= _norm(f"layer_{layer}_attention_norm", width) | _norm(f"layer_{layer}_feedforward_norm", width)
    shapes |= _norm("final_norm", width)
    return Workload("mixed", "the variables of a transformer", shapes)


def _dense(name, inputs, outputs) -> dict[str, Shape]:
    return {f"{name}_kernel": (inputs, outputs), f"{name}_bias": (outputs,)}


def _norm(name, width) -> dict[str, Shape]:
    return {f"{name}_gamma": (width,), f"{name}_beta": (width,)}


def small(size: float) -> Workload:
    pairs = range(scaled(500, size))
    shapes: dict[str, Shape] = {f"kernel_{pair}": (32, 32) for pair in pairs}
    shapes |= {f"bias_{pair}": (256,) for pair in pairs}
    return Workload("small", "small variables", shapes)


def embedding(size: float) -> Workload:
    rows, looked_up = scaled(1_000_000, size), scaled(4096, size)
    # Half of the lookups go to few rows, as with words.
    of_all, often = np.random.default_rng(0).random((2, looked_up))
    ids = (of_all * np.where(often < 0.5, max(rows // 500, 1), rows)).astype("int32")
    return Workload("embedding", f"an embedding table, looked up at {looked_up:,} ids", {"embeddings": (rows, 64)}, ids)


def scaled(length, size, least=1) -> int:
    """The length in a workload of this size."""
    return max(round(length * size), least)


WORKLOADS: dict[str, Callable[[float], Workload]] = dict(zip(NAMES, (large, mixed, small, embedding), strict=True))
