"""What a step computes from gradients and variables, and assigns: pure functions of tensors.

The backend reads the variables, calls the functions and assigns the result, as one compiled program where that is
faster. The order of the whole step is that of order.py.
"""

from keras_adaptive.core.backends import running as backends
from keras_adaptive.core.math.rows import Norm, Rows
from keras_adaptive.core.step import buckets
from keras_adaptive.core.step.clock import Clock


class Transaction:
    """Something that is computed from gradients and variables, and assigned to the variables.

    Lists of gradients and of values run along `states`; a gradient is None where a variable is left out, and
    `rows.Rows` where some rows of a table alone are updated: the values are those of its rows then.

    Args:
        optimizer: the optimizer, whose rule is called.
        states: the `VariableState` of every variable that the optimizer was built with.

    Attributes:
        jit_update, shard_state: the options.
        buckets: the variables whose update is the same function.
        usually_goes: a call that changes nothing is the exception, and not most micro-batches of a window.
        cache: what is compiled.
    """

    def __init__(self, optimizer, states):
        self.optimizer, self.states, self.buckets = optimizer, states, buckets.alone(states)
        self.jit_update, self.shard_state = optimizer.jit_update, optimizer.shard_state
        self.usually_goes = optimizer.gradient_accumulation_steps in (None, 1)
        self.cache: dict = {}

    @property
    def common(self):
        """By name, what is read and assigned for all variables together."""
        return {}

    def variables(self, state):
        """By role, what is read and assigned for one variable."""
        raise NotImplementedError

    def measure(self, gradients, clock, values, common):
        """Scalars that every variable's update needs and that depend on all of them, by name; and the new `common`."""
        return {}, common

    def one(self, state, clock, shared, gradient, values):
        """New values for one variable, by role."""
        raise NotImplementedError

    @property
    def passes_again(self):
        """Whether it passes over a variable several times, and holds something of its size in between."""
        return False

    def divisible(self, state):
        """Whether some rows of the variable may be taken at a time, each with its part of the gradient."""
        return False

    def clock(self, scalars):
        return Clock(first_average=self.optimizer.first_average, **scalars)

    def all(self, gradients, scalars, values, common):
        """New values for every variable, and the new `common`: what a backend calls where it holds all at once.

        A gradient may be the `rows.Norm` of one whose rows are updated elsewhere, with what is `shared`.
        """
        clock = self.clock(scalars)
        shared, common = self.measure(gradients, clock, values, common)
        new = [
            old if isinstance(gradient, Norm) else self.one(state, clock, shared, gradient, old)
            for state, gradient, old in zip(self.states, gradients, values, strict=True)
        ]
        return new, common, shared

    def run_one(self, state, clock, shared, gradient, variables):
        """Reads, computes and assigns what belongs to one variable, or to the rows of it that have a gradient."""
        rows_alone = isinstance(gradient, Rows)
        # What has no axis, such as the number of the update that the variable was added at, has no rows either.
        ids = {
            role: gradient.ids if rows_alone and len(variable.shape) else None for role, variable in variables.items()
        }
        old = {role: backends.read(variable, ids[role]) for role, variable in variables.items()}
        new = self.one(state, clock, shared, gradient, old)
        for role, variable in variables.items():
            if new[role] is not old[role]:
                backends.assign(variable, new[role], ids[role])

    def tables(self, gradients):
        """By their places, the gradients of some rows of a table."""
        return {place: gradient for place, gradient in enumerate(gradients) if isinstance(gradient, Rows)}

    def without_rows(self, gradients):
        """The gradients, with their norm alone in the place of those of some rows."""
        return [Norm(self.norm(g)) if isinstance(g, Rows) else g for g in gradients]

    def norm(self, gradient):
        """The norm of some rows, if `measure` asks for it."""
        return 0.0

    @property
    def compilable(self):
        """A constraint of the user's own may hold what a compiler refuses; Keras's are known not to."""
        return self.jit_update if self.jit_update != "auto" else not self.asks_the_user

    @property
    def asks_the_user(self):
        """Whether there is a constraint of the user's own, which may do anything, such as raise."""
        constraints = [state.constraint for state in self.states if state.constraint is not None]
        return any(type(constraint).__module__.split(".")[0] != "keras" for constraint in constraints)
