"""The update of the weights: the rule, and the stages that change its gradient and its result."""

from keras import ops

from keras_adaptive.core.backends import running as backends
from keras_adaptive.core.math import numerics, rounding
from keras_adaptive.core.math.rows import Rows, along_rows, measured
from keras_adaptive.core.state.slots import THETA
from keras_adaptive.core.step import buckets, rows, scheduled, stacks
from keras_adaptive.core.step.clock import Clock, Hyperparameters
from keras_adaptive.core.step.stage import Stage
from keras_adaptive.core.step.transaction import Transaction


class Step:
    """The update of one variable, as its stages see it.

    Attributes:
        state: the `VariableState`.
        h: what the rule reads.
        clock: its `Clock`, whose t counts the updates of this variable.
        t: the number of the update for the optimizer, from 1.
        shared: the numbers that depend on all variables, by name.
        values: the values before the update, by role.
        gradient: of the full step, or None; the values of the rows if it is `rows.Rows`. `clipped`: after clipping.
    """

    def __init__(self, optimizer, state, clock: Clock, shared, gradient, values):
        self.state, self.shared, self.values, self.t = state, shared, values, clock.t
        self.clock = clock.since(values.get("added_at"))
        self.h = Hyperparameters(state, self.clock, shared, values)
        self.rows = gradient if isinstance(gradient, Rows) else None
        self.gradient = self.clipped = gradient if self.rows is None else gradient.values
        of_rows = () if self.rows is None else (self.rows.ids, self.rows.length)
        self.noise = rounding.Noise(optimizer.seed, state.index, clock.t, *of_rows)
        self.rounds = optimizer.stochastic_rounding and state.dtype == "bfloat16"

    def measured(self, g):
        """A tensor with the norm of the gradient g, in which rows may be repeated."""
        return g if self.rows is None else g * along_rows(self.rows.first, g)

    def rounded(self, role, tensor):
        """Weights, or their average, in the dtype of the stored weights."""
        if self.rounds:
            return rounding.to_bfloat16(tensor, self.noise(role, tensor.shape))
        return ops.cast(tensor, self.state.dtype)


