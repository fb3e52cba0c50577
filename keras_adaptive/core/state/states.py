"""The state of one trained variable: what was decided for it at build, and what is stored for it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from keras import backend, ops

from keras_adaptive.core.backends import running as backends
from keras_adaptive.core.math import numerics
from keras_adaptive.core.state.codecs import CODECS, Codec, Part, Shape
from keras_adaptive.core.step import rows, scheduled
from keras_adaptive.core.step.stage import Stage, Stored
from keras_adaptive.groups import assignment
from keras_adaptive.groups.roles import EMBEDDING, Role

# The literature on eight-bit states stores smaller tensors, and embeddings, in float32.
FEWEST_IN_EIGHT_BITS = 4096


def path(variable) -> str:
    """A Keras variable's path; the backend's own variables have only a name."""
    return getattr(variable, "path", None) or variable.name


def paths(variables) -> list[str]:
    return [path(variable) for variable in variables]


@dataclass(eq=False)
class VariableState:
    """One trained variable, what was decided for it at build, and the optimizer's variables that belong to it.

    Attributes:
        variable: the Keras variable (or the backend's own).
        index: its place among the variables that the optimizer was built with.
        path, shape, dtype: of the variable.
        hyperparameters: the algorithm's, as the variable's groups set them, by name.
        facts: what the algorithm's `about` returns for the variable, by name.
        groups: the indices of its groups, in their order.
        learning_rate_multiplier: the factor of the learning rate from its groups and the algorithm.
        weight_decay: a number or a schedule, or None.
        role: an embedding, a kernel with its matrix, and so on.
        overwrite: its gradient is its next value (the scales of float8 training).
        constraint: the function that projects it after the update, or None.
        slots: the shape and the codec of each of its slots, by name.
        stages: those of the optimizer's stages that apply to it, in order.
        declared: what they store for it, by role: shape, dtype, limits.
        stored: the optimizer's variables for it, by role: the slots under the codec's names, and what the stages
            store. `last_step`, if some rows may be updated alone: the last update of each row's slots. `added_at`, if
            it was not trained from the first update on: the number of updates before it was added.
        clock_names: the name that the clock of a step has for an argument that changes, by argument.
        window: with accumulation, the optimizer's variables for it, by role. `accumulator` is the running mean of the
            gradients, `contributions` the number of micro-batches with a gradient, `counts` the running sum of counts.
        counted: CowClip clips its gradient, by how often each row was looked up.
        why_all_rows: why an update must pass over the full variable even if only some rows have a gradient; None if it
            need not.
        divisible: if all rows have a gradient, they may be updated some at a time.
        elementwise: each element's step depends only on that element, and on its row's scale if its slots have scales.
    """

    variable: Any
    index: int
    path: str
    shape: Shape
    dtype: str
    hyperparameters: Mapping[str, Any]
    facts: Mapping[str, Any]
    groups: tuple[int, ...]
    learning_rate_multiplier: float
    weight_decay: Any
    role: Role
    overwrite: bool
    constraint: Callable | None
    slots: Mapping[str, tuple[Shape, Codec]]
    clock_names: Mapping[str, str]
    stored: dict[str, Any] = field(default_factory=dict)
    stages: tuple[Stage, ...] = ()
    declared: dict[str, Stored] = field(default_factory=dict)
    window: dict[str, Any] = field(default_factory=dict)
    counted: bool = False
    why_all_rows: str | None = None
    divisible: bool = False
    elementwise: bool = False

    @property
    def by_rows(self) -> bool:
        """Whether a gradient of some rows updates only these rows."""
        return backends.HAS_ROWS and self.why_all_rows is None

    @property
    def name(self) -> str:
        """The prefix of the names of its optimizer variables."""
        return self.path.replace("/", "_").replace(":", "_")

    @property
    def compute_dtype(self) -> str:
        return numerics.compute_dtype(self.dtype)

    @property
    def counts_name(self) -> str:
        """The clock's name for the counts of its rows."""
        return f"counts_{self.index}"

    @property
    def contributed_name(self) -> str:
        """The clock's name for whether it had a gradient in the window, if that is known only when the step runs."""
        return f"contributed_{self.index}"

    @property
    def h(self) -> SimpleNamespace:
        """What is known of its `h` before the first step."""
        return known(self.hyperparameters, self.facts)

    @property
    def variables(self) -> dict[str, Any]:
        """The variables that an update of this variable reads and writes, by role."""
        return {"theta": self.variable, **self.stored}


@dataclass(frozen=True)
class OfAll:
    """What the algorithm's `update_scalars` reads as `h`: the optimizer's own hyperparameters."""

    hyperparameters: Mapping[str, Any]
    clock_names: Mapping[str, str]
    compute_dtype: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    learning_rate_multiplier: float = 1.0
    weight_decay: Any = None
    counted: bool = False


def known(hyperparameters, facts) -> SimpleNamespace:
    """The `h` of `about`, of slots and of everything else that is decided before the first step."""
    return SimpleNamespace(**hyperparameters, variable=SimpleNamespace(**facts))


def new(optimizer, stages, index, variable, decision) -> VariableState:
    """The state of a variable with what was decided for it, before anything is stored for it."""
    overwrite = bool(optimizer._overwrite_variable_with_gradient(variable))
    dtype = backend.standardize_dtype(variable.dtype)
    if optimizer.stochastic_rounding and not overwrite and dtype not in ("bfloat16", "float32", "float64"):
        raise ValueError(
            "`stochastic_rounding` must be False unless all weights are bfloat16, float32 or float64. "
            f"Received: stochastic_rounding=True, and the variable {path(variable)!r} is {dtype}"
        )
    said = assignment.said(optimizer.groups, decision["groups"])
    shape, hyperparameters = tuple(decision["shape"]), assignment.hyperparameters(optimizer, said)
    role = Role.of(decision)
    seen = role.seen_by(*(cls.__name__ for cls in type(optimizer).__mro__))
    about = dict(optimizer.about(seen, known(hyperparameters, {})))
    chosen = said.get("slot_dtype") or _slot_dtype(optimizer, role)
    multiplier = about.pop("learning_rate_multiplier", 1.0)
    elementwise = about.pop("elementwise", optimizer.elementwise)
    state = VariableState(
        variable=variable,
        index=index,
        path=decision["path"],
        shape=shape,
        dtype=dtype,
        groups=tuple(decision["groups"]),
        hyperparameters=hyperparameters,
        facts=about,
        learning_rate_multiplier=multiplier * said.get("learning_rate_multiplier", 1.0),
        weight_decay=said.get("weight_decay", optimizer.weight_decay) if decision["decays"] else None,
        role=role,
        overwrite=overwrite,
        counted=not overwrite and optimizer.cowclip is not None and optimizer.cowclip.clips(role),
        constraint=None if overwrite else getattr(variable, "constraint", None),
        clock_names=scheduled.names(optimizer, decision["groups"]),
        slots={}
        if overwrite
        else dict(_slots(optimizer, shape, numerics.compute_dtype(dtype), known(hyperparameters, about), chosen)),
    )
    state.stages = () if overwrite else tuple(stage for stage in stages if stage.applies_to(state))
    state.why_all_rows = rows.why_all_rows(optimizer, state, elementwise)
    # A slot that is a scalar would change with each part.
    alike = all(shape == state.shape for shape, _ in state.slots.values())
    alone = alike and not state.overwrite
    state.divisible = alone and rows.why_together(optimizer, state, elementwise) is None
    state.elementwise = alone and elementwise is True and rows.why_coupled(optimizer, state, elementwise) is None
    return state


def _slots(optimizer, shape, compute_dtype, h, chosen):
    """Name, shape and codec of the slots that exist."""
    for slot in optimizer.slots:
        of_slot = slot.shape_for(shape, h)
        if of_slot is not None:
            stored = slot.slot_dtype(chosen, of_slot == shape, h)
            yield slot.name, (of_slot, CODECS[stored](compute_dtype, slot.nonnegative))


def _slot_dtype(optimizer, role):
    """How the slots of a variable are stored: in eight bits only where that saves much and is known to work."""
    exact = math.prod(role.shape) < FEWEST_IN_EIGHT_BITS or role.seen_by("slots").kind == EMBEDDING
    return "float32" if optimizer.slot_dtype == "int8" and exact else optimizer.slot_dtype


def add_stored(optimizer, stages, state):
    """Makes the optimizer's variables for a trained variable."""
    for stage in stages if state.overwrite else state.stages:
        # A gradient that is the next value is only accumulated.
        if not state.overwrite or stage.of_window:
            state.declared |= stage.stores(state)
    window = {role for stage in stages if stage.of_window for role in stage.roles} & set(state.declared)
    state.window = {role: _add_stored(optimizer, state, role) for role in state.declared if role in window}
    if state.overwrite:
        return
    for slot in optimizer.slots:
        for role, part in parts(state, slot).items():
            state.stored[role] = _add(optimizer, state, role, part.shape, part.dtype, part.initial)
    if rows.is_dated(optimizer, state):
        state.stored[rows.LAST_STEP] = _add(optimizer, state, rows.LAST_STEP, state.shape[:1], "int32")
    state.stored |= {role: _add_stored(optimizer, state, role) for role in state.declared if role not in window}


def parts(state, slot) -> dict[str, Part]:
    """The parts in which a slot is stored, by role, with first values; empty if the variable has no such slot."""
    if slot.name not in state.slots:
        return {}
    shape, codec = state.slots[slot.name]
    return codec.parts(slot.name, shape, slot.initial_value(state.h))


def _add_stored(optimizer, state, role):
    one = state.declared[role]
    shape, dtype = state.shape if one.shape is None else one.shape, one.dtype or state.compute_dtype
    if one.beside:
        return _add(optimizer, state, one.name or role, shape, dtype)
    return optimizer.add_variable(shape, dtype=dtype, name=f"{state.name}_{one.name or role}")


def _add(optimizer, state, name, shape, dtype, initial=0.0):
    """A variable on the device of the trained one, and in its layout if it has the same shape."""
    with backends.beside(state.variable):
        return optimizer.add_variable(
            shape=shape,
            initializer=Constant(initial),
            dtype=dtype,
            layout=backends.slot_layout(state.variable, shape, optimizer.shard_state),
            name=f"{state.name}_{name}",
        )


@dataclass(frozen=True)
class Constant:
    """An initializer that fills with the number, in the full precision of the dtype.

    It fills by an operation, because an array could become a constant of TensorFlow's graph. Keras's Constant rounds
    to float32 on TensorFlow. It is a class because Keras compiles the `__call__` of a large sharded variable's
    initializer, which JAX refuses for a function's.
    """

    number: float

    def __call__(self, shape, dtype=None):
        return ops.full(shape, numerics.constant(self.number, dtype), dtype)
