"""Continues a training that one of Keras's own optimizers began."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_adaptive.core import wrappers
from keras_adaptive.core.backends import running as backends
from keras_adaptive.core.state import checkpoint, codecs, limits
from keras_adaptive.core.step import rows, scheduled

# Keras's velocities contain eta, with the sign of the weights' change in SGD and of the gradient in RMSprop.
PLAIN, TIMES_ETA, TIMES_MINUS_ETA = 0, 1, -1


@dataclass(frozen=True)
class Origin:
    """How the state of one of Keras's classes is converted for one of our algorithms.

    Args:
        algorithm: the name of our class; its subclasses are accepted too.
        slots: for each of our slots, Keras's attribute with its list, and whether it contains eta.
        form: the differences in the equations, one line each, formatted with Keras's optimizer (0) and ours (1).
    """

    algorithm: str
    slots: Mapping[str, tuple[str, int]]
    form: tuple[str, ...] = ()


_ADAM = Origin(
    "Adam",
    {"m": ("_momentums", PLAIN), "v": ("_velocities", PLAIN)},
    ("epsilon: {0.epsilon} there, before the correction; here {1.epsilon} outside the root, {1.epsilon_root} in it",),
)
_INSIDE = "epsilon: {0.epsilon} there, {1.epsilon} here, both inside of the root"
ORIGINS: dict[type, Origin] = {
    keras.optimizers.Adam: _ADAM,
    keras.optimizers.AdamW: _ADAM,
    keras.optimizers.RMSprop: Origin(
        "RMSprop",
        {"v": ("_velocities", PLAIN), "m": ("_average_gradients", PLAIN), "b": ("_momentums", TIMES_ETA)},
        (_INSIDE,),
    ),
    keras.optimizers.Adagrad: Origin("Adagrad", {"v": ("_accumulators", PLAIN)}, (_INSIDE,)),
    keras.optimizers.SGD: Origin("SGD", {"b": ("momentums", TIMES_MINUS_ETA)}),
}
_VELOCITY = "momentum: eta is inside of the velocity there and outside here, which differs once eta changes"


def continue_from(optimizer, other) -> list[str]:
    """See `AdaptiveOptimizer.continue_from`."""
    other = wrappers.unwrapped(other)
    # On torch, Keras instantiates a subclass of the same name.
    own = type(other).__module__.split(".")[0] == "keras"
    origin = next((ORIGINS[cls] for cls in type(other).__mro__ if cls in ORIGINS), None) if own else None
    if origin is None or origin.algorithm not in [cls.__name__ for cls in type(optimizer).__mro__]:
        fitting = sorted(cls.__name__ for cls, row in ORIGINS.items() if row.algorithm == type(optimizer).__name__)
        raise TypeError(
            f"`other` must be one of the optimizers of Keras that {type(optimizer).__name__} follows: "
            f"{fitting or 'none'}. Received: other={type(other).__module__}.{type(other).__name__}"
        )
    if not other.built:
        raise ValueError("`other` must be built: there is no state to take over. Received: other.built=False")
    theirs = {optimizer._var_key(variable): i for i, variable in enumerate(other._trainable_variables)}
    if optimizer.built and set(theirs) != set(optimizer._trainable_variables_indices):
        known = [state.path for state in optimizer.plan.states]
        raise ValueError(
            f"`other` must have been built with the variables of this optimizer, {known}. "
            f"Received: {[variable.path for variable in other._trainable_variables]}"
        )
    lists = {slot: getattr(other, attribute, None) or [] for slot, (attribute, _) in origin.slots.items()}
    eta = float(ops.convert_to_numpy(other.learning_rate))
    scales = {slot: 1.0 if sign == PLAIN else sign * eta for slot, (_, sign) in origin.slots.items()}
    if any(scales[slot] == 0.0 and lists[slot] for slot in lists):
        raise ValueError(
            "`other` must have a learning rate above 0 at its next update, by which its velocities are divided. "
            f"Received: other.learning_rate={eta}"
        )

    lines = _differences(optimizer, other, origin)
    iterations = int(ops.convert_to_numpy(other.iterations))
    taken: list[tuple[Any, Any]] = [(optimizer.iterations, iterations)]
    with backends.outside_of_steps(optimizer):
        if not optimizer.built:
            optimizer.build(other._trainable_variables)
        for state in optimizer.plan.states:
            index = theirs[optimizer._var_key(state.variable)]
            for slot, of_all in lists.items():
                if slot in state.stored and of_all and of_all[index] is not None:
                    shape, codec = state.slots[slot]
                    taken_over = {slot: _value(of_all[index]) / scales[slot]}
                    recoded = codecs.recoded(codec, slot, shape, taken_over)
                    taken += [(state.stored[role], array) for role, array in recoded.items()]
            if "average" in state.stored:
                average = other._model_variables_moving_average[index] if other.use_ema else None
                of_average = _value(state.variable if average is None else average)
                taken += [(state.stored[role], of_average) for role in {"average", "exact_average"} & set(state.stored)]
            if rows.LAST_STEP in state.stored:
                taken.append((state.stored[rows.LAST_STEP], np.full(state.shape[:1], iterations)))
            if "added_at" in state.stored:
                taken.append((state.stored["added_at"], 0.0))
            taken += scheduled.restored(optimizer, state, {}, iterations)
        for name, variable in optimizer.corrections.items():
            taken.append((variable, scheduled.as_constant(optimizer, name, iterations)))
        limits.of_scalar(optimizer, "iteration").check(np.asarray(iterations), "`other.iterations`")
        assignments = [(v, limits.converted(v, array, v.path)) for v, array in taken]
        old = optimizer._learning_rate
        rate = float(ops.convert_to_numpy(old)) if isinstance(old, keras.Variable) else old
        try:
            _take_learning_rate(optimizer, other, lines)
            limits.assign(optimizer, assignments)
        except BaseException:
            optimizer.learning_rate = rate
            raise
    for line in lines:
        checkpoint.logger.warning("%s goes on from Keras's %s. %s", optimizer.name, type(other).__name__, line)
    return lines


def _value(variable):
    """In float64, so that no conversion rounds; not every backend knows bfloat16."""
    return np.asarray(ops.convert_to_numpy(variable)).astype("float64")


def _differences(optimizer, other, origin):
    """The differences between the two, one line each."""
    lines = [line.format(other, optimizer) for line in origin.form]
    if getattr(other, "momentum", 0.0):
        lines.append(_VELOCITY)
    if getattr(other, "amsgrad", False):
        lines.append("amsgrad: the largest v so far divides the step there and is left out here")
    names = set(optimizer.get_config()) - {"name", "learning_rate", "epsilon"}
    for name in sorted(name for name in names if hasattr(other, name)):
        there, here = getattr(other, name), getattr(optimizer, name)
        if there != here and (there or here):
            lines.append(f"{name}: {there} there, {here} here")
    if (other.gradient_accumulation_steps or 1) > 1:
        lines.append("gradient_accumulation_steps: the gradients of an unfinished window are left out")
    if optimizer.use_ema and not other.use_ema:
        lines.append("use_ema: the moving average begins with the weights as they are")
    return lines


def _take_learning_rate(optimizer, other, lines: list[str]):
    rate: Any = other._learning_rate
    if isinstance(rate, keras.Variable):
        if not isinstance(optimizer._learning_rate, keras.Variable):
            lines.append("learning_rate: this optimizer keeps its schedule")
            return
        rate = float(ops.convert_to_numpy(rate))
    optimizer.learning_rate = rate
