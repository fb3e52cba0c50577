"""The `h` of a rule: what one variable's update is told besides its tensors."""

import copy
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from keras import ops

from keras_adaptive.core.math import numerics


class Clock:
    """The numbers that are the same for all variables of a step, each computed once per dtype.

    Args:
        t: the number of this update, from 1: an integer tensor.
        eta: the learning rate of this update, scheduled: a scalar tensor.
        scheduled: other numbers that a schedule gave for this update, by name.
    """

    def __init__(self, t, eta, **scheduled):
        self.t, self.eta, self.scheduled = t, eta, scheduled
        self._known: dict[tuple, Any] = {}

    def once(self, key, compute):
        if key not in self._known:
            self._known[key] = compute()
        return self._known[key]

    def since(self, born):
        """The clock of a variable that was added after `born` updates: its own t, the same eta; None for the first."""
        if born is None:
            return self
        own = copy.copy(self)
        own.t, own._known = self.t - ops.cast(born, self.t.dtype), {}
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

    def debias(self, beta: float, dtype: str):
        return self.once((beta, dtype), lambda: numerics.debias(beta, self.step(dtype)))


class Hyperparameters:
    """The hyperparameters of one variable by name, with the numbers of the step in the dtype that it computes in.

    Attributes: every hyperparameter of the algorithm as a Python number, as the variable's group has it; `eta`, the
    learning rate of this update, scheduled and multiplied by the group's multiplier; `t`, the number of the update
    from 1; `weight_decay`: lambda, a number or a scalar tensor, 0.0 where there is none; `variable`, what the
    algorithm's `about` says of it, by name; the numbers that its `settle` returned for all variables.
    """

    def __init__(self, state, clock: Clock, settled: Mapping[str, Any] | None = None):
        vars(self).update(state.hyperparameters)
        self.variable = SimpleNamespace(**state.facts)
        self._clock, self._dtype = clock, state.compute_dtype
        vars(self).update({name: ops.cast(number, self._dtype) for name, number in (settled or {}).items()})
        self.weight_decay = 0.0 if state.weight_decay is None else state.weight_decay
        if state.scheduled_decay is not None:
            self.weight_decay = clock.scheduled_number(state.scheduled_decay, self._dtype)
        if state.counted and state.counts_name in clock.scheduled:
            self.counts = clock.scheduled_number(state.counts_name, self._dtype)
        self.t = clock.step(self._dtype)
        self.eta = clock.learning_rate(state.learning_rate_multiplier, self._dtype)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"The algorithm has no hyperparameter {name!r}; it has {sorted(vars(self))}")

    def debias(self, beta: float):
        """1 - beta^t: what a moving average that began at zero is divided by."""
        return self._clock.debias(beta, self._dtype)

    def once(self, key, compute):
        """`compute()`, a scalar tensor that only t and what the key names decide: computed once for all variables."""
        return self._clock.once((*key, self._dtype), compute)

    def every(self, k: int, compute, kept, start: int | None = None):
        """`compute()` in the updates 1, 1 + k, 1 + 2k, ...; in all others `kept`, tensors of the same structure.

        With a start: in that update, and in those after it whose number is a multiple of k.
        """
        t = self._clock.t
        if start is None and k == 1:
            return compute()
        if start is None:
            due = ops.equal((t - 1) % k, 0)
        else:
            due = ops.logical_or(ops.equal(t, start), ops.logical_and(t > start, ops.equal(t % k, 0)))
        return ops.cond(due, compute, lambda: kept)
