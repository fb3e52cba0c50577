"""Stages: what an option adds to a step. An option is one file with one stage, and one field in core/options.py.

A stage says its place in the order, what it stores for each variable, what it needs to know of others, and has pure
hooks; those that it does not define change nothing. `Stage.of(optimizer)` reads the options once, when the optimizer is
built; nothing is asked later.

The order of the places, in which the rule stands between COWCLIP and DELTA:

    CLIP, GRADIENT, COWCLIP      on_gradient: what the rule takes for the gradient
    DELTA, DECAY                 on_delta: what is taken off the weights
    GUARD                        on_new: the new weights and slots, before they are rounded and assigned
    AVERAGE, MONITOR             after: what is stored besides, from the old and the new values
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar

from keras_adaptive.core.state.limits import TRAINED, Limits


class Place(IntEnum):
    """Where a stage stands; those of one place follow each other in the order of the options."""

    CLIP = 1
    GRADIENT = 2
    COWCLIP = 3
    DELTA = 4
    DECAY = 5
    GUARD = 6
    AVERAGE = 7
    MONITOR = 8


@dataclass(frozen=True)
class Stored:
    """One of the optimizer's variables that a stage has for each trained one, or one for all of them.

    Attributes:
        shape: None for that of the trained variable.
        name: in the optimizer's variables, None for the role.
        dtype: None for that of the arithmetic.
        limits: the values that it may have in a saved state.
        beside: it is laid out as the variable.
    """

    shape: tuple[int, ...] | None = None
    name: str | None = None
    dtype: str | None = None
    limits: Limits = TRAINED
    beside: bool = True


class Stage:
    """Base of all stages.

    The hooks are given `step`, the update of one variable (core/step/update.py): `step.h` as the rule has it,
    `step.state`, `step.values` by role before the update, `step.shared`, `step.gradient`, `step.clipped`.

    Attributes:
        place: in the order.
        option: the name of the option that turns it on, for messages.
        couples_elements: a row of a table cannot be updated alone, because its step depends on other rows.
        needs_all_rows: an update of some rows alone would leave out what it does to the others.
        passes_again: it passes over the whole variable before its result can be used.
        needs_full_gradient: its on_gradient cannot be given some rows of a dense gradient.
        takes_noise: it takes random bits, by `step.noise(role, shape)`.
        clips: what it changes of the gradient counts as clipped, in the metrics.
        roles: the names of all that it may store, which no slot may have.
        scalars: what it may store for all variables together, by name, which no scalar of an algorithm may have.
        may_lack: a saved state may have what it stores while the optimizer has not, or the other way round.
        lasting: what it stores means something for a variable that is trained again after others were.
        of_window: what it stores belongs to a window of micro-batches, and not to an update.
    """

    place: ClassVar[Place]
    option: ClassVar[str]
    couples_elements: ClassVar[bool] = False
    needs_all_rows: ClassVar[bool] = False
    passes_again: ClassVar[bool] = False
    needs_full_gradient: ClassVar[bool] = False
    takes_noise: ClassVar[bool] = False
    clips: ClassVar[bool] = False
    roles: ClassVar[tuple[str, ...]] = ()
    scalars: ClassVar[Mapping[str, Stored]] = {}
    may_lack: ClassVar[bool] = False
    lasting: ClassVar[bool] = True
    of_window: ClassVar[bool] = False

    @classmethod
    def of(cls, optimizer) -> "Stage | None":
        """The stage with the optimizer's options, or None where they do not ask for it."""
        raise NotImplementedError

    def applies_to(self, variable) -> bool:
        """Whether it has to do with this variable; a `VariableState` without what is stored for it."""
        return True

    def stores(self, variable) -> Mapping[str, Stored]:
        """What it stores for this variable, by role."""
        return {}

    def stores_for_all(self) -> Collection[str]:
        """Which of its `scalars` it stores: each is an attribute of the optimizer, and begins at zero."""
        return self.scalars

    def of_all(self, gradients: list) -> dict[str, Any]:
        """Scalars that depend on the gradients of all variables, by name; `step.shared` has them afterwards.

        The gradients are tensors whose norms are those of the gradients.
        """
        return {}

    def on_numbers(self, old: dict, new: dict) -> tuple[dict, dict[str, Any]]:
        """The numbers that the algorithm has for all variables together, and what `step.shared` has of them."""
        return new, {}

    def on_gradient(self, step, theta, g):
        """The gradient that the next stage takes."""
        return g

    def on_delta(self, step, theta, g, delta):
        """What is taken off the weights; g is what the rule was given."""
        return delta

    def on_new(self, step, theta, slots, new_theta, new_slots):
        """The new weights and slots, by name, and what it stores, by role. `slots` are those before the update."""
        return new_theta, new_slots, {}

    def after(self, step, new) -> dict[str, Any]:
        """What is stored besides, by role, from `step.values` and the new values by role; "theta" may be among it."""
        return {}


def active(optimizer) -> tuple[Stage, ...]:
    """The stages that the optimizer's options ask for, in their order."""
    made = [cls.of(optimizer) for field in optimizer.fields.values() for cls in field.stages]
    return tuple(sorted((stage for stage in made if stage is not None), key=lambda stage: stage.place))
