"""What is checked in a checkpoint that stores variables by position, as tf.train.Checkpoint does."""

import json

from keras import backend

from keras_adaptive.core.state.checkpoint import all_stored, class_names
from keras_adaptive.core.state.reading import Part


def description(optimizer) -> bytes:
    """The description of the optimizer that is stored in a checkpoint by position.

    It has the classes, the arguments that decide which variables there are, and each variable's name, shape and dtype.
    """
    classes, arguments = class_names(optimizer), _arguments(optimizer)
    return json.dumps({"classes": classes, "arguments": arguments, "variables": _layout(optimizer)}).encode()


def _arguments(optimizer):
    return {
        "gradient_accumulation_steps": optimizer.gradient_accumulation_steps not in (None, 1),
        "use_ema": optimizer.use_ema,
        "skip_nonfinite": optimizer.skips_nonfinite,
        "monitor": optimizer.monitor,
        "sparse": optimizer.sparse,
        "slot_dtype": optimizer.slot_dtype,
        **{slot.when: bool(getattr(optimizer, slot.when)) for slot in optimizer.slots if slot.when is not None},
    }


def _layout(optimizer):
    roles = (
        {id(v): role for state in optimizer.plan.states for role, v in all_stored(state).items()}
        if optimizer.built
        else {}
    )
    variables = optimizer.variables if optimizer.built else []
    return [[roles.get(id(v), v.name), list(v.shape), backend.standardize_dtype(v.dtype)] for v in variables]


def check_description(optimizer, saved: bytes):
    """Refuses a checkpoint by position whose variables mean something else; see `description`."""
    fields = Part("The description of the optimizer in the checkpoint", json.loads(saved)).mapping(
        "classes", "variables"
    )
    classes, layout = fields["classes"].texts(), fields["variables"].value
    if classes != class_names(optimizer):
        raise ValueError(
            f"A checkpoint of {classes[0]} cannot be restored into {type(optimizer).__name__}: its variables mean "
            f"something else. Make the optimizer that was saved. Received: a checkpoint of {classes}"
        )
    if layout and not optimizer.built and "arguments" in fields:
        _check_arguments(_arguments(optimizer), fields["arguments"].mapping())
    here = _layout(optimizer)
    if here and layout and here != layout:
        there = next(((a, b) for a, b in zip(layout, here, strict=False) if a != b), (len(layout), len(here)))
        raise ValueError(
            "A checkpoint stores the optimizer's variables by order, so they must be those of the optimizer that "
            f"was saved. Received: {there[0]} in the checkpoint and {there[1]} in the optimizer. Make it with the same "
            "arguments and variables, or use `get_state` and `set_state`, which store by name."
        )


def _check_arguments(here, there):
    """Used where variables cannot be compared: TensorFlow restores each value when `build` makes its variable."""
    others = [name for name in here if name in there and there[name].value != here[name]]
    if others:
        raise ValueError(
            "A checkpoint stores the optimizer's variables by order, so the arguments that decide which variables "
            f"there are must be those of the optimizer that was saved: {others}. Make it with the same arguments. "
            f"Received: {[here[name] for name in others]}; in the checkpoint {[there[name].value for name in others]}"
        )
