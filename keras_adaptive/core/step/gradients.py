"""Checks the gradients that are given to `apply`."""

import warnings

from keras import backend

from keras_adaptive.core import given
from keras_adaptive.core.backends import running as backends
from keras_adaptive.core.state.states import path, paths


def listed(grads):
    """The gradients as a list."""
    _check_is_list("grads", grads, "with a gradient or None for each variable")
    return [backends.accepted(gradient) for gradient in grads]


def pairs(grads_and_vars):
    """The gradients, and their variables."""
    _check_is_list("grads_and_vars", grads_and_vars, "of pairs (gradient, variable)")
    listed = list(grads_and_vars)
    for place, pair in enumerate(listed):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(
                "`grads_and_vars` must be a list of pairs (gradient, variable), such as "
                f"`zip(grads, model.trainable_variables)`. Received: grads_and_vars[{place}]={given.shown(pair)}"
            )
    return [gradient for gradient, _ in listed], [variable for _, variable in listed]


def _check_is_list(name, values, of_what):
    if given.is_one(values) or not hasattr(values, "__iter__"):
        raise TypeError(f"`{name}` must be a list {of_what}. Received: {name}={given.shown(values)}")


def check(grads, variables):
    """Raises unless there is at least one gradient, and each fits its variable."""
    if len(grads) != len(variables):
        raise ValueError(
            f"`grads` must have a gradient for each of the {len(variables)} variables. Received: {len(grads)} gradients"
        )
    if all(gradient is None for gradient in grads):
        raise ValueError(
            "`grads` must hold at least one gradient. No gradients provided for any variable. Received: "
            f"grads={grads}, trainable_variables={paths(variables)}"
        )
    for gradient, variable in zip(grads, variables, strict=True):
        if gradient is None:
            continue
        if not (backends.is_sparse(gradient) or hasattr(gradient, "shape")):
            raise TypeError(
                f"`grads` must hold tensors or None. Received for {path(variable)!r}: {given.shown(gradient)}"
            )
        check_dtype(gradient, variable)
        if not fits(backends.known_shape(gradient), tuple(variable.shape)):
            raise ValueError(
                f"The gradient of {path(variable)!r} must have its shape {tuple(variable.shape)}. "
                f"Received: a gradient of shape {backends.known_shape(gradient)}"
            )
        fault = backends.fault_of_rows(gradient, tuple(variable.shape)) if backends.is_sparse(gradient) else None
        if fault is not None:
            raise ValueError(
                f"`grads` must hold an index for each row of values, and the dense_shape {tuple(variable.shape)} or "
                f"none. Received for {path(variable)!r}: a gradient with {fault}"
            )


def check_dtype(gradient, variable):
    """Raises for a gradient that is not of real numbers. Integers count as the same floats."""
    try:
        dtype = backend.standardize_dtype(gradient.dtype)
        is_real = backend.is_float_dtype(dtype) or backend.is_int_dtype(dtype)
    except ValueError:
        # A NumPy array may hold anything, and JAX has a special dtype (float0) for what has no gradient.
        dtype, is_real = str(gradient.dtype), False
    if not is_real:
        raise TypeError(
            "`grads` must be of real numbers; take the real part of a complex gradient, and cast a mask to float32. "
            f"Received for {path(variable)!r}: a gradient of dtype {dtype}"
        )


def in_order(optimizer, keys, grads, variables):
    """The gradients in the order of the optimizer's variables, None for a variable without one; warns about these.

    Args:
        keys: the optimizer's keys of the variables.

    Raises:
        ValueError: a variable with which the optimizer was not built.
    """
    for key, variable in zip(keys, variables, strict=True):
        if key not in optimizer._trainable_variables_indices:
            raise ValueError(
                f"Unknown variable {path(variable)!r}: the optimizer was built with "
                f"{paths(optimizer._trainable_variables)}. Call `optimizer.extend(model.trainable_variables)` (or "
                "`train_only`, if others were frozen) and compile the model again, or make a new optimizer."
            )
    missing = [path(v) for v, g in zip(variables, grads, strict=True) if g is None]
    if missing:
        warnings.warn(
            f"Gradients do not exist for variables {missing} when minimizing the loss. If you are using "
            "`model.compile()`, did you forget to provide a `loss` argument?",
            stacklevel=3,
        )
    by_key = dict(zip(keys, grads, strict=True))
    return [by_key.get(optimizer._var_key(v)) for v in optimizer._trainable_variables]


def check_lazy(optimizer, grads):
    """Raises for a gradient of some rows if sparse="lazy" and these rows cannot be updated alone."""
    for state, gradient in zip(optimizer.plan.states, grads, strict=True):
        if optimizer.sparse == "lazy" and backends.is_sparse(gradient) and state.why_all_rows is not None:
            raise ValueError(
                f"`sparse` must be 'exact' where a gradient holds some rows of {state.path!r}, because "
                f"{state.why_all_rows}. Received: sparse='lazy'"
            )


def fits(known, shape):
    """Whether a shape can be this one; None stands for a length that is not known while tracing."""
    if known is None:
        return True
    return len(known) == len(shape) and all(k in (None, n) for k, n in zip(known, shape, strict=True))
