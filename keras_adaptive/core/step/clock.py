"""The `h` of a rule: the numbers for the update of one variable."""

import copy
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from keras import ops

from keras_adaptive.core.math import numerics
from keras_adaptive.core.step import scheduled


class Clock:
    """The numbers that are the same for all variables of a step, each computed once per dtype.

    Args:
        t: the number of this update, from 1: an integer tensor.
        eta: the learning rate of this update, scheduled: a scalar tensor.
        first_average: the update at which moving averages begin.
        scheduled: other numbers for this update, by name: hyperparameters, counts.
    """

    def __init__(self, t, eta, first_average: int = 1, **scheduled):
        self.t, self.eta, self.first_average, self.scheduled = t, eta, first_average, scheduled
        self._known: dict[tuple, Any] = {}

    def once(self, key, compute):
        # Tensors cannot be hashed.
        key = tuple(id(part) if ops.is_tensor(part) else part for part in key)
        if key not in self._known:
            self._known[key] = compute()
        return self._known[key]

    def since(self, added_at):
        """The clock of a variable that was added after `added_at` updates: its t counts from there, eta is the same."""
        if added_at is None:
            return self
        own = copy.copy(self)
        own.t, own._known = self.t - ops.cast(added_at, self.t.dtype), {}
        return own

    def step(self, dtype: str):
        return self.once(("t", dtype), lambda: ops.cast(self.t, dtype))

    def learning_rate(self, multiplier: float, dtype: str):
        def multiplied():
            eta = ops.cast(self.eta, dtype)
            return eta if multiplier == 1.0 else eta * multiplier

        return self.once(("eta", multiplier, dtype), multiplied)

    def scheduled_number(self, name: str, dtype: str):
        return self.once((name, dtype), lambda: ops.cast(self.scheduled[name], dtype))

    def debias(self, beta, dtype: str, updates: int):
        """1 - beta^k, where k is the number of updates of an average plus `updates`."""

        def debiased():
            k = self.step(dtype) + updates if updates else self.step(dtype)
            if self.first_average > 1:
                k = numerics.maximum(k - (self.first_average - 1), 1.0)
            return numerics.debias(beta, k)

        return self.once(("debias", beta, dtype, updates), debiased)


class Hyperparameters:
    """The hyperparameters of one variable by name, with the numbers of the step in its dtype of the arithmetic.

    Attributes:
        (every hyperparameter): as the variable's groups set it. A Python number, or a scalar tensor if it has a
            schedule or the caller of the step gave it.
        (every scalar): a number that `update_scalars` returned for all variables.
        eta: the learning rate of this update, scheduled and multiplied by the group's multiplier.
        t: the number of the update, from 1.
        weight_decay: lambda, a number or a scalar tensor; 0.0 without weight decay.
        variable: what the algorithm's `about` returned for the variable, by name.

    Args:
        state: the `VariableState`, or `OfAll` for all variables together.
        clock: the clock of the step, whose t counts the updates of this variable.
        shared: the numbers that depend on all variables, by name.
        values: what is stored for the variable before the update, by role.
    """

    def __init__(self, state, clock: Clock, shared: Mapping[str, Any], values: Mapping[str, Any] | None = None):
        vars(self).update(state.hyperparameters)
        self.variable = SimpleNamespace(**state.facts)
        self._clock, self._dtype = clock, state.compute_dtype
        scalars = shared.get("scalars") or {}
        vars(self).update({name: ops.cast(number, self._dtype) for name, number in scalars.items()})
        self.weight_decay = 0.0 if state.weight_decay is None else state.weight_decay
        self._given: dict[str, Any] = {}
        for argument, name in state.clock_names.items():
            if name in clock.scheduled and not (argument == "weight_decay" and state.weight_decay is None):
                self._given[name] = clock.scheduled_number(name, self._dtype)
                setattr(self, argument, self._given[name])
        self._values = values or {}
        if state.counted and state.counts_name in clock.scheduled:
            self.counts = clock.scheduled_number(state.counts_name, self._dtype)
        self.t = clock.step(self._dtype)
        self.eta = clock.learning_rate(state.learning_rate_multiplier, self._dtype)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"The algorithm has no hyperparameter {name!r}; it has {sorted(vars(self))}")

    def debias(self, beta, updates: int = 0):
        """The divisor of a moving average that began at zero: 1 - beta^t, or 1 - beta_1 ... beta_t of a schedule.

        Args:
            beta: a number, or a hyperparameter as `h` has it.
            updates: -1 for the divisor at the previous update; 1 for the next update, with the same beta.
        """
        if not ops.is_tensor(beta):
            return self._clock.debias(beta, self._dtype, updates)
        name = next((name for name, number in self._given.items() if number is beta), None)
        if name is None:
            raise ValueError(
                "`beta` of `h.debias` must be a number, or a hyperparameter as `h` has it, whose values at earlier "
                f"updates count too. Received: {beta!r}"
            )
        role, clock = name + scheduled.DEBIAS, self._clock
        if role in self._values:
            before = ops.cast(self._values[role], self._dtype)
            after = scheduled.after(before, beta, clock.t, clock.first_average)
        elif role in clock.scheduled:
            before, after = (clock.scheduled_number(one, self._dtype) for one in (role + scheduled.BEFORE, role))
        else:
            return clock.debias(beta, self._dtype, updates)
        return {-1: before, 0: after, 1: beta * after + (1 - beta)}[updates]

    def once(self, key, compute):
        """`compute()`, computed once for all variables: a scalar tensor that depends only on t and the key."""
        return self._clock.once((*key, self._dtype), compute)

    def every(self, k: int, compute, last, start: int | None = None):
        """`compute()` at the updates 1, 1 + k, 1 + 2k, ...; at all others `last`, tensors of the same structure.

        With `start`: at that update, and at later updates whose number is a multiple of k.
        """
        t = self._clock.t
        if start is None and k == 1:
            return compute()
        if start is None:
            due = ops.equal((t - 1) % k, 0)
        else:
            due = ops.logical_or(ops.equal(t, start), ops.logical_and(t > start, ops.equal(t % k, 0)))
        return ops.cond(due, compute, lambda: last)
