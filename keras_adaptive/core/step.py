"""The order of a step, written once for all algorithms and backends.

    unscale, reduce, rows        every gradient becomes the dense float32 sum over all replicas
    finite, accumulate           whether this call ends in an update, and with which gradient
    measure, clip                what needs all gradients at once
    rule, decay, round           one variable's new value and slots
    constraint, average          what is done with the new value
    statistics                   what the monitor shows of it

Up to `accumulate` a stage is a function of gradients, here. What follows is a `Transaction` (core/transaction.py) that
the backend carries out.
"""

from keras import ops

from keras_adaptive.core import backends, checks, cowclip, numerics, rows
from keras_adaptive.core.clock import Clock
from keras_adaptive.core.transaction import Accumulation, Update


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


@backends.opaque
def apply(optimizer, gradients, counts):
    """One call of the optimizer: a step, or one micro-batch of a step that is accumulated.

    Args:
        optimizer: the optimizer, built.
        gradients: one for each variable that it was built with; None for a variable that is left out.
        counts: for each, how often its rows were looked up, if the caller said so.
    """
    plan = optimizer.plan
    gradients, counts = prepared(optimizer, plan.states, gradients, counts)
    go = True
    if optimizer.skips_nonfinite:
        go = finite(optimizer, gradients)
    if optimizer.loss_scale is not None:
        optimizer.loss_scale.adjust(finite=go)

    if plan.accumulation is not None:
        gradients, counts, go = accumulated(optimizer, plan, gradients, counts, finite=go)
    elif optimizer.skips_nonfinite:
        count(optimizer.skipped_updates, ops.logical_not(go))

    backends.transact(plan.update, go, gradients, numbers(optimizer, optimizer.eta()) | counts)
    count(optimizer.iterations, go)


def finite(optimizer, gradients):
    """One boolean: no element of any gradient is infinite or NaN."""
    tables = [gradient.values for gradient in gradients if isinstance(gradient, rows.Rows)]
    dense = [g for g in gradients if g is not None and not isinstance(g, rows.Rows)]
    check = numerics.all_finite
    if optimizer.jit_update is not False:
        check = backends.jitted(optimizer.plan.cache, "finite", check)
    # What is compiled for a number of rows would be compiled anew for any other.
    if not tables:
        return check(dense)
    of_tables = numerics.all_finite(tables)
    return ops.logical_and(check(dense), of_tables) if dense else of_tables


def accumulated(optimizer, plan, gradients, counts, finite):
    """The window's mean gradients and counts so far, and whether the window ends here in an update.

    A window in which any micro-batch was not finite ends without one.
    """
    position = backends.read(optimizer.window_position) + 1
    backends.transact(plan.accumulation, True, gradients, {"t": position, "eta": 0.0} | counts)
    counts = {s.counts_name: backends.read(s.counts) for s in plan.states if s.counts_name in counts}
    gradients = [
        None if gradient is None else backends.read(state.accumulator)
        for state, gradient in zip(plan.states, gradients, strict=True)
    ]
    ends = ops.equal(position, optimizer.gradient_accumulation_steps)
    optimizer.window_position.assign(ops.where(ends, ops.zeros_like(position), position))
    if not optimizer.skips_nonfinite:
        return gradients, counts, ends
    spoilt_before = ops.logical_and(position > 1, backends.read(optimizer.window_is_spoilt))
    spoilt = ops.logical_or(spoilt_before, ops.logical_not(finite))
    optimizer.window_is_spoilt.assign(spoilt)
    count(optimizer.skipped_updates, ops.logical_and(ends, spoilt))
    return gradients, counts, ops.logical_and(ends, ops.logical_not(spoilt))


def numbers(optimizer, eta):
    """What the clock of the next update is made of; schedules count updates from 0."""
    scheduled = {name: decay(optimizer.iterations) for name, decay in optimizer.plan.scheduled.items()}
    return {"t": next_update(optimizer), "eta": eta, **scheduled}


def next_update(optimizer):
    """The number of the update that comes next, from 1, in the integers that a TPU has (it emulates int64)."""
    return ops.cast(backends.read(optimizer.iterations), "int32") + 1


def count(counter, happened):
    """Adds one to the counter if it happened."""
    counter.assign_add(ops.cast(happened, counter.dtype))


def update_one(optimizer, state, gradient, variable, eta):
    """The update of a single variable from its own gradient, for a caller that does the rest of the step itself."""
    counts = cowclip.counted([state], [gradient], cowclip.given([state], [gradient], None))
    gradient = backends.mapped(lambda x: ops.cast(x, state.compute_dtype), gradient)
    gradient = rows.combined(gradient, state)
    clock = Clock(**numbers(optimizer, eta), **counts)
    variables = state.variables | {"theta": variable}
    gradients = [gradient if s is state else None for s in optimizer.plan.states]
    shared, _ = optimizer.plan.update.measure(gradients, clock, [{}] * len(gradients), {})
    optimizer.plan.update.carry_out(state, clock, shared, gradient, variables)


class Plan:
    """The states and the transactions of an optimizer, made at build and kept with what is compiled for them.

    Attributes:
        states: of the optimizer's variables.
        update, accumulation: the transactions; no accumulation where a call is a whole step.
        scheduled: the schedules of weight decay, by the name that the clock has for them.
        cache: what is compiled besides.
    """

    def __init__(self, optimizer, states):
        self.states = states
        self.scheduled: dict = {}
        for state in states:
            state.scheduled_decay = self._name(state.weight_decay) if checks.is_schedule(state.weight_decay) else None
        self.cache: dict = {}
        self.update = Update(optimizer, states)
        accumulates = optimizer.gradient_accumulation_steps not in (None, 1)
        self.accumulation = Accumulation(optimizer, states) if accumulates else None

    def _name(self, schedule):
        """The same for the same schedule, which is asked once in a step for all variables."""
        for name, known in self.scheduled.items():
            if known is schedule:
                return name
        name = f"weight_decay_{len(self.scheduled)}"
        self.scheduled[name] = schedule
        return name
