"""Slots and scalars: what an algorithm carries from step to step."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keras_adaptive.core.state.codecs import Shape

# As a slot's initial value: the weights at the first update. When slots are made, weights may not be loaded yet.
THETA = object()


@dataclass(frozen=True)
class Slot:
    """One tensor that an algorithm carries from step to step, for each variable.

    Args:
        name: the letter that it has in the algorithm's equations.
        initial: its value before the first step: a number, the name of a hyperparameter, or THETA.
        when: a hyperparameter, or "variable.NAME" of what `about` returns. The slot exists unless this is zero, False
            or None. The rule gets 0.0 for a slot that does not exist, and what it returns for it is dropped.
        shape: a function from the variable's shape and `h` (as in `about`) to the slot's shape, or to None if the slot
            does not exist. Default: the variable's shape.
        exact: stored in the dtype of the arithmetic, whatever `slot_dtype` is. This also holds for every slot of
            another shape than the variable.
        idle: the factor of an update where the gradient is 0: 1.0, or the name of a hyperparameter. None (default) if
            the update does something else, or if the weights move all the same.
        fine: eight bits are too few for it, so slot_dtype="int8" stores it exactly. A hyperparameter's name: if that is
            not zero, False or None. Slots that begin as the weights are always fine.
        nonnegative: it is never below zero, like a sum of squares. Its eight-bit codes then have no sign, and positive
            values stay positive.
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
        """The dtype to store the slot in, given the chosen one; `whole`: it has the shape of the variable."""
        # A smaller slot saves little, and all elements may be divided by it.
        if self.exact or not whole:
            return "float32"
        fine = getattr(h, self.fine) if isinstance(self.fine, str) else self.fine
        return "float32" if chosen == "int8" and (fine or self.initial is THETA) else chosen

    def shape_for(self, shape: Shape, h: Any) -> Shape | None:
        """The slot's shape for a variable of this shape; None if the slot does not exist."""
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
        initial: its value before the first step: a number, or the name of a hyperparameter.
        nonnegative: it is never below zero; a saved state in which it is negative is refused.
    """

    name: str
    initial: float | str = 0.0
    nonnegative: bool = False


def as_slots(declared) -> tuple[Slot, ...]:
    """The slots of an algorithm, which may declare a plain slot by its name only."""
    return tuple(slot if isinstance(slot, Slot) else Slot(slot) for slot in declared)
