"""The order of a step, written once for all algorithms and backends.

    unscale, reduce, rows        every gradient becomes the dense float32 sum over all replicas
    finite, accumulate           whether this call ends in an update, and with which gradient
    measure, clip                what needs all gradients at once
    rule, decay, round           one variable's new value and slots
    constraint, average          what is done with the new value
    statistics                   what the monitor shows of it

Up to `accumulate` a stage is a function of gradients. What follows is a `Transaction`: pure functions of tensors, and
the backend reads the variables, calls them and assigns the result (as one compiled program, where that is faster).
"""

from keras import ops

from keras_adaptive.core import backends, checks, cowclip, monitor, numerics, rounding, rows
from keras_adaptive.core.clock import Clock, Hyperparameters
from keras_adaptive.core.slots import THETA


class Transaction:
    """Something that is computed from gradients and variables, and assigned to the variables.

    Lists of gradients and of values run along `states`; a gradient is None where a variable is left out.

    Args:
        optimizer: the optimizer, whose options are read while the functions are traced.
        states: the `VariableState` of every variable that the optimizer was built with.
    """

    def __init__(self, optimizer, states):
        self.optimizer, self.states = optimizer, states
        self.cache: dict = {}

    @property
    def common(self):
        """By name, what is read and assigned for all variables together."""
        return {}

    @property
    def usually_goes(self):
        """Whether a call that changes nothing is the exception, and not most micro-batches of a window."""
        return self.optimizer.gradient_accumulation_steps in (None, 1)

    def variables(self, state):
        """By role, what is read and assigned for one variable."""
        raise NotImplementedError

    def measure(self, gradients, clock, values, common):
        """Scalars that every variable's update needs and that depend on all of them, by name; and the new `common`."""
        return {}, common

    def one(self, state, clock, shared, gradient, values):
        """New values for one variable, by role."""
        raise NotImplementedError

    def clock(self, scalars):
        return Clock(**scalars)

    def all(self, gradients, scalars, values, common):
        """New values for every variable, and the new `common`: what a backend calls where it holds all at once."""
        clock = self.clock(scalars)
        shared, common = self.measure(gradients, clock, values, common)
        return [
            self.one(state, clock, shared, gradient, old)
            for state, gradient, old in zip(self.states, gradients, values, strict=True)
        ], common

    @property
    def compilable(self):
        """A constraint of the user's own may hold what a compiler refuses; Keras's are known not to."""
        constraints = [state.constraint for state in self.states if state.constraint is not None]
        return all(type(constraint).__module__.split(".")[0] == "keras" for constraint in constraints)


class Accumulation(Transaction):
    """Adds a micro-batch's share to the running mean; the first one of a window begins it anew."""

    def variables(self, state):
        return state.accumulators

    def one(self, state, clock, shared, gradient, values):
        if gradient is None:
            return values
        total, begins = values["accumulator"], ops.equal(clock.t, 1)
        counts = {}
        if state.counted:
            seen = clock.scheduled_number(state.counts_name, state.compute_dtype)
            counts["counts"] = ops.where(begins, seen, values["counts"] + seen)
        if state.overwrite:
            return {"accumulator": ops.where(ops.logical_or(begins, gradient > total), gradient, total)}
        share = gradient / self.optimizer.gradient_accumulation_steps
        return {"accumulator": ops.where(begins, share, total + share)} | counts


