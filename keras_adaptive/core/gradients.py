"""What is given to `apply`."""

from keras_adaptive.core import backends
from keras_adaptive.core.states import path, paths


def check(grads, variables):
    """Raises unless there is a gradient, and each fits its variable."""
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
            raise TypeError(f"`grads` must hold tensors or None. Received for {path(variable)!r}: {gradient!r}")
        if not fits(backends.known_shape(gradient), tuple(variable.shape)):
            raise ValueError(
                f"The gradient of {path(variable)!r} must have its shape {tuple(variable.shape)}. "
                f"Received: a gradient of shape {backends.known_shape(gradient)}"
            )


def check_lazy(optimizer, grads):
    """Raises for a gradient of some rows where the user asks for an update of these alone and it cannot be had."""
    for state, gradient in zip(optimizer.plan.states, grads, strict=True):
        if optimizer.sparse == "lazy" and backends.is_sparse(gradient) and state.why_whole is not None:
            raise ValueError(
                f"`sparse` must be 'exact' where a gradient holds some rows of {state.path!r}, because "
                f"{state.why_whole}. Received: sparse='lazy'"
            )


def fits(known, shape):
    """Whether a shape, in which None stands for what is not known while tracing, can be this one."""
    if known is None:
        return True
    return len(known) == len(shape) and all(k in (None, n) for k, n in zip(known, shape, strict=True))
