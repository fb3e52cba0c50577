"""What belongs to one trained variable: what was decided for it at build, and what is kept for it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from keras import backend, ops

from keras_adaptive.core import backends, groups, monitor, numerics, rows
from keras_adaptive.core.codecs import CODECS, Codec, Shape

# The literature on states of eight bits keeps smaller tensors, and embeddings, in float32.
FEWEST_IN_EIGHT_BITS = 4096


def path(variable) -> str:
    """A Keras variable's path; a variable of the backend itself has a name only."""
    return getattr(variable, "path", None) or variable.name


def paths(variables) -> list[str]:
    return [path(variable) for variable in variables]


class Kind(NamedTuple):
    """Equal for variables that are updated by the same function.

    Attributes:
        same: what decides the function.
        shape: theirs; None if every element is updated by itself, whatever shape it belongs to.
        noisy: it takes random bits, which depend on the variable and the element's place.
        scaled: it takes a scale for each row.
    """

    same: tuple
    shape: Shape | None = None
    noisy: bool = False
    scaled: bool = False

    @property
    def joins(self) -> bool:
        """Whether elements of several variables may be put into one row."""
        return self.shape is None and not self.noisy


@dataclass(eq=False)
class VariableState:
    """One trained variable, what was decided for it at build, and the optimizer's variables that belong to it.

    Attributes:
        variable: the Keras variable (or the backend's own).
        index: its place among the variables that the optimizer was built with.
        path, shape, dtype: of the variable.
        hyperparameters: what the rule reads as `h`, by name: the algorithm's, and what it says about the variable.
        group: the index of its group, or None.
        learning_rate_multiplier: what its group multiplies the learning rate by.
        weight_decay: its decay rate, a number or a schedule, or None.
        overwrite: its gradient is its next value (the scales of float8 training).
        constraint: the function that projects it after the update, or None.
        slots: of each of its slots the shape and how it is stored, by name.
        kept: the optimizer's variables, by role: the slots under the codec's names, and `average`, `exact_average`,
            `statistics`, `as_of`, the number of the update that each row's slots are of, if some rows alone may be
            updated, and `born`, after how many updates the variable was added, if not before the first.
        scheduled_decay: the name by which the clock has the decay rate, if that is a schedule.
        accumulator: the running mean of the micro-batches' gradients, where gradients are accumulated.
        counted: CowClip clips its gradient, by how often each row was looked up.
        counts: their running sum, where gradients are accumulated.
        why_whole: what an update must pass over the whole variable for even if only some rows have a gradient, in
            words; None if it need not.
        divisible: rows that all have a gradient may be updated some at a time.
        elementwise: each element's step depends on nothing but itself, and on its row's scale if its slots have such.
    """

    variable: Any
    index: int
    path: str
    shape: Shape
    dtype: str
    hyperparameters: Mapping[str, Any]
    group: int | None
    learning_rate_multiplier: float
    weight_decay: Any
    overwrite: bool
    constraint: Callable | None
    slots: Mapping[str, tuple[Shape, Codec]]
    kept: dict[str, Any] = field(default_factory=dict)
    scheduled_decay: str | None = None
    accumulator: Any = None
    counted: bool = False
    counts: Any = None
    why_whole: str | None = None
    divisible: bool = False
    elementwise: bool = False

    @property
    def by_rows(self) -> bool:
        """Whether a gradient of some rows updates these rows alone."""
        return backends.HAS_ROWS and self.why_whole is None

    @property
    def name(self) -> str:
        """What the names of its optimizer variables begin with."""
        return self.path.replace("/", "_").replace(":", "_")

    @property
    def compute_dtype(self) -> str:
        return numerics.compute_dtype(self.dtype)

    @property
    def counts_name(self) -> str:
        """The name by which the clock has the counts of its rows."""
        return f"counts_{self.index}"

    def kind(self, optimizer) -> Kind | None:
        """None if what belongs to this variable alone decides what is done."""
        if self.overwrite or self.counted or self.constraint is not None:
            return None
        decay = self.weight_decay if self.scheduled_decay is None else self.scheduled_decay
        parts = {name: codec.parts(name, shape) for name, (shape, codec) in self.slots.items()}
        dtypes = {name: of_slot[name].dtype for name, of_slot in parts.items()}
        same = (self.dtype, *dtypes.items(), *self.kept, *self.hyperparameters.items())
        # What cannot be hashed, such as an array, may be equal and still not the same.
        if not _is_hashable(same):
            return None
        elementwise = self.elementwise and optimizer.clipnorm is None and "born" not in self.kept
        return Kind(
            (*same, self.learning_rate_multiplier, decay),
            shape=None if elementwise else self.shape,
            noisy=bool({*dtypes.values()} - {self.compute_dtype})
            or (optimizer.stochastic_rounding and self.dtype == "bfloat16"),
            scaled=any(len(of_slot) > 1 for of_slot in parts.values()),
        )

    @property
    def accumulators(self) -> dict[str, Any]:
        """What a window of micro-batches adds up, by role."""
        both = {"accumulator": self.accumulator, "counts": self.counts}
        return {role: variable for role, variable in both.items() if variable is not None}

    @property
    def variables(self) -> dict[str, Any]:
        """All that an update of this variable reads and writes."""
        return {"theta": self.variable, **self.kept}


@dataclass(frozen=True)
class Whole:
    """What the algorithm's `settle` reads as `h`: the hyperparameters of no group, for all variables together."""

    hyperparameters: Mapping[str, Any]
    compute_dtype: str
    learning_rate_multiplier: float = 1.0
    weight_decay: Any = None
    scheduled_decay: str | None = None
    counted: bool = False


def _is_hashable(values) -> bool:
    try:
        hash(values)
    except TypeError:
        return False
    return True


