"""Which weights a model is evaluated and used with, where they are others than it is trained with."""

import inspect
import sys

import numpy as np
from keras import ops

from keras_adaptive.core.backends import running as backends
from keras_adaptive.core.state.matching import distinct
from keras_adaptive.core.step import scheduled


def evaluation_weights(optimizer) -> dict[str, np.ndarray]:
    """The weights to evaluate and to use the model with, by the path of the variable.

    They are those of the algorithm (x of Schedule-Free, the average of DoG) or the moving average of `use_ema`; the
    weights themselves for other algorithms, and before the first update. Of variables that share a path, each gets
    a number.

    Raises:
        ValueError: the optimizer is not built.
    """
    if not optimizer.built:
        raise ValueError("`evaluation_weights` needs an optimizer that is built: call `build(variables)` first.")
    names = distinct([state.path for state in optimizer.plan.states])
    return {
        name: np.array(ops.convert_to_numpy(value(optimizer, state)))
        for name, state in zip(names, optimizer.plan.states, strict=True)
    }


def finalize_variable_values(optimizer, var_list):
    """Sets the variables to their evaluation weights, if those are others; `fit` calls it after the last epoch.

    On JAX `fit` calls it too when it is left by an error or an interrupt: the variables hold their training weights
    then, so that a later `fit` goes on as if nothing had happened.
    """
    if _fit_is_interrupted():
        put_back(optimizer)
        return
    vars(optimizer).update(set_aside=())
    for variable in var_list if optimizer.has_evaluation_weights else []:
        put(optimizer, optimizer.plan.states[optimizer._get_variable_index(variable)])


def has_evaluation_weights(optimizer) -> bool:
    """Whether the weights to evaluate at are others than those that are trained."""
    return _role(optimizer) is not None


def _role(optimizer) -> str | None:
    return optimizer.evaluation_slot or ("average" if optimizer.use_ema else None)


def check(optimizer):
    """The rule knows the weights to evaluate at, so nothing may change the step behind it."""
    for option in ("use_ema", "cautious") if optimizer.evaluation_slot else ():
        if getattr(optimizer, option, False):
            raise ValueError(
                f"`{option}` must be False for {type(optimizer).__name__}, which stores an average of the weights by "
                f"its own rule, as `{optimizer.evaluation_slot}`. Received: {option}=True"
            )


def has(optimizer, state) -> bool:
    """Whether the variable has evaluation weights of its own by now; what is stored of them begins with its updates."""
    if _role(optimizer) not in state.stored:
        return False
    added_at = state.stored.get("added_at")
    return int(_numpy(optimizer.iterations)) > (0 if added_at is None else int(_numpy(added_at)))


def value(optimizer, state):
    """One variable's evaluation weights: a tensor in the dtype that they are stored in."""
    if not has(optimizer, state):
        return backends.snapshot(state.variable)
    weights = backends.snapshot(state.stored[_role(optimizer)])
    projected = _projection(optimizer, state)
    return weights if projected is None else projected(weights)


def put(optimizer, state):
    """Sets one variable to its evaluation weights."""
    if has(optimizer, state):
        source = state.stored[_role(optimizer)]
        backends.assign_everywhere(state.variable, source, _projection(optimizer, state))


def exchange(optimizer):
    """Sets all variables to their evaluation weights, and the training weights aside."""
    # After an interrupt they may be aside already.
    before = {id(state): weights for state, weights in _still_aside(optimizer)}
    states = [state for state in optimizer.plan.states if has(optimizer, state)]
    aside = tuple((state, before.get(id(state), backends.snapshot(state.variable))) for state in states)
    vars(optimizer).update(set_aside=aside)
    for state in states:
        put(optimizer, state)


def put_back(optimizer):
    """Sets the variables to the training weights that were set aside."""
    for state, weights in optimizer.set_aside:
        backends.assign_everywhere(state.variable, weights)
    vars(optimizer).update(set_aside=())


def restore(optimizer):
    """Sets to its training weights every variable that holds its evaluation weights, where they are known.

    They are if they were set aside before an interrupt, or if the slots tell them.
    """
    vars(optimizer).update(set_aside=_still_aside(optimizer))
    put_back(optimizer)
    for state in optimizer.plan.states:
        if not has(optimizer, state):
            continue
        slots = [
            codec.decode(name, _snapshots(state, codec.parts(name, shape)))
            for name, (shape, codec) in state.slots.items()
        ]
        weights = optimizer.training_weights(scheduled.last(optimizer, state), *slots)
        if weights is not None and _holds_evaluation_weights(optimizer, state):
            backends.assign_everywhere(state.variable, weights)


def _holds_evaluation_weights(optimizer, state):
    held, put_in = backends.snapshot(state.variable), ops.cast(value(optimizer, state), state.dtype)
    return bool(_numpy(ops.all(ops.equal(held, put_in))))


def _still_aside(optimizer):
    """What was set aside of variables that nobody has set since, such as by loading weights."""
    return tuple((state, w) for state, w in optimizer.set_aside if _holds_evaluation_weights(optimizer, state))


def _fit_is_interrupted():
    """Whether an error is leaving the function that finalizes the variables, which then is in its `finally`.

    An error that a caller further up handles meanwhile began its traceback there.
    """
    error, frame = sys.exc_info()[1], inspect.currentframe()
    while frame is not None and frame.f_code.co_name in ("_fit_is_interrupted", "finalize_variable_values"):
        frame = frame.f_back
    return error is not None and error.__traceback__ is not None and error.__traceback__.tb_frame is frame


def _snapshots(state, roles):
    return {role: backends.snapshot(state.stored[role]) for role in roles}


def _projection(optimizer, state):
    """The slot of an algorithm is an average of what no constraint has projected."""
    return state.constraint if optimizer.evaluation_slot else None


def _numpy(tensor):
    return ops.convert_to_numpy(tensor)
