"""Sparse gradients: repeated rows are summed, and a table is updated row by row where that gives the same result."""

import numpy as np
from keras import ops

from keras_adaptive.core import checks
from keras_adaptive.core.backends import running as backends
from keras_adaptive.core.math import numerics
from keras_adaptive.core.math.rows import Lookups, along_rows
from keras_adaptive.groups.layers import EMBEDDING

# The role of the number of the last update of each row's slots.
LAST_STEP = "last_step"


def combined(gradient, state):
    """The gradient with repeated rows summed, by the chain rule: for the full table, or only for its rows.

    For the full table it is a segment sum over all of its rows. Entries of some rows are summed where they are used,
    which is fastest in the program of the update; only sorting is faster outside of it.
    """
    if backends.is_sparse(gradient):
        if state.by_rows:
            ids, values = backends.lookups(gradient, state.shape[0])
            return Lookups(ids, values, ops.argsort(ids))
        ids, values = backends.rows_and_values(gradient)
        gradient = ops.segment_sum(values, ids, num_segments=state.shape[0])
    # TensorFlow may lose the shape, which rules may read, when it sums over replicas or makes a gradient dense.
    return gradient if backends.known_shape(gradient) == state.shape else ops.reshape(gradient, state.shape)


def counts(gradient, state):
    """The number of times each row of the table occurs in the gradient."""
    ids = backends.occurrences(gradient)
    ones = ops.ones_like(ids, dtype=state.compute_dtype)
    return ops.segment_sum(ones, ids, num_segments=state.shape[0])


def why_all_rows(optimizer, state, elementwise):
    """Why an update must pass over the full table; None if the rows of its gradient are enough.

    With sparse="lazy" rows without a gradient are not changed, neither weights nor slots. With "exact" an update of
    some rows must do everything that the dense update does.
    """
    used = [stage.option for stage in state.stages if stage.needs_all_rows]
    if used:
        return f"`{used[0]}` concerns all of its rows"
    reason = why_together(optimizer, state, elementwise)
    if reason is not None or optimizer.sparse == "lazy":
        return reason
    slots = [slot for slot in optimizer.slots if slot.name in state.slots]
    for slot in slots:
        if isinstance(slot.idle, str) and checks.is_schedule(state.hyperparameters[slot.idle]):
            return f"`{slot.idle}` is a schedule, by which the slots of all rows decay"
    if state.weight_decay:
        return "`weight_decay` changes all of its rows"
    if any(slot.idle is None for slot in slots):
        return f"{type(optimizer).__name__} moves rows without a gradient too"
    if any(isinstance(slot.idle, str) for slot in slots) and not _dates_rows(state):
        return "no layer says that it is a table of embeddings"
    return None


def why_together(optimizer, state, elementwise):
    """Why rows that all have a gradient must be updated together; None if each may be updated separately."""
    scaled = any(len(codec.parts(name, shape)) > 1 for name, (shape, codec) in state.slots.items())
    return why_coupled(optimizer, state, elementwise) or ("its slots are stored with scales" if scaled else None)


def why_coupled(optimizer, state, elementwise):
    """Why the step of a row depends on other rows; None if it does not."""
    used = [stage.option for stage in state.stages if stage.couples_elements]
    if used:
        return f"`{used[0]}` concerns all of its rows"
    if not elementwise or any(shape not in (state.shape, ()) for shape, _ in state.slots.values()):
        return f"a step of {type(optimizer).__name__} depends on all of its rows"
    if state.constraint is not None:
        return "its constraint concerns all of its rows"
    return None


def _dates_rows(state):
    """Whether the last update of each row's slots may be stored."""
    return state.role.seen_by("rows").kind == EMBEDDING


def is_dated(optimizer, state):
    """Whether slots that decay while a row has no gradient are brought up to date when the row is next read."""
    fade = any(isinstance(slot.idle, str) for slot in optimizer.slots if slot.name in state.slots)
    return state.by_rows and fade and optimizer.sparse == "exact"


def up_to_date(tensor, hyperparameter, t, last_step):
    """A slot after the missed updates before t, each of which multiplies it by the hyperparameter."""
    missed = ops.cast(t, tensor.dtype) - 1 - ops.cast(last_step, tensor.dtype)
    return tensor * along_rows(numerics.powers(hyperparameter, missed), tensor)


def restored(optimizer, state, saved, updates):
    """Saved arrays of one variable, by role, in the form in which this optimizer stores them.

    Args:
        updates: the number of updates that the variable has seen.
    """
    if LAST_STEP in state.stored and LAST_STEP not in saved:
        return {**saved, LAST_STEP: np.full(state.shape[:1], updates, "int32")}
    if LAST_STEP not in saved or LAST_STEP in state.stored:
        return saved
    saved = dict(saved)
    missed = updates - saved.pop(LAST_STEP).astype(state.compute_dtype)
    for slot in optimizer.slots:
        if slot.name in saved and isinstance(slot.idle, str):
            faded = state.hyperparameters[slot.idle] ** missed
            saved[slot.name] = saved[slot.name] * faded.reshape(-1, *[1] * (len(state.shape) - 1))
    return saved
