"""What an algorithm carries from step to step."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keras_adaptive.core.state.codecs import Shape

# As a slot's initial value: the weights that the first update finds, which are not yet loaded when slots are made.
THETA = object()


@dataclass(frozen=True)
class Slot:
    """One tensor that an algorithm carries from step to step, for each variable.

    Args:
        name: the letter that it has in the algorithm's equations.
        initial: its value before the first step: a number, the name of the hyperparameter that holds it, or THETA.
        when: the hyperparameter, or "variable.NAME" of what `about` says, that must not be zero, False or None for the
            slot to exist. A slot that does not exist reaches the rule as 0.0, and what the rule returns for it is
            dropped.
        shape: a function of the variable's shape and of `h`, as `about` reads it, to the slot's shape, or to None where
            the slot does not exist. Default: the variable's shape.
        exact: stored in the dtype of the arithmetic whatever `slot_dtype` says. So is every slot whose shape is not the
            variable's.
        idle: what an update multiplies it by where the gradient is 0: 1.0, or the name of a hyperparameter. None
            (default) if it does something else, or if the weights move all the same.
        fine: eight bits are too few for it, and slot_dtype="int8" keeps it exact; a hyperparameter's name: where that
            is not zero, False or None. Weights are fine: a slot that begins as them is.
        nonnegative: it is never below zero, as a sum of squares. Eight bits then have no sign, and what is positive
            stays so.
    """

    name: str
    initial: Any = 0.0
    when: str | None = None
    shape: Callable[[Shape, Any], Shape | None] | None = None
    exact: bool = False
    idle: float | str | None = None
    fine: bool | str = False
    nonnegative: bool = False

    def slot_dtype(self, chosen: str, whole: bool, h: Any) -> str:
        """How the slot is stored where this was chosen; `whole`: its shape is the variable's."""
        # What is not as large as the variable saves little, and may be what all of it is divided by.
        if self.exact or not whole:
            return "float32"
        fine = getattr(h, self.fine) if isinstance(self.fine, str) else self.fine
        return "float32" if chosen == "int8" and (fine or self.initial is THETA) else chosen

    def shape_for(self, shape: Shape, h: Any) -> Shape | None:
        """The slot's shape for a variable of this shape; None where the slot does not exist."""
        if self.when is not None and not operator.attrgetter(self.when)(h):
            return None
        return shape if self.shape is None else self.shape(shape, h)

    def initial_value(self, h: Any) -> float:
        if self.initial is THETA:
            return 0.0
        return getattr(h, self.initial) if isinstance(self.initial, str) else self.initial


@dataclass(frozen=True)
class Scalar:
    """One number that an algorithm carries from step to step, for all variables together.

    Args:
        name: the letter that it has in the algorithm's equations.
        initial: its value before the first step: a number, or the name of the hyperparameter that holds it.
        nonnegative: it is never below zero; a state that says otherwise is refused.
    """

    name: str
    initial: float | str = 0.0
    nonnegative: bool = False


def as_slots(declared) -> tuple[Slot, ...]:
    """The slots of an algorithm, which may declare a plain one by its name alone."""
    return tuple(slot if isinstance(slot, Slot) else Slot(slot) for slot in declared)