class Update(Transaction):
    """The update of the weights, from the gradient of the full step.

    Args:
        optimizer, states: see `Transaction`.
        stages: what the options add, in order; each state has the stages that apply to it.
    """

    def __init__(self, optimizer, states, stages):
        super().__init__(optimizer, states)
        self.stages = stages
        self.buckets = buckets.found(states, optimizer.stochastic_rounding, optimizer.stacks and backends.stacks())
        self.needs_norms = any(type(stage).of_all is not Stage.of_all for stage in stages)

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
        tensors = [measured(gradient) for _, gradient, _ in descended] if self.needs_norms else []
        for stage in self.stages:
            shared |= stage.of_all(tensors)
        if descended and common:
            old, common = common, self.updated_scalars(descended, clock, shared, common)
            for stage in self.stages:
                common, known = stage.on_numbers(old, common)
                shared |= known
        return shared | {"scalars": common}, common

    @property
    def passes_again(self):
        stages = any(stage.passes_again for stage in self.stages)
        return stages or not all(state.elementwise for state in self.states)

    def divisible(self, state):
        return state.divisible and not any(stage.needs_full_gradient for stage in state.stages)

    def norm(self, gradient):
        return numerics.norm(measured(gradient)) if self.needs_norms else 0.0

    def updated_scalars(self, descended, clock, shared, common):
        """The algorithm's new scalars, from sums over all variables."""
        sums: dict = {}
        for state, gradient, values in descended:
            step = Step(self.optimizer, state, clock, shared | {"scalars": common}, gradient, values)
            for name, number in self.optimizer.local_sums(step.h, *self.operands(step)).items():
                number = ops.cast(number, self.optimizer.of_all.compute_dtype)
                if state.contributed_name in clock.scheduled:
                    number = ops.where(clock.scheduled[state.contributed_name], number, ops.zeros_like(number))
                sums[name] = sums[name] + number if name in sums else number
        return self.optimizer.update_scalars(Hyperparameters(self.optimizer.of_all, clock, shared), sums, **common)

    def stacks(self, gradients):
        whole = (places for bucket in self.buckets for places in bucket.stacks)
        present = ([place for place in places if gradients[place] is not None] for places in whole)
        return [tuple(places) for places in present if len(places) > 1]

    def one(self, state, clock, shared, gradient, values):
        return self.some([state], clock, shared, [gradient], [values])[0]

    def some(self, states, clock, shared, gradients, values):
        of_each = zip(states, gradients, values, strict=True)
        steps = [Step(self.optimizer, state, clock, shared, *of_one) for state, *of_one in of_each]
        descends = steps[0].gradient is not None and not states[0].overwrite
        ruled = self.ruled(steps) if descends else [None]
        new = [self.updated(step, of_one) for step, of_one in zip(steps, ruled, strict=True)]
        return [self.if_contributed(step, clock, of_one) for step, of_one in zip(steps, new, strict=True)]

    def if_contributed(self, step, clock, new):
        """The new values; those without a gradient if it is known only now that the window had none."""
        if step.state.contributed_name not in clock.scheduled:
            return new
        idle = self.updated(Step(self.optimizer, step.state, clock, step.shared, None, step.values), None)
        contributed = clock.scheduled[step.state.contributed_name]
        return {
            role: value if value is idle[role] else ops.where(contributed, value, idle[role])
            for role, value in new.items()
        }

    def ruled(self, steps):
        """For each step the operands of the rule, and what the rule returns; one call for the steps of a stack."""
        operands = [self.operands(step) for step in steps]
        if len(steps) == 1:
            return [(operands[0], self.optimizer.rule(steps[0].h, *operands[0]))]
        return [*zip(operands, stacks.ruled(self.optimizer.rule, steps[0].h, operands), strict=True)]

    def updated(self, step, ruled):
        """New values, with what the rule returned, or without a gradient."""
        new = dict(step.values)
        if ruled is not None:
            new |= self.descend(step, *ruled)
        elif step.gradient is not None:
            new["theta"] = ops.cast(step.gradient, step.state.dtype)
        else:
            new |= self.begin(step)
        if rows.LAST_STEP in new:
            # A missing gradient (None) does not count as an update: nothing decays.
            last_step = step.values[rows.LAST_STEP]
            new[rows.LAST_STEP] = last_step + 1 if step.gradient is None else ops.zeros_like(last_step) + step.clock.t
        new |= scheduled.corrected(step.values, step.clock.scheduled, step.clock.t, step.clock.first_average)
        for stage in step.state.stages:
            new |= stage.after(step, new)
        return new

    def descend(self, step, operands, result):
        """What follows the rule: delta stages, rounding to the stored dtypes, constraint."""
        state, (theta, gradient, *old), (delta, slots) = step.state, operands, result
        for stage in state.stages:
            delta = stage.on_delta(step, theta, gradient, delta)
        names = [slot.name for slot in self.optimizer.slots]
        before = {name: tensor for name, tensor in zip(names, old, strict=True) if name in state.slots}
        after = {name: tensor for name, tensor in zip(names, slots, strict=True) if name in state.slots}
        new: dict = {}
        updated = theta - delta
        for stage in state.stages:
            updated, after, stored = stage.on_new(step, theta, before, updated, after)
            new |= stored
        new["theta"] = step.rounded("theta", updated)
        if state.constraint is not None:
            new["theta"] = ops.cast(state.constraint(new["theta"]), state.dtype)
        for name, tensor in after.items():
            _, codec = state.slots[name]
            new |= codec.encode(name, tensor, step.noise)
        return new

    def begin(self, step):
        """Sets the slots that begin as the weights, for a variable without a gradient: its first may come later."""
        new: dict = {}
        for slot in self.optimizer.slots:
            if slot.initial is THETA and slot.name in step.state.slots:
                _, codec = step.state.slots[slot.name]
                new |= codec.encode(slot.name, self.slot(step, slot), step.noise)
        return new

    def operands(self, step):
        """The tensors that the rule gets after h: the weights, the gradient after its stages, the slots."""
        theta, gradient = ops.cast(step.values["theta"], step.state.compute_dtype), step.gradient
        for stage in step.state.stages:
            gradient = stage.on_gradient(step, theta, gradient)
            if stage.clips:
                step.clipped = gradient
        slots = (self.slot(step, slot) if slot.name in step.state.slots else 0.0 for slot in self.optimizer.slots)
        return theta, gradient, *slots

    def slot(self, step, slot):
        """A slot as the rule reads it."""
        _, codec = step.state.slots[slot.name]
        tensor = codec.decode(slot.name, step.values)
        if rows.LAST_STEP in step.values and isinstance(slot.idle, str):
            tensor = rows.up_to_date(tensor, getattr(step.h, slot.idle), step.h.t, step.values[rows.LAST_STEP])
        if slot.initial is not THETA:
            return tensor
        return ops.where(ops.equal(step.h.t, 1), ops.cast(step.values["theta"], step.state.compute_dtype), tensor)
