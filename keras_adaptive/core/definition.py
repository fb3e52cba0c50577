"""Completes the class of an algorithm when it is defined: its arguments, its signature, its docstring."""

import dataclasses
import inspect
from dataclasses import KW_ONLY

import keras

from keras_adaptive.core import checks, fields
from keras_adaptive.core.options import OPTIONS, STAGES
from keras_adaptive.core.state.limits import OF_CORE
from keras_adaptive.core.state.slots import as_slots
from keras_adaptive.core.step.clock import Hyperparameters
from keras_adaptive.core.step.scheduled import DEBIAS

# What the core stores for one variable in addition to the slots, and for all variables together.
OF_VARIABLE = {
    "theta",
    "last_step",
    "added_at",
    "gradient_accumulator",
    *(role for stage in STAGES for role in stage.roles),
}
OF_ALL = {*OF_CORE, *(name for stage in STAGES for name in stage.scalars)}
# What the `h` of a rule has in addition to hyperparameters.
OF_RULE = {"counts", "eta", "t", "variable", *(name for name in vars(Hyperparameters) if not name.startswith("__"))}


def complete(cls) -> None:
    """Takes the fields out of the class, and adds what follows from them.

    Raises:
        TypeError: the class has the form of version 0.1.0, or uses a name of the core.
    """
    _refuse_old_form(cls)
    taken = fields.taken_from(cls)
    body = {name: one for name, one in taken.items() if one is not KW_ONLY}
    if "learning_rate" in body:
        cls.positional = list(taken.values()).index(KW_ONLY) if KW_ONLY in taken.values() else 1
    cls.slots = as_slots(cls.slots)
    own = {name: _schedulable(cls, name, one) for name, one in body.items()}
    # A class that declares its learning rate declares the order too: what it inherits comes after its own.
    order = own if "learning_rate" in own else {}
    own = order | cls.own_fields | own
    cls.own_fields = own
    cls.fields = own | {name: one for name, one in OPTIONS.items() if name not in own}
    cls.hyperparameters = {
        name: one.check for name, one in own.items() if name not in OPTIONS and name != "learning_rate"
    }
    _refuse_names(cls)
    maker = next(one for one in cls.__mro__ if "__init__" in vars(one))
    is_made_of_fields = maker.__module__ == "keras_adaptive.core.optimizer"
    cls.__signature__ = (
        fields.signature(cls.fields, cls.positional) if is_made_of_fields else _without_self(maker.__init__)
    )
    # With python -OO there are no docstrings to complete.
    if is_made_of_fields and vars(cls).get("__doc__"):
        options = {name: one for name, one in cls.fields.items() if name not in own}
        cls.__doc__ = fields.documented(cls.__doc__, own, options, full=cls is maker)


def _schedulable(cls, name, field):
    """The field; if its number may change from update to update, it also accepts a schedule."""
    begins = {one.initial for one in (*cls.slots, *cls.scalars) if isinstance(one.initial, str)}
    if name in OPTIONS or name in begins or not field.may_be_scheduled:
        return field
    return dataclasses.replace(field, check=checks.scheduled(field.check))


def _without_self(constructor):
    signature = inspect.signature(constructor)
    return signature.replace(parameters=list(signature.parameters.values())[1:])


def _refuse_old_form(cls):
    is_base = cls.__module__ == "keras_adaptive.core.optimizer"
    if "hyperparameters" in vars(cls) and not is_base:
        raise TypeError(
            f"`hyperparameters` of {cls.__name__} must be fields since version 0.2.0: write each argument in the body "
            "of the class, such as `beta_1 = fraction(0.9, 'decay rate of the average')` from "
            "keras_adaptive.core.fields, and leave out `__init__`. Received: "
            f"hyperparameters={list(vars(cls)['hyperparameters'])}"
        )
    if "about" in vars(cls) and list(inspect.signature(cls.about).parameters) != ["self", "role", "h"]:
        raise TypeError(
            f"`about` of {cls.__name__} must take (self, role, h): since version 0.2.0 a variable's path and shape are "
            "role.path and role.shape, and the hyperparameters h.beta_1 and so on; the rule reads what it returns as "
            f"h.variable.NAME. Received: about{inspect.signature(cls.about)}"
        )
    _refuse_old_methods(cls)


def _refuse_old_methods(cls):
    for old, new in {"gather": "local_sums", "settle": "update_scalars"}.items():
        if old in vars(cls):
            raise TypeError(
                f"`{old}` of {cls.__name__} must be called `{new}` since version 0.2.0; its arguments are the same. "
                f"Received: {cls.__name__}.{old}"
            )


def _refuse_names(cls):
    """Refuses names that the core already uses."""
    of_optimizer = set(dir(keras.optimizers.Optimizer)) | OF_RULE
    slots, scalars = [slot.name for slot in cls.slots], [scalar.name for scalar in cls.scalars]
    taken = {
        "argument": (list(cls.hyperparameters), of_optimizer),
        "slot": (slots, OF_VARIABLE | {f"{name}_scale" for name in slots} | {x for x in slots if x.endswith(DEBIAS)}),
        "scalar": (scalars, OF_ALL | OF_RULE | set(cls.hyperparameters)),
    }
    for what, (names, reserved) in taken.items():
        for name in names:
            if name in reserved:
                raise TypeError(
                    f"{cls.__name__} must not call one of its {what}s `{name}`, because the core uses that name; "
                    f"choose another one. Received: the {what} {name!r}"
                )
