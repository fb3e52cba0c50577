"""Checks of `stateless_apply`: its values have no names, and must be those of the optimizer's variables.

A check of shapes alone would accept the variables of another layer, and update them with the wrong slots and groups.
"""

import inspect

import keras

from keras_adaptive.core import wrappers
from keras_adaptive.core.state.states import path, paths

REMEDY = (
    "After freezing or unfreezing layers call `optimizer.train_only(model.trainable_variables)` and compile the model "
    "again; for another model make a new optimizer."
)


def check(optimizer, optimizer_variables, grads, trainable_variables):
    """Raises a ValueError unless each value can belong to the variable in its place."""
    known = optimizer._trainable_variables
    model = training_model(optimizer)
    # A custom step may pass only some of the model's variables.
    if model is not None and len(model.trainable_variables) == len(trainable_variables):
        _check_model(model, known)
    elif frozen := [v for v, was in zip(known, optimizer._was_trainable, strict=True) if was and not is_trainable(v)]:
        raise ValueError(
            "`trainable_variables` must be the values of variables that are trained, but trainable is now False for "
            f"{paths(frozen)}, with which the optimizer was built. {REMEDY}"
        )
    _check_shapes("trainable_variables", trainable_variables, known)
    _check_shapes("optimizer_variables", optimizer_variables, optimizer.variables)
    if len(grads) != len(known):
        raise ValueError(
            f"`grads` must have a gradient for each of {paths(known)}. If Keras's LossScaleOptimizer is around this "
            "optimizer, it was built before the variables changed: compile the model with "
            f"`model.optimizer.inner_optimizer`. Received: {len(grads)} gradients"
        )


def check_fit(optimizer):
    """Raises if `fit` on JAX reads the optimizer's variables for a model that trains other variables.

    An error in the first step would be too late: by then Keras has taken the values out of all variables, and would
    lose them.
    """
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_name in ("check_fit", "variables"):
        frame = frame.f_back
    if frame is None or frame.f_code.co_name != "_get_jax_state":
        return
    model, known = frame.f_locals.get("self"), optimizer._trainable_variables
    if isinstance(model, keras.Model) and _is_of(optimizer, model):
        own_step = type(model).train_step is not keras.Model.train_step
        if not own_step or len(model.trainable_variables) == len(known):
            _check_model(model, known)


def _is_of(optimizer, model):
    """Whether it is the model's optimizer, also inside Keras's LossScaleOptimizer."""
    return wrappers.unwrapped(getattr(model, "optimizer", None)) is optimizer


def is_trainable(variable) -> bool:
    return bool(getattr(variable, "trainable", True))


def training_model(optimizer):
    """The model whose `train_step` made this call, if this is its optimizer; else None."""
    frame = inspect.currentframe()
    while frame is not None:
        code = frame.f_code
        # Only of these frames: reading the locals of a frame keeps them alive as long as the frame.
        if code.co_name == "train_step" and code.co_varnames[:1] == ("self",):
            model = frame.f_locals["self"]
            if isinstance(model, keras.Model):
                return model if _is_of(optimizer, model) else None
        frame = frame.f_back
    return None


def _check_model(model, known):
    trained = model.trainable_variables
    if [id(variable) for variable in trained] == [id(variable) for variable in known]:
        return
    new = [path(v) for v in trained if not any(v is other for other in known)]
    gone = [path(v) for v in known if not any(v is other for other in trained)]
    what = "in another order" if not (new or gone) else f"without {gone} and with {new}"
    raise ValueError(
        f"The optimizer was built with {paths(known)}, and the model {model.name!r} trains other variables: {what}. "
        f"{REMEDY}"
    )


def _check_shapes(name, values, variables):
    given, expected = [tuple(value.shape) for value in values], [tuple(v.shape) for v in variables]
    if given == expected:
        return
    pairs = zip(variables, expected, given, strict=False)
    wrong = [f"{path(v)!r} has the shape {a} and not {b}" for v, a, b in pairs if a != b]
    raise ValueError(
        f"`{name}` must hold the values of the {len(expected)} variables that the optimizer has, in their order"
        f"{''.join(f'; {text}' for text in wrong[:3])}. They are {[path(v) for v in variables][:8]}. {REMEDY} "
        f"Received: {len(given)} values"
    )
