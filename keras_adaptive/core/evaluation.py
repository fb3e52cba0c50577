"""Which weights a model is evaluated and used with, where they are others than it is trained with."""

from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
from keras import ops

from keras_adaptive.core import backends
from keras_adaptive.core.matching import distinct


class Evaluated:
    """The part of `AdaptiveOptimizer` that knows the weights to evaluate at: a slot, or the average of `use_ema`.

    Attributes:
        evaluation_slot: the slot that holds them; exact.
    """

    evaluation_slot: ClassVar[str | None] = None
    # Of AdaptiveOptimizer.
    built: bool
    cautious: bool
    use_ema: bool
    plan: Any

    def training_weights(self, h, *slots):
        """The weights that training goes on from, by one variable's hyperparameters and slots; None: those it finds."""
        return None

    def evaluation_weights(self) -> dict[str, np.ndarray]:
        """The weights to evaluate and to use the model with, by the path of the variable.

        They are those of the algorithm (x of Schedule-Free, the average of DoG) or the moving average of `use_ema`; the
        weights themselves for other algorithms, and before the first update. Of variables that share a path, each gets
        a number.

        Raises:
            ValueError: the optimizer is not built.
        """
        if not self.built:
            raise ValueError("`evaluation_weights` needs an optimizer that is built: call `build(variables)` first.")
        names = distinct([state.path for state in self.plan.states])
        return {
            name: np.array(ops.convert_to_numpy(value(self, state)))
            for name, state in zip(names, self.plan.states, strict=True)
        }

    def finalize_variable_values(self, var_list):
        """Sets the variables to their evaluation weights, if those are others; `fit` calls it after the last epoch."""
        for variable in var_list if self.has_evaluation_weights else []:
            put(self, self.plan.states[self._get_variable_index(variable)])

    @property
    def has_evaluation_weights(self) -> bool:
        """Whether the weights to evaluate at are others than those that are trained."""
        return self._evaluation_role is not None

    @property
    def _evaluation_role(self) -> str | None:
        return self.evaluation_slot or ("average" if self.use_ema else None)

    def _check_evaluation(self):
        """The rule knows the weights to evaluate at, so nothing may change the step behind it."""
        for option in ("use_ema", "cautious") if self.evaluation_slot else ():
            if getattr(self, option, False):
                raise ValueError(
                    f"`{option}` must be False for {type(self).__name__}, which keeps an average of the weights by its "
                    f"own rule, as `{self.evaluation_slot}`. Received: {option}=True"
                )


def has(optimizer, state) -> bool:
    """Whether the variable has evaluation weights of its own by now; what is kept of them begins with its updates."""
    if optimizer._evaluation_role not in state.kept:
        return False
    born = state.kept.get("born")
    return int(_numpy(optimizer.iterations)) > (0 if born is None else int(_numpy(born)))


def value(optimizer, state):
    """One variable's evaluation weights: a tensor in the dtype that they are kept in."""
    if not has(optimizer, state):
        return backends.snapshot(state.variable)
    weights = backends.snapshot(state.kept[optimizer._evaluation_role])
    projected = _projection(optimizer, state)
    return weights if projected is None else projected(weights)


def put(optimizer, state):
    """Sets one variable to its evaluation weights."""
    if has(optimizer, state):
        source = state.kept[optimizer._evaluation_role]
        backends.assign_everywhere(state.variable, source, _projection(optimizer, state))


def exchange(optimizer):
    """Sets all variables to their evaluation weights; returns those that this changed, and what they held."""
    states = [state for state in optimizer.plan.states if has(optimizer, state)]
    held = [(state.variable, backends.snapshot(state.variable)) for state in states]
    for state in states:
        put(optimizer, state)
    return held


def restore(optimizer):
    """Sets to its training weights every variable that holds its evaluation weights, where the slots tell them."""
    for state in optimizer.plan.states:
        if not has(optimizer, state):
            continue
        slots = [
            codec.decode(name, _snapshots(state, codec.parts(name, shape)))
            for name, (shape, codec) in state.slots.items()
        ]
        weights = optimizer.training_weights(SimpleNamespace(**state.hyperparameters), *slots)
        held, put_in = backends.snapshot(state.variable), ops.cast(value(optimizer, state), state.dtype)
        if weights is not None and bool(_numpy(ops.all(ops.equal(held, put_in)))):
            backends.assign_everywhere(state.variable, weights)


def _snapshots(state, roles):
    return {role: backends.snapshot(state.kept[role]) for role in roles}


def _projection(optimizer, state):
    """The slot of an algorithm is an average of what no constraint has projected."""
    return state.constraint if optimizer.evaluation_slot else None


def _numpy(tensor):
    return ops.convert_to_numpy(tensor)
