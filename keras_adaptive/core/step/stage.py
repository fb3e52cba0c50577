"""Stages: what an option adds to a step. An option is one file with one stage, and one field in core/options.py.

A stage declares its place in the order, what it stores for each variable and what it needs from all variables. Its
hooks are pure functions; a hook that it does not define changes nothing. `Stage.of(optimizer)` reads the options once,
when the optimizer is built.

The order of the places (the rule comes between COWCLIP and DELTA), and their hooks:

    CLIP, GRADIENT, COWCLIP      on_gradient: the gradient that the rule gets
    DELTA, DECAY                 on_delta: what is subtracted from the weights
    GUARD                        on_new: the new weights and slots, before they are rounded and assigned
    AVERAGE, MONITOR             after: what else is stored, from the old and the new values

Stages of the same place run in the order of the options. COWCLIP is the last place of the gradient: a stage there,
behind the option `cowclip`, sees it after all clipping.
"""

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar

from keras_adaptive.core.state.limits import TRAINED, Limits


class Place(IntEnum):
    """The place of a stage; stages of the same place follow the order of the options."""

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
    """A variable of the optimizer that a stage needs for each trained variable, or once for all of them.

    Attributes:
        shape: None for the shape of the trained variable.
        name: of the optimizer's variable; None for the role.
        dtype: None for the dtype of the arithmetic.
        limits: the values that it may have in a saved state.
        beside: it has the layout of the trained variable.
    """

    shape: tuple[int, ...] | None = None
    name: str | None = None
    dtype: str | None = None
    limits: Limits = TRAINED
    beside: bool = True


class Stage:
    """Base of all stages.

    The hooks get `step`, the update of one variable (core/step/update.py): `step.h` (the same as for the rule),
    `step.state`, `step.values` (before the update, by role), `step.shared`, `step.gradient`, `step.clipped`, and
    `step.noise(role, shape)`, the random bits of `seed`. `step.h.t` counts the variable's own updates, `step.t` those
    of the optimizer.

    Attributes:
        place: its place in the order.
        option: the name of the option that turns it on, for messages.
        couples_elements: a row of a table cannot be updated alone, because its step depends on other rows.
        needs_all_rows: it changes all rows, so some rows cannot be updated alone.
        passes_again: it passes over the full variable before its result can be used.
        needs_full_gradient: its on_gradient needs the gradient of the full variable, which then is not updated in parts
            or joined with others.
        takes_noise: it takes random bits, by `step.noise(role, shape)`.
        clips: its changes of the gradient count as clipping in the metrics.
        roles: the names of everything that it may store for a variable; no slot may have them.
        scalars: what it may store for all variables together, by name; no scalar of an algorithm may have these names.
        may_lack: what it stores may be missing in a saved state, or in the optimizer.
        lasting: what it stores stays valid for a variable that is left out of training and then trained again.
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
        """The stage with the optimizer's options, or None if they do not ask for it."""
        raise NotImplementedError

    def applies_to(self, variable) -> bool:
        """Whether it applies to this variable, a `VariableState` for which nothing is stored yet."""
        return True

    def reads(self, variable) -> Hashable:
        """What its hooks read of the variable's role. Variables that differ in it do not have the same update."""
        return None

    def stores(self, variable) -> Mapping[str, Stored]:
        """What it stores for this variable, by role."""
        return {}

    def stores_for_all(self) -> Collection[str]:
        """The `scalars` that it stores: each is an attribute of the optimizer and starts at zero."""
        return self.scalars

    def of_all(self, gradients: list) -> dict[str, Any]:
        """Scalars that depend on the gradients of all variables, by name; `step.shared` has them afterwards.

        The gradients are given as tensors with the same norms.
        """
        return {}

    def on_numbers(self, old: dict, new: dict) -> tuple[dict, dict[str, Any]]:
        """The algorithm's new scalars for all variables together, and what to add to `step.shared`."""
        return new, {}

    def on_gradient(self, step, theta, g):
        """The gradient for the next stage."""
        return g

    def on_delta(self, step, theta, g, delta):
        """What is subtracted from the weights; g is the gradient that the rule got."""
        return delta

    def on_new(self, step, theta, slots, new_theta, new_slots):
        """The new weights, the new slots by name, and what it stores by role. `slots` are those before the update."""
        return new_theta, new_slots, {}

    def after(self, step, new) -> dict[str, Any]:
        """What else is stored, by role, from `step.values` and the new values by role; it may include "theta"."""
        return {}


def active(optimizer) -> tuple[Stage, ...]:
    """The stages that the optimizer's options ask for, in their order."""
    made = [cls.of(optimizer) for field in optimizer.fields.values() for cls in field.stages]
    return tuple(sorted((stage for stage in made if stage is not None), key=lambda stage: stage.place))
