"""The order of a step, written once for all algorithms and backends.

    unscale, reduce, rows        every gradient becomes the dense float32 sum over all replicas
    finite, accumulate           whether this call ends in an update, and with which gradient
    numbers of all variables     norms, and the algorithm's sums over all variables
    gradient stages, rule        such as clipping; then one variable's step and its new slots
    delta stages, round, assign  such as weight decay; then the constraint
    averages, statistics         what else is stored

The steps up to `accumulate` are functions of gradients, in this file. The rest is a `Transaction` (transaction.py,
update.py) that the backend runs; stage.py has the order of the stages.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from keras import backend, ops

from keras_adaptive.core.backends import running as backends
from keras_adaptive.core.math import numerics
from keras_adaptive.core.state.manifest import MOST_UPDATES
from keras_adaptive.core.state.states import VariableState
from keras_adaptive.core.step import cowclip, rows, scheduled
from keras_adaptive.core.step.accumulate import Accumulation, Window, accumulated
from keras_adaptive.core.step.nonfinite import all_finite
from keras_adaptive.core.step.scheduled import Scheduled
from keras_adaptive.core.step.stage import Stage
from keras_adaptive.core.step.update import Update


def prepared(optimizer, states, gradients, counts):
    """Unscale, reduce, rows: dense gradients in the dtype of the arithmetic, the same on every replica; and counts."""
    dynamic = None if optimizer.loss_scale is None else backends.read(optimizer.loss_scale.scale)

    def unscaled(state, gradient):
        scale = optimizer.loss_scale_factor if dynamic is None else ops.cast(dynamic, state.compute_dtype)
        if scale is None or state.overwrite:
            return backends.mapped(lambda x: ops.cast(x, state.compute_dtype), gradient)
        return backends.mapped(lambda x: ops.cast(x, state.compute_dtype) / scale, gradient)

    present = [(state, gradient) for state, gradient in zip(states, gradients, strict=True) if gradient is not None]
    overwriting = [backends.max_over_replicas(unscaled(s, g)) for s, g in present if s.overwrite]
    descending = backends.sum_over_replicas([unscaled(s, g) for s, g in present if not s.overwrite])
    queues = {True: iter(overwriting), False: iter(descending)}
    reduced = [
        None if gradient is None else next(queues[state.overwrite])
        for state, gradient in zip(states, gradients, strict=True)
    ]
    dense = [None if g is None else rows.combined(g, state) for state, g in zip(states, reduced, strict=True)]
    return dense, cowclip.counted(states, reduced, counts)


@backends.undifferentiated
def apply(optimizer, gradients, counts, given):
    """One call of the optimizer: a step, or one micro-batch of a step that is accumulated.

    Args:
        optimizer: the optimizer, built.
        gradients: one for each variable with which it was built; None for a variable without a gradient.
        counts: how often the rows of each variable were looked up, if the caller said so.
        given: hyperparameters that replace the optimizer's own, by name.
    """
    plan = optimizer.plan
    # First, because schedules and callables are the user's code and may raise. Constraints are called last.
    scalars = numbers(optimizer, optimizer.eta(), given)
    gradients, counts = prepared(optimizer, plan.states, gradients, counts)
    is_finite = all_finite(plan, gradients) if optimizer.skips_nonfinite else True
    if plan.accumulation is None:
        window = Window(gradients, counts, go=is_finite, ends=True)
    else:
        window = accumulated(optimizer, plan, gradients, counts, is_finite)
    backends.transact(plan.update, window.go, window.gradients, scalars | window.scalars)

    if optimizer.loss_scale is not None:
        optimizer.loss_scale.adjust(finite=is_finite)
    if optimizer.skips_nonfinite:
        count(optimizer.skipped_updates, ops.logical_and(window.ends, ops.logical_not(window.go)))
    for counter, value in window.counters:
        counter.assign(value)
    scheduled.store(optimizer, scalars, window.go)
    count_update(optimizer, window.go)


def numbers(optimizer, eta, given):
    """The arguments for the clock of the next update; schedules count updates from 0."""
    t = next_update(optimizer)
    hyperparameters = scheduled.asked(optimizer.plan.scheduled, optimizer.iterations) | given
    return {"t": t, "eta": eta} | hyperparameters | scheduled.of_step(optimizer, hyperparameters, t)


def next_update(optimizer):
    """The number of the next update, from 1, in int32 (a TPU emulates int64).

    Raises if the number is known and too large for int32; a compiled step stays at the last number, 2^31 - 1.
    """
    done = backends.read(optimizer.iterations)
    known = backends.at_hand(done)
    if known is not None and not 0 <= known <= MOST_UPDATES:
        raise ValueError(
            f"`optimizer.iterations` must be from 0 to {MOST_UPDATES}, because updates are counted in 32 bits; assign "
            f"a number in this range. Received: iterations={known}"
        )
    if known is not None:
        return ops.convert_to_tensor(known + 1, dtype="int32")
    most = numerics.constant(MOST_UPDATES, backend.standardize_dtype(done.dtype))
    return ops.cast(ops.where(done > most, most, done), "int32") + 1


def count_update(optimizer, happened):
    """Counts an update, up to the last number; if it is known to be exceeded, `next_update` has raised."""
    done = backends.read(optimizer.iterations)
    if backends.at_hand(done) is None:
        happened = ops.logical_and(happened, done <= MOST_UPDATES)
    count(optimizer.iterations, happened)


def count(counter, happened):
    """Adds one to the counter if it happened."""
    counter.assign_add(ops.cast(happened, counter.dtype))


@backends.undifferentiated
def update_one(optimizer, state, gradient, variable, eta):
    """The update of a single variable from its own gradient, for a caller that does the rest of the step itself."""
    counts = cowclip.counted([state], [gradient], cowclip.given([state], [gradient], None))
    gradient = backends.mapped(lambda x: ops.cast(x, state.compute_dtype), gradient)
    gradient = rows.combined(gradient, state)
    clock = optimizer.plan.update.clock(numbers(optimizer, eta, {}) | counts)
    variables = state.variables | {"theta": variable}
    gradients = [gradient if s is state else None for s in optimizer.plan.states]
    shared, _ = optimizer.plan.update.measure(gradients, clock, [{}] * len(gradients), {})
    optimizer.plan.update.run_one(state, clock, shared, gradient, variables)


@dataclass(frozen=True)
class Plan:
    """What a step does, decided when the optimizer is built, and again when other variables are trained.

    Attributes:
        states: the states of the trained variables.
        stages: what the options add to a step, in order.
        update, accumulation: the transactions; no accumulation if a call is a full step.
        scheduled: the schedules of hyperparameters, by the clock's names for them.
        cache: other compiled functions.
    """

    states: tuple[VariableState, ...]
    stages: tuple[Stage, ...]
    update: Update
    accumulation: Accumulation | None
    scheduled: Mapping[str, Scheduled]
    cache: dict = field(default_factory=dict)


def planned(optimizer, states, stages) -> Plan:
    """The plan for these states."""
    accumulates = optimizer.gradient_accumulation_steps not in (None, 1)
    accumulation = Accumulation(optimizer, states) if accumulates else None
    schedules = scheduled.found(optimizer)
    return Plan(tuple(states), stages, Update(optimizer, states, stages), accumulation, schedules)
