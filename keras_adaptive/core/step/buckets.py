"""Buckets of variables that have the same update function; found once, when the optimizer is built.

A backend may run a bucket variable by variable, or all elements of several small variables as one row. A rule that
multiplies matrices may be called once for several variables of a bucket (stacks.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from keras_adaptive.core.state.codecs import Shape
from keras_adaptive.core.state.states import VariableState
from keras_adaptive.core.step import stacks


class Kind(NamedTuple):
    """Equal for variables that are updated by the same function.

    Attributes:
        same: everything else that decides the function.
        shape: their common shape; None if each element is updated separately, whatever the shape is.
        noisy: the function takes random bits, which depend on the variable and the element's place.
        scaled: the function takes a scale for each row.
    """

    same: tuple
    shape: Shape | None = None
    noisy: bool = False
    scaled: bool = False


@dataclass(frozen=True, eq=False)
class Bucket:
    """The variables of one kind.

    Attributes:
        kind: what they have in common; None for a variable whose update is unique.
        places: their places among the states of the plan.
        why_apart: why a variable has a separate bucket.
        stacks: the places of those variables for which the rule is called once.
    """

    kind: Kind | None
    places: tuple[int, ...]
    why_apart: str | None = None
    stacks: tuple[tuple[int, ...], ...] = ()

    @property
    def joins(self) -> bool:
        """Whether elements of several variables may be put into one row."""
        return self.kind is not None and self.kind.shape is None and not self.kind.noisy


def found(states: Sequence[VariableState], rounds: bool, stacked: bool) -> tuple[Bucket, ...]:
    """The buckets, each at the place of its first variable.

    Args:
        rounds: weights of bfloat16 are rounded by random bits.
        stacked: the rule is called once for variables of the same shape.
    """
    alike: dict[Kind, list[int]] = {}
    apart: list[Bucket] = []
    for place, state in enumerate(states):
        if why := _why_apart(state):
            apart.append(Bucket(None, (place,), why))
        else:
            alike.setdefault(_kind(state, rounds), []).append(place)
    buckets = [
        Bucket(kind, tuple(places), stacks=stacks.found(states, places) if stacked and kind.shape is not None else ())
        for kind, places in alike.items()
    ] + apart
    return tuple(sorted(buckets, key=lambda bucket: bucket.places))


def alone(states: Sequence[VariableState]) -> tuple[Bucket, ...]:
    """A bucket for each variable."""
    return tuple(Bucket(None, (place,)) for place in range(len(states)))


def _why_apart(state) -> str | None:
    """Why the update of this variable is unique; None if it is not."""
    if state.overwrite:
        return "its gradient is its next value"
    if state.counted:
        return "`cowclip` clips its rows by how often each was looked up"
    if state.constraint is not None:
        return "it has a constraint"
    # Values that cannot be hashed, such as arrays, cannot be compared reliably.
    if not _is_hashable((*state.hyperparameters.values(), *state.facts.values())):
        return "`about` of its algorithm returns a value for it that cannot be compared, such as an array"
    return None


def _kind(state, rounds) -> Kind:
    parts = {name: codec.parts(name, shape) for name, (shape, codec) in state.slots.items()}
    dtypes = {name: of_slot[name].dtype for name, of_slot in parts.items()}
    facts = (*state.hyperparameters.items(), *state.clock_names.items(), *state.facts.items())
    facts += (state.learning_rate_multiplier, state.weight_decay)
    stages = ((type(stage), stage.reads(state)) for stage in state.stages)
    same = (state.dtype, *dtypes.items(), *state.stored, *facts, *stages)
    # What has no axis cannot be put into one row.
    has_scalars = any(
        role == "added_at" or (role in state.declared and state.declared[role].shape == ()) for role in state.stored
    )
    in_parts = not any(stage.needs_full_gradient for stage in state.stages)
    return Kind(
        same,
        shape=None if state.elementwise and in_parts and not has_scalars else state.shape,
        noisy=any(stage.takes_noise for stage in state.stages)
        or bool({*dtypes.values()} - {state.compute_dtype})
        or (rounds and state.dtype == "bfloat16"),
        scaled=any(len(of_slot) > 1 for of_slot in parts.values()),
    )


def _is_hashable(values) -> bool:
    try:
        hash(values)
    except TypeError:
        return False
    return True
