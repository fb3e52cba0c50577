"""The `h` of a rule: what one variable's update is told besides its tensors."""

from collections.abc import Mapping
from typing import Any

from keras import ops

from keras_adaptive.core import numerics


class Clock:
    """The numbers that are the same for all variables of a step, each computed once per dtype.

    Args:
        t: the number of this update, from 1: an integer tensor.
        eta: the learning rate of this update, scheduled: a scalar tensor.
    """

    def __init__(self, t, eta):
        self.t, self.eta = t, eta
        self._known: dict[tuple, Any] = {}

    def _once(self, key, compute):
        if key not in self._known:
            self._known[key] = compute()
        return self._known[key]

    def step(self, dtype: str):
        return self._once(("t", dtype), lambda: ops.cast(self.t, dtype))

    def learning_rate(self, dtype: str):
        return self._once(("eta", dtype), lambda: ops.cast(self.eta, dtype))

    def debias(self, beta: float, dtype: str):
        return self._once((beta, dtype), lambda: numerics.debias(beta, self.step(dtype)))


class Hyperparameters:
    """The hyperparameters of one variable by name, with the numbers of the step in the dtype that it computes in.

    Attributes: every hyperparameter of the algorithm as a Python number; `eta`, the scheduled learning rate; `t`, the
    number of the update from 1; `weight_decay`, or None.
    """

    def __init__(self, values: Mapping[str, Any], weight_decay: float | None, clock: Clock, dtype: str):
        vars(self).update(values)
        self.weight_decay = weight_decay
        self.t, self.eta = clock.step(dtype), clock.learning_rate(dtype)
        self._clock, self._dtype = clock, dtype

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"The algorithm has no hyperparameter {name!r}; it has {sorted(vars(self))}")

    def debias(self, beta: float):
        """1 - beta^t: what a moving average that began at zero is divided by."""
        return self._clock.debias(beta, self._dtype)