def new(optimizer, index, variable, decision) -> VariableState:
    """The state of a variable with what was decided for it, before anything is kept for it."""
    overwrite = bool(optimizer._overwrite_variable_with_gradient(variable))
    dtype = backend.standardize_dtype(variable.dtype)
    if optimizer.stochastic_rounding and not overwrite and dtype not in ("bfloat16", "float32", "float64"):
        raise ValueError(
            "`stochastic_rounding` must be False unless all weights are bfloat16, float32 or float64. "
            f"Received: stochastic_rounding=True, and the variable {path(variable)!r} is {dtype}"
        )
    group = None if decision["group"] is None else optimizer.groups[decision["group"]]
    decay = optimizer.weight_decay if group is None or group.weight_decay is None else group.weight_decay
    shape, hyperparameters = tuple(decision["shape"]), groups.hyperparameters(optimizer, group)
    about = dict(optimizer.about(decision["path"], shape, hyperparameters))
    chosen = _slot_dtype(optimizer, group, decision["path"], shape)
    multiplier = about.pop("learning_rate_multiplier", 1.0)
    elementwise = about.pop("elementwise", optimizer.elementwise)
    hyperparameters |= about
    state = VariableState(
        variable=variable,
        index=index,
        path=decision["path"],
        shape=shape,
        dtype=dtype,
        group=decision["group"],
        hyperparameters=hyperparameters,
        learning_rate_multiplier=multiplier * (1.0 if group is None else group.learning_rate_multiplier),
        weight_decay=decay if decision["decays"] else None,
        overwrite=overwrite,
        counted=not overwrite and optimizer.cowclip is not None and optimizer.cowclip.matches(decision["path"]),
        constraint=None if overwrite else getattr(variable, "constraint", None),
        slots={}
        if overwrite
        else dict(_slots(optimizer, shape, numerics.compute_dtype(dtype), hyperparameters, chosen)),
    )
    state.why_whole = rows.why_whole(optimizer, state, elementwise)
    # A scalar among the slots would change with each part.
    alike = all(shape == state.shape for shape, _ in state.slots.values())
    alone = alike and not state.overwrite
    state.divisible = alone and rows.why_together(optimizer, state, elementwise) is None
    state.elementwise = alone and elementwise is True and rows.why_coupled(optimizer, state, elementwise) is None
    return state


def _slots(optimizer, shape, compute_dtype, hyperparameters, chosen):
    """Name, shape and codec of the slots that exist."""
    for slot in optimizer.slots:
        of_slot = slot.shape_for(shape, hyperparameters)
        if of_slot is not None:
            stored = slot.slot_dtype(chosen, of_slot == shape, hyperparameters)
            yield slot.name, (of_slot, CODECS[stored](compute_dtype, slot.nonnegative))


def _slot_dtype(optimizer, group, path, shape):
    """What the slots of a variable are stored in: eight bits only where they save much and are known to do."""
    if group is not None and group.slot_dtype is not None:
        return group.slot_dtype
    small = math.prod(shape) < FEWEST_IN_EIGHT_BITS
    return "float32" if optimizer.slot_dtype == "int8" and (small or _is_embedding(path)) else optimizer.slot_dtype


def _is_embedding(path):
    """By the name of the variable or of its layer, which for layers that have no other name is that of their class."""
    return any("embedding" in part.lower() for part in path.split("/")[-2:])


def add_kept(optimizer, state):
    """Makes the optimizer's variables that belong to a trained one."""
    if optimizer.gradient_accumulation_steps not in (None, 1):
        state.accumulator = _add_like(optimizer, state, "gradient_accumulator")
        if state.counted:
            state.counts = _add_like(optimizer, state, "counts", shape=state.shape[:1])
    if state.overwrite:
        return
    for slot in optimizer.slots:
        if slot.name in state.slots:
            shape, codec = state.slots[slot.name]
            initial = slot.initial_value(state.hyperparameters)
            for role, part in codec.parts(slot.name, shape, initial).items():
                state.kept[role] = _add_like(optimizer, state, role, part.initial, part.dtype, part.shape)
    if rows.is_dated(optimizer, state):
        state.kept[rows.AS_OF] = _add_like(optimizer, state, rows.AS_OF, dtype="int32", shape=state.shape[:1])
    if optimizer.use_ema:
        state.kept["average"] = _add_like(optimizer, state, "average", dtype=state.dtype)
        if state.dtype != state.compute_dtype:
            # Keras swaps the average with the weights, so it has their dtype; in bfloat16 it would never move.
            state.kept["exact_average"] = _add_like(optimizer, state, "exact_average")
    if optimizer.monitor:
        shape = (len(monitor.STATISTICS),)
        name = f"{state.name}_statistics"
        state.kept["statistics"] = optimizer.add_variable(shape, dtype=state.compute_dtype, name=name)


def _add_like(optimizer, state, name, initial=0.0, dtype=None, shape=None):
    """A variable in the same place, of the same shape and in the dtype of the arithmetic, if nothing else is said."""
    shape = state.shape if shape is None else shape
    with backends.beside(state.variable):
        return optimizer.add_variable(
            shape=shape,
            initializer=constant(initial),
            dtype=dtype or state.compute_dtype,
            layout=backends.slot_layout(state.variable, shape, optimizer.shard_state),
            name=f"{state.name}_{name}",
        )


def constant(number):
    """An initializer with all digits of the number; Keras's Constant rounds it to float32 on TensorFlow.

    Codes are made as what they are: TensorFlow would convert other integers one by one.
    """

    def initializer(shape, dtype=None):
        made = np.full(shape, number, dtype if dtype in ("int8", "uint8") else None)
        return ops.convert_to_tensor(made, dtype=dtype)

    return initializer