class Update(Transaction):
    """The update of the weights, from the gradient that the whole step was about."""

    def variables(self, state):
        return state.variables

    @property
    def common(self):
        return self.optimizer.common

    def measure(self, gradients, clock, values, common):
        descended = [
            (state, gradient, of_one)
            for state, gradient, of_one in zip(self.states, gradients, values, strict=True)
            if gradient is not None and not state.overwrite
        ]
        shared: dict = {}
        if self.optimizer.global_clipnorm is not None and descended:
            gradients = [gradient for _, gradient, _ in descended]
            shared["clip"] = numerics.norm_clip(gradients, self.optimizer.global_clipnorm)
        if descended and common:
            common = self.settled(descended, clock, shared, common)
        return shared | {"settled": common}, common

    def settled(self, descended, clock, shared, common):
        """The new numbers of all variables together, from sums over them: the algorithm's `gather` and `settle`."""
        sums: dict = {}
        for state, gradient, values in descended:
            h = Hyperparameters(state, clock.since(values.get("born")), common)
            theta, gradient, slots = self.operands(state, h, self.clip(gradient, shared), values)
            for name, number in self.optimizer.gather(h, theta, gradient, *slots).items():
                number = ops.cast(number, self.optimizer.whole.compute_dtype)
                sums[name] = sums[name] + number if name in sums else number
        return self.optimizer.settle(Hyperparameters(self.optimizer.whole, clock), sums, **common)

    def one(self, state, clock, shared, gradient, values):
        h = Hyperparameters(state, clock.since(values.get("born")), shared["settled"])
        noise = rounding.Noise(self.optimizer.seed, state.index, clock.t)
        new, clipped = dict(values), None
        if gradient is not None and state.overwrite:
            new["theta"] = ops.cast(gradient, state.dtype)
        elif gradient is not None:
            clipped = self.clip(gradient, shared)
            new |= self.descend(state, h, noise, clipped, values)
        else:
            new |= self.begin(state, h, noise, values)
        if "average" in new:
            new |= self.average(state, clock, noise, new)
        if "statistics" in new:
            new["statistics"] = monitor.statistics(state, gradient, clipped, values["theta"], new["theta"])
        return new

    def clip(self, gradient, shared):
        optimizer = self.optimizer
        if "clip" in shared:
            return gradient * ops.cast(shared["clip"], gradient.dtype)
        if optimizer.clipnorm is not None:
            return gradient * numerics.norm_clip([gradient], optimizer.clipnorm)
        if optimizer.clipvalue is not None:
            return numerics.clip(gradient, optimizer.clipvalue)
        return gradient

    def descend(self, state, h, noise, gradient, values):
        """Rule, decay, rounding to the stored dtypes, constraint."""
        optimizer = self.optimizer
        theta, gradient, old = self.operands(state, h, gradient, values)
        delta, slots = optimizer.rule(h, theta, gradient, *old)
        if optimizer.cautious:
            delta = delta * numerics.caution(delta, gradient)
        delta = delta + self.decay(state, h, theta)
        stored = self.rounded(state, noise, "theta", theta - delta)
        if state.constraint is not None:
            stored = ops.cast(state.constraint(stored), state.dtype)
        new = {"theta": stored}
        for slot, tensor in zip(optimizer.slots, slots, strict=True):
            if slot.name in state.slots:
                _, codec = state.slots[slot.name]
                new |= codec.encode(slot.name, tensor, noise)
        return new

    def begin(self, state, h, noise, values):
        """The slots that begin as the weights, of a variable without a gradient: its first may come later."""
        new: dict = {}
        for slot in self.optimizer.slots:
            if slot.initial is THETA and slot.name in state.slots:
                _, codec = state.slots[slot.name]
                new |= codec.encode(slot.name, self.slot(state, h, slot, values), noise)
        return new

    def operands(self, state, h, gradient, values):
        """What the rule takes besides h: the weights, the gradient with the L2 penalty if there is one, the slots."""
        theta = ops.cast(values["theta"], state.compute_dtype)
        if self.decays(state, "coupled"):
            gradient = gradient + h.weight_decay * theta
        if state.counted:
            gradient = self.optimizer.cowclip.clip(gradient, theta, h.counts)
        slots = []
        for slot in self.optimizer.slots:
            slots.append(self.slot(state, h, slot, values) if slot.name in state.slots else 0.0)
        return theta, gradient, slots

    def slot(self, state, h, slot, values):
        """A slot as the rule reads it."""
        _, codec = state.slots[slot.name]
        tensor = codec.decode(slot.name, values)
        if slot.initial is not THETA:
            return tensor
        return ops.where(ops.equal(h.t, 1), ops.cast(values["theta"], state.compute_dtype), tensor)

    def decay(self, state, h, theta):
        """What weight decay outside of the rule takes away from the weights."""
        if self.decays(state, "decoupled"):
            return h.eta * h.weight_decay * theta
        if self.decays(state, "independent"):
            return h.weight_decay * theta
        return 0.0

    def decays(self, state, mode):
        optimizer = self.optimizer
        return optimizer.decay == "core" and state.weight_decay is not None and optimizer.weight_decay_mode == mode

    def rounded(self, state, noise, role, theta):
        """Weights, or their average, in the dtype that the weights are stored in."""
        if self.optimizer.stochastic_rounding and state.dtype == "bfloat16":
            return rounding.to_bfloat16(theta, noise(role, state.shape))
        return ops.cast(theta, state.dtype)

    def average(self, state, clock, noise, values):
        """The moving average of the weights, which begins as a copy of the first weights that it sees."""
        optimizer = self.optimizer
        role = "exact_average" if "exact_average" in values else "average"
        momentum, begins = optimizer.ema_momentum, ops.equal(clock.since(values.get("born")).t, 1)
        theta = ops.cast(values["theta"], state.compute_dtype)
        average = ops.where(begins, theta, momentum * values[role] + (1 - momentum) * theta)
        stored = self.rounded(state, noise, "average", average)
        new = {role: average} | {"average": stored}
        if optimizer.ema_overwrite_frequency is not None:
            due = ops.equal(clock.t % optimizer.ema_overwrite_frequency, 0)
            new["theta"] = ops.where(due, stored, values["theta"])
        return new


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
        present = [gradient for gradient in gradients if gradient is not None]
        go = backends.jitted(plan.cache, "finite", numerics.all_finite)(present)
    if optimizer.loss_scale is not None:
        optimizer.loss_scale.adjust(finite=go)

    if plan.accumulation is not None:
        gradients, counts, go = accumulated(optimizer, plan, gradients, counts, finite=go)
    elif optimizer.skips_nonfinite:
        count(optimizer.skipped_updates, ops.logical_not(go))

    backends.transact(plan.update, go, gradients, numbers(optimizer, optimizer.eta()) | counts)
    count(optimizer.iterations, go)


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
    values = {role: backends.read(kept) for role, kept in variables.items()}
    gradients = [gradient if s is state else None for s in optimizer.plan.states]
    shared, _ = optimizer.plan.update.measure(gradients, clock, [values] * len(gradients), {})
    for role, value in optimizer.plan.update.one(state, clock, shared, gradient, values).items():
        variables[role].assign(value)


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
