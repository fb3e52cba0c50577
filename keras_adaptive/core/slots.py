"""What the optimizer keeps: for an algorithm its slots, for a variable everything that belongs to it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from keras import ops

from keras_adaptive.core import numerics, rounding


@dataclass(frozen=True)
class Slot:
    """One tensor of the variable's shape that an algorithm carries from step to step.

    Args:
        name: the letter that it has in the algorithm's equations.
        initial: its value before the first step: a number, or the name of the hyperparameter that holds it.
        when: the hyperparameter that must not be zero or False for the slot to exist. A slot that does not exist
            reaches the rule as 0.0, and what the rule returns for it is dropped.
    """

    name: str
    initial: float | str = 0.0
    when: str | None = None

    def exists(self, hyperparameters: Mapping[str, Any]) -> bool:
        return self.when is None or bool(hyperparameters[self.when])

    def initial_value(self, hyperparameters: Mapping[str, Any]) -> float:
        return hyperparameters[self.initial] if isinstance(self.initial, str) else self.initial


def as_slots(declared) -> tuple[Slot, ...]:
    """The slots of an algorithm, which may declare a plain one by its name alone."""
    return tuple(slot if isinstance(slot, Slot) else Slot(slot) for slot in declared)


@dataclass(frozen=True)
class Codec:
    """How a slot is stored: in the dtype of the arithmetic.

    Args:
        compute_dtype: the dtype of the arithmetic.
    """

    compute_dtype: str

    def dtypes(self, name: str) -> dict[str, str]:
        """By role, the dtypes of the variables that the slot of this name needs."""
        return {name: self.compute_dtype}

    def decode(self, name: str, values: Mapping[str, Any]):
        """The slot as the rule reads it, from the values of its variables by role."""
        return values[name]

    def encode(self, name: str, tensor, noise: rounding.Noise) -> dict[str, Any]:
        """The values of its variables by role, from the slot as the rule returns it."""
        return {name: tensor}


class BFloat16Codec(Codec):
    """Stored in bfloat16, always with stochastic rounding."""

    def dtypes(self, name):
        return {name: "bfloat16"}

    def decode(self, name, values):
        return ops.cast(values[name], self.compute_dtype)

    def encode(self, name, tensor, noise):
        return {name: rounding.to_bfloat16(tensor, noise(name, tensor.shape))}


CODECS = {"float32": Codec, "bfloat16": BFloat16Codec}


@dataclass(eq=False)
class VariableState:
    """One trained variable, what was decided for it at build, and the optimizer's variables that belong to it.

    Attributes:
        variable: the Keras variable (or the backend's own).
        index: its place among the variables that the optimizer was built with.
        path, shape, dtype: of the variable.
        hyperparameters: what the rule reads as `h`, by name.
        group: the index of its group, or None.
        learning_rate_multiplier: what its group multiplies the learning rate by.
        weight_decay: its decay rate, a number or a schedule, or None.
        overwrite: its gradient is its next value (the scales of float8 training).
        constraint: the function that projects it after the update, or None.
        codec: how its slots are stored.
        kept: the optimizer's variables, by role: the slots under the codec's names, and `average`, `exact_average`,
            `statistics`, and `born`, after how many updates the variable was added, if not before the first.
        scheduled_decay: the name by which the clock has the decay rate, if that is a schedule.
        accumulator: the running mean of the micro-batches' gradients, where gradients are accumulated.
    """

    variable: Any
    index: int
    path: str
    shape: tuple[int, ...]
    dtype: str
    hyperparameters: Mapping[str, Any]
    group: int | None
    learning_rate_multiplier: float
    weight_decay: Any
    overwrite: bool
    constraint: Callable | None
    codec: Codec
    kept: dict[str, Any] = field(default_factory=dict)
    scheduled_decay: str | None = None
    accumulator: Any = None

    @property
    def name(self) -> str:
        """What the names of its optimizer variables begin with."""
        return self.path.replace("/", "_").replace(":", "_")

    @property
    def compute_dtype(self) -> str:
        return numerics.compute_dtype(self.dtype)

    @property
    def variables(self) -> dict[str, Any]:
        """All that an update of this variable reads and writes."""
        return {"theta": self.variable, **self.kept}
