"""Checks the variables that an optimizer is given, before anything is made for them."""

import keras
from keras import backend

from keras_adaptive.core.backends import running as backends
from keras_adaptive.core.state.states import path

_WHAT_TO_DO = (
    "Pass a list of them, such as `model.trainable_variables`. Wrap an array as `keras.Variable(array)`, and a module "
    "of torch in `keras.layers.TorchModuleWrapper`"
)


def variables(name, values) -> list:
    """The values as a list, if they are variables that can be trained.

    Args:
        name: the name of their argument.
        values: what was given.

    Raises:
        TypeError: not a list, or an element that is not a variable of Keras (or TensorFlow), or not of real numbers.
    """
    # Iterating a variable, an array or a string gives something else, on JAX without an end.
    if is_one(values) or not hasattr(values, "__iter__"):
        raise TypeError(f"`{name}` must be a list of Keras variables. {_WHAT_TO_DO}. Received: {name}={shown(values)}")
    given = list(values)
    for place, variable in enumerate(given):
        if not backends.is_variable(variable):
            raise TypeError(
                f"`{name}` must be Keras variables. {_WHAT_TO_DO}. Received: {name}[{place}]={shown(variable)}"
            )
        dtype = backend.standardize_dtype(variable.dtype)
        if not backend.is_float_dtype(dtype):
            raise TypeError(
                f"`{name}` must have a floating-point dtype: an optimizer trains real numbers. Set trainable=False for "
                f"{path(variable)!r}, or make it of float32 (two of them for a complex number). "
                f"Received: {name}[{place}] of dtype {dtype}"
            )
    return given


def is_one(values):
    """Whether it is a single object over which Python can iterate, and not a list."""
    return isinstance(values, str | bytes | dict | keras.Variable | keras.Layer) or hasattr(values, "shape")


def shown(value):
    """The class, and the value if that is short."""
    cls = type(value)
    text = repr(value) if value is None or isinstance(value, str | int | float) else ""
    return f"{text[:40]} of class {cls.__module__}.{cls.__name__}" if text else f"a {cls.__module__}.{cls.__name__}"
