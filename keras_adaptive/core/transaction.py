"""What a step computes from gradients and variables, and assigns: pure functions of tensors.

The backend reads the variables, calls the functions and assigns the result, as one compiled program where that is
faster. The order of the stages is that of core/step.py.
"""

from keras import ops

from keras_adaptive.core import backends, monitor, numerics, rounding, rows
from keras_adaptive.core.clock import Clock, Hyperparameters
from keras_adaptive.core.slots import THETA
from keras_adaptive.core.states import Kind


class Transaction:
    """Something that is computed from gradients and variables, and assigned to the variables.

    Lists of gradients and of values run along `states`; a gradient is None where a variable is left out, and
    `rows.Rows` where some rows of a table alone are updated: the values are those of its rows then.

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

    def divisible(self, state):
        """Whether some rows of the variable may be taken at a time, each with its part of the gradient."""
        return False

    def kind(self, state):
        """The `Kind` of the variable; None if there is no other one of its kind."""
        return None

    def clock(self, scalars):
        return Clock(**scalars)

    def all(self, gradients, scalars, values, common):
        """New values for every variable, and the new `common`: what a backend calls where it holds all at once.

        A gradient may be the `rows.Norm` of one whose rows are updated elsewhere, with what is `shared`.
        """
        clock = self.clock(scalars)
        shared, common = self.measure(gradients, clock, values, common)
        new = [
            old if isinstance(gradient, rows.Norm) else self.one(state, clock, shared, gradient, old)
            for state, gradient, old in zip(self.states, gradients, values, strict=True)
        ]
        return new, common, shared

    def carry_out(self, state, clock, shared, gradient, variables):
        """Reads, computes and assigns what belongs to one variable, or to the rows of it that have a gradient."""
        rows_alone = isinstance(gradient, rows.Rows)
        # What has no axis, such as the number of the update that the variable was added at, has no rows either.
        ids = {role: gradient.ids if rows_alone and len(kept.shape) else None for role, kept in variables.items()}
        old = {role: backends.read(kept, ids[role]) for role, kept in variables.items()}
        new = self.one(state, clock, shared, gradient, old)
        for role, kept in variables.items():
            if new[role] is not old[role]:
                backends.assign(kept, new[role], ids[role])

    def tables(self, gradients):
        """By their places, the gradients of some rows of a table."""
        return {place: gradient for place, gradient in enumerate(gradients) if isinstance(gradient, rows.Rows)}

    def without_rows(self, gradients):
        """The gradients, with their norm alone in the place of those of some rows."""
        return [rows.Norm(self.norm(g)) if isinstance(g, rows.Rows) else g for g in gradients]

    def norm(self, gradient):
        """The norm of some rows, if `measure` asks for it."""
        return 0.0

    @property
    def compilable(self):
        """A constraint of the user's own may hold what a compiler refuses; Keras's are known not to."""
        if self.optimizer.jit_update != "auto":
            return self.optimizer.jit_update
        constraints = [state.constraint for state in self.states if state.constraint is not None]
        return all(type(constraint).__module__.split(".")[0] == "keras" for constraint in constraints)


class Accumulation(Transaction):
    """Adds a micro-batch's share to the running mean; the first one of a window begins it anew."""

    def variables(self, state):
        return state.accumulators

    def kind(self, state):
        return None if state.overwrite or state.counted else Kind((state.compute_dtype,))

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
            gradients = [rows.measured(gradient) for _, gradient, _ in descended]
            shared["clip"] = numerics.norm_clip(gradients, self.optimizer.global_clipnorm)
        if descended and common:
            common = self.settled(descended, clock, shared, common)
        return shared | {"settled": common}, common

    def divisible(self, state):
        return state.divisible and self.optimizer.clipnorm is None

    def kind(self, state):
        return state.kind(self.optimizer)

    def norm(self, gradient):
        limit = self.optimizer.global_clipnorm
        return 0.0 if limit is None else numerics.norm(rows.measured(gradient))

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
        own_clock = clock.since(values.get("born"))
        h = Hyperparameters(state, own_clock, shared["settled"])
        ids = gradient.ids if isinstance(gradient, rows.Rows) else None
        noise = rounding.Noise(self.optimizer.seed, state.index, clock.t, ids)
        new, clipped = dict(values), None
        if gradient is not None and state.overwrite:
            new["theta"] = ops.cast(gradient, state.dtype)
        elif gradient is not None:
            clipped = self.clip(gradient, shared)
            new |= self.descend(state, h, noise, clipped, values)
        else:
            new |= self.begin(state, h, noise, values)
        if rows.AS_OF in values:
            # An update without a gradient is none: nothing fades.
            as_of = values[rows.AS_OF]
            new[rows.AS_OF] = as_of + 1 if gradient is None else ops.zeros_like(as_of) + own_clock.t
        if "average" in new:
            new |= self.average(state, clock, noise, new)
        if "statistics" in new:
            new["statistics"] = monitor.statistics(state, gradient, clipped, values["theta"], new["theta"])
        return new

    def clip(self, gradient, shared):
        optimizer = self.optimizer
        values = gradient.values if isinstance(gradient, rows.Rows) else gradient
        if "clip" in shared:
            return values * ops.cast(shared["clip"], values.dtype)
        if optimizer.clipnorm is not None:
            return values * numerics.norm_clip([rows.measured(gradient)], optimizer.clipnorm)
        if optimizer.clipvalue is not None:
            return numerics.clip(values, optimizer.clipvalue)
        return values

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
        if rows.AS_OF in values and isinstance(slot.idle, str):
            tensor = rows.up_to_date(tensor, getattr(h, slot.idle), h.t, values[rows.AS_OF])
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
            return rounding.to_bfloat16(theta, noise(role, theta.shape))
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
