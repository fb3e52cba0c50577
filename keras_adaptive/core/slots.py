"""What an algorithm carries from step to step, and how that is stored."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from keras import ops

from keras_adaptive.core import rounding

# As a slot's initial value: the weights that the first update finds, which are not yet loaded when slots are made.
THETA = object()
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Slot:
    """One tensor that an algorithm carries from step to step, for each variable.

    Args:
        name: the letter that it has in the algorithm's equations.
        initial: its value before the first step: a number, the name of the hyperparameter that holds it, or THETA.
        when: the hyperparameter that must not be zero, False or None for the slot to exist. A slot that does not exist
            reaches the rule as 0.0, and what the rule returns for it is dropped.
        shape: a function of the variable's shape and its hyperparameters by name to the slot's shape, or to None where
            the slot does not exist. Default: the variable's shape.
        exact: kept in the dtype of the arithmetic whatever `slot_dtype` says. So is every slot whose shape is not the
            variable's.
        idle: what an update multiplies it by where the gradient is 0: 1.0, or the name of a hyperparameter. None
            (default) if it does something else, or if the weights move all the same.
    """

    name: str
    initial: Any = 0.0
    when: str | None = None
    shape: Callable[[Shape, Mapping[str, Any]], Shape | None] | None = None
    exact: bool = False
    idle: float | str | None = None

    def shape_for(self, shape: Shape, hyperparameters: Mapping[str, Any]) -> Shape | None:
        """The slot's shape for a variable of this shape; None where the slot does not exist."""
        if self.when is not None and not hyperparameters[self.when]:
            return None
        return shape if self.shape is None else self.shape(shape, hyperparameters)

    def initial_value(self, hyperparameters: Mapping[str, Any]) -> float:
        if self.initial is THETA:
            return 0.0
        return hyperparameters[self.initial] if isinstance(self.initial, str) else self.initial


@dataclass(frozen=True)
class Scalar:
    """One number that an algorithm carries from step to step, for all variables together.

    Args:
        name: the letter that it has in the algorithm's equations.
        initial: its value before the first step: a number, or the name of the hyperparameter that holds it.
    """

    name: str
    initial: float | str = 0.0


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
