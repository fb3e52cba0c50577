"""Evaluation weights: the weights to evaluate and use a model with, where they differ from the training weights."""

import inspect
import sys

import numpy as np
from keras import ops

from keras_adaptive.core.backends import running as backends
from keras_adaptive.core.state.matching import distinct
from keras_adaptive.core.step import scheduled


def evaluation_weights(optimizer) -> dict[str, np.ndarray]:
    """The weights to evaluate and to use the model with, by the path of the variable.

    They are the average that the algorithm stores (x of Schedule-Free, the average of DoG) or the moving average of
    `use_ema`. For other algorithms, and before the first update, they are the weights themselves. If variables share a
    path, a number is added to each.

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
    """Sets the variables to their evaluation weights, if these differ; `fit` calls it after the last epoch.

    On JAX `fit` also calls it after an error or an interrupt. Then the variables get their training weights, so that a
    later `fit` goes on as if nothing had happened.
    """
    if _fit_is_interrupted():
        put_back(optimizer)
        return
    vars(optimizer).update(set_aside=())
    for variable in var_list if optimizer.has_evaluation_weights else []:
        put(optimizer, optimizer.plan.states[optimizer._get_variable_index(variable)])


def has_evaluation_weights(optimizer) -> bool:
    """Whether the evaluation weights differ from the training weights."""
    return _role(optimizer) is not None


def _role(optimizer) -> str | None:
    return optimizer.evaluation_slot or ("average" if optimizer.use_ema else None)


def check(optimizer):
    """Refuses options that change the step after a rule that computes the evaluation weights."""
    for option in ("use_ema", "cautious") if optimizer.evaluation_slot else ():
        if getattr(optimizer, option, False):
            raise ValueError(
                f"`{option}` must be False for {type(optimizer).__name__}, because its rule stores an average of the "
                f"weights, `{optimizer.evaluation_slot}`. Received: {option}=True"
            )


def has(optimizer, state) -> bool:
    """Whether the variable has evaluation weights by now: they begin with its first update."""
    if _role(optimizer) not in state.stored:
        return False
    added_at = state.stored.get("added_at")
    return int(_numpy(optimizer.iterations)) > (0 if added_at is None else int(_numpy(added_at)))


def value(optimizer, state):
    """One variable's evaluation weights: a tensor in the dtype in which they are stored."""
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
    """Sets all variables to their evaluation weights, and sets their training weights aside."""
    # After an interrupt they may already be set aside.
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
    """Sets each variable that holds its evaluation weights to its training weights, where these are known.

    They are known if they were set aside before an interrupt, or if the algorithm can compute them from the slots.
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
    """What was set aside, without variables that were set since, for example by loading weights."""
    return tuple((state, w) for state, w in optimizer.set_aside if _holds_evaluation_weights(optimizer, state))


def _fit_is_interrupted():
    """Whether an error is leaving the function that finalizes the variables, which is then in its `finally`.

    If instead a caller further up is handling an error, the traceback begins at that caller.
    """
    error, frame = sys.exc_info()[1], inspect.currentframe()
    while frame is not None and frame.f_code.co_name in ("_fit_is_interrupted", "finalize_variable_values"):
        frame = frame.f_back
    return error is not None and error.__traceback__ is not None and error.__traceback__.tb_frame is frame


def _snapshots(state, roles):
    return {role: backends.snapshot(state.stored[role]) for role in roles}


def _projection(optimizer, state):
    """The constraint, if the evaluation weights come from a slot: no constraint has projected that average."""
    return state.constraint if optimizer.evaluation_slot else None


def _numpy(tensor):
    return ops.convert_to_numpy(tensor)
