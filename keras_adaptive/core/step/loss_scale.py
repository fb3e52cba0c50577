"""The dynamic loss scale: it grows while the gradients of a float16 loss are finite, and is halved if they are not."""

import keras
from keras import ops

from keras_adaptive.core.backends import running as backends
from keras_adaptive.core.step.nonfinite import SKIPPED

# Keras's LossScaleOptimizer has the same numbers.
START = 2.0**15
CALLS_UNTIL_DOUBLED = 2000


class DynamicScale:
    """The scale, a float32 variable, and the number of finite calls in a row.

    The scale is a power of two, so that scaling and unscaling do not round. The variables are made with the optimizer,
    not at `build`: a graph that scales the loss may be traced before the first `apply` builds the optimizer.

    Args:
        optimizer: the optimizer that gets the variables.
    """

    def __init__(self, optimizer):
        shared = {"shape": (), "aggregation": "only_first_replica"}
        start = keras.initializers.Constant(START)
        self.scale = optimizer.add_variable(name="dynamic_scale", dtype="float32", initializer=start, **shared)
        self.finite_calls = optimizer.add_variable(name="finite_calls", dtype="int32", **shared)
        self.is_in_use = False

    def adjust(self, finite):
        """After a call: halves the scale if the gradients were not finite, doubles it after enough finite calls."""
        scale, calls = backends.read(self.scale), backends.read(self.finite_calls) + 1
        due = calls >= CALLS_UNTIL_DOUBLED
        grows = ops.logical_and(due, ops.isfinite(scale * 2.0))
        halved = ops.where(scale > 2.0, scale * 0.5, ops.ones_like(scale))
        self.scale.assign(ops.where(finite, ops.where(grows, scale * 2.0, scale), halved))
        goes_on = ops.logical_and(finite, ops.logical_not(due))
        self.finite_calls.assign(ops.where(goes_on, calls, ops.zeros_like(calls)))


def made(optimizer) -> DynamicScale | None:
    """The dynamic scale, if the options ask for one."""
    return DynamicScale(optimizer) if optimizer.loss_scale_factor == "dynamic" else None


def skips_nonfinite(optimizer):
    """Whether an update that is not finite is skipped: with `skip_nonfinite` or a dynamic loss scale."""
    return optimizer.skip_nonfinite or optimizer.loss_scale is not None


def skipped_elements(optimizer) -> int:
    """How often an element of a weight stayed as it was because its new value would not have been finite.

    Its gradient was finite: with `skip_nonfinite` or a dynamic loss scale, updates with other gradients are skipped.
    """
    states = optimizer.plan.states if optimizer.built else []
    return sum(int(ops.convert_to_numpy(s.stored[SKIPPED])) for s in states if SKIPPED in s.stored)


def dynamic_scale(optimizer):
    """The variable that holds the dynamic loss scale."""
    if optimizer.loss_scale is None:
        raise AttributeError(
            "`dynamic_scale` exists if the optimizer is made with loss_scale_factor='dynamic'. "
            f"Received: loss_scale_factor={optimizer.loss_scale_factor!r}"
        )
    optimizer.loss_scale.is_in_use = True
    return optimizer.loss_scale.scale


@backends.opaque
def scale_loss(optimizer, loss):
    """The loss times the loss scale, to be differentiated. `fit` calls it.

    A custom loop on JAX calls it inside a `keras.StatelessScope` that maps `optimizer.variables` to their values.
    Without that scope the scale at the time of tracing is compiled into the program.
    """
    if optimizer.loss_scale is None:
        return keras.optimizers.Optimizer.scale_loss(optimizer, loss)
    return ops.multiply(loss, optimizer.dynamic_scale)


def check_loss_is_scaled(optimizer):
    """Refuses gradients if the loss cannot have been scaled, because nobody has read the scale."""
    if optimizer.loss_scale is not None and not optimizer.loss_scale.is_in_use:
        raise ValueError(
            "The gradients would be divided by the dynamic loss scale, but no loss was multiplied by it. "
            "Differentiate `optimizer.scale_loss(loss)` instead of the loss; if you multiply the loss yourself, first "
            "read the scale from `optimizer.dynamic_scale`. Received: loss_scale_factor='dynamic'"
        )


def check_new(optimizer, new):
    """Refuses to change a loss scale to or from "dynamic" after the optimizer was made."""
    old = vars(optimizer).get("loss_scale_factor", new)
    if "dynamic" not in (old, new) or old == new:
        return
    if new == "dynamic":
        raise ValueError(
            "`loss_scale_factor` can be made dynamic only in the optimizer's constructor; make a new optimizer. "
            f"Received: loss_scale_factor='dynamic', changed from {old!r}"
        )
    raise ValueError(
        "`loss_scale_factor` cannot be changed from 'dynamic'. Keras's LossScaleOptimizer and MultiOptimizer try "
        "to, as they replace the loss scale of every optimizer that they wrap. Under the policy mixed_float16 "
        "`compile` wraps automatically: call `compile(auto_scale_loss=False)`. Keras does not save that argument, so "
        "set the global dtype policy back to float32 before `load_model` (the layers keep their own), or load with "
        "`compile=False`, compile, build the optimizer and call `model.load_weights` with the same file. "
        f"Received: loss_scale_factor={new!r}"
    )
