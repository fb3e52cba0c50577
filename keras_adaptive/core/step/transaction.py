"""What a step computes from gradients and variables, and assigns: pure functions of tensors.

The backend reads the variables, calls the functions and assigns the result, as one compiled program if that is faster.
order.py has the order of the full step.
"""

from keras_adaptive.core.backends import running as backends
from keras_adaptive.core.math.rows import Lookups, Norm
from keras_adaptive.core.step import buckets
from keras_adaptive.core.step.clock import Clock


class Transaction:
    """A computation from gradients and variables whose result is assigned to the variables.

    Lists of gradients and of values have the order of `states`. A gradient is None for a variable without one. It is
    `rows.Lookups` if only some rows of a table are updated; then the values are those of these rows.

    Args:
        optimizer: the optimizer, whose rule is called.
        states: the `VariableState` of every variable with which the optimizer was built.

    Attributes:
        jit_update, shard_state: the options.
        buckets: the variables that have the same update function.
        usually_goes: most calls change something; with accumulation most micro-batches of a window do not.
        cache: compiled functions.
    """

    def __init__(self, optimizer, states):
        self.optimizer, self.states, self.buckets = optimizer, states, buckets.alone(states)
        self.jit_update, self.shard_state = optimizer.jit_update, optimizer.shard_state
        self.usually_goes = optimizer.gradient_accumulation_steps in (None, 1)
        self.cache: dict = {}

    @property
    def common(self):
        """The variables that are read and assigned for all variables together, by name."""
        return {}

    def variables(self, state):
        """The variables that are read and assigned for one variable, by role."""
        raise NotImplementedError

    def measure(self, gradients, clock, values, common):
        """Scalars from all variables that each update needs, by name; and the new `common`."""
        return {}, common

    def one(self, state, clock, shared, gradient, values):
        """New values for one variable, by role."""
        raise NotImplementedError

    def some(self, states, clock, shared, gradients, values):
        """New values for each of the variables of a stack, by role."""
        raise NotImplementedError

    def stacks(self, gradients) -> list[tuple[int, ...]]:
        """The places of the variables of each stack; every other variable is updated alone."""
        return []

    @property
    def passes_again(self):
        """Whether it passes over a variable several times, with temporaries of its size in between."""
        return False

    def divisible(self, state):
        """Whether some rows of the variable may be updated at a time, with their part of the gradient."""
        return False

    def clock(self, scalars):
        return Clock(first_average=self.optimizer.first_average, **scalars)

    def all(self, gradients, scalars, values, common, one=None):
        """New values for every variable, the new `common`, and what is shared; for a backend that updates all at once.

        A gradient may be a `rows.Norm`; then its rows are updated elsewhere, with what is shared. A backend may give
        another function for `one`.
        """
        one = one or self.one
        clock = self.clock(scalars)
        shared, common = self.measure(gradients, clock, values, common)
        found = self.stacked(clock, shared, gradients, values)
        new = [
            old if isinstance(gradient, Norm) else found.get(place) or one(state, clock, shared, gradient, old)
            for place, (state, gradient, old) in enumerate(zip(self.states, gradients, values, strict=True))
        ]
        return new, common, shared

    def stacked(self, clock, shared, gradients, values) -> dict[int, dict]:
        """New values for the variables of all stacks, by place."""
        found: dict[int, dict] = {}
        for places in self.stacks(gradients):
            states, of_each, old = ([each[place] for place in places] for each in (self.states, gradients, values))
            found |= zip(places, self.some(states, clock, shared, of_each, old), strict=True)
        return found

    def run_one(self, state, clock, shared, gradient, variables, read=backends.read):
        """Reads, computes and assigns for one variable, or for those of its rows that have a gradient."""
        rows_alone = isinstance(gradient, Lookups)
        gradient = gradient.rows() if rows_alone else gradient
        # What has no axis, such as `added_at`, has no rows either.
        ids = {
            role: gradient.ids if rows_alone and len(variable.shape) else None for role, variable in variables.items()
        }
        old = {role: read(variable, ids[role]) for role, variable in variables.items()}
        new = self.one(state, clock, shared, gradient, old)
        for role, variable in variables.items():
            if new[role] is not old[role]:
                backends.assign(variable, new[role], ids[role])

    def tables(self, gradients):
        """The gradients of some rows of a table, by the place of the variable."""
        return {place: gradient for place, gradient in enumerate(gradients) if isinstance(gradient, Lookups)}

    def without_rows(self, gradients):
        """The gradients; those of some rows are replaced by their norms."""
        return [Norm(self.norm(g)) if isinstance(g, Lookups) else g for g in gradients]

    def norm(self, gradient):
        """The norm of some rows, if `measure` asks for it."""
        return 0.0

    @property
    def compilable(self):
        """Whether the update may be compiled: a custom constraint may hold what a compiler refuses; Keras's do not."""
        return self.jit_update if self.jit_update != "auto" else not self.asks_the_user

    @property
    def asks_the_user(self):
        """Whether there is a custom constraint, which may do anything, for example raise."""
        constraints = [state.constraint for state in self.states if state.constraint is not None]
        return any(type(constraint).__module__.split(".")[0] != "keras" for constraint in constraints)
