"""Metrics of an update: a few numbers for each variable, computed in its update and combined when they are read.

So no sum in the step runs over several variables, and a compiler can compute the sums in the pass that writes the
weights.
"""

import math

import numpy as np
from keras import ops

from keras_adaptive.core.backends import running as backends
from keras_adaptive.core.math import numerics
from keras_adaptive.core.state.matching import distinct
from keras_adaptive.core.step.stage import Place, Stage, Stored

NORMS = ("gradient_norm", "update_norm", "weight_norm")
# Counts of elements are stored as floats too, so that one vector holds all.
STATISTICS = (*NORMS, "clipped", "elements")


class Monitor(Stage):
    """The statistics of one variable's update; zeros if it has no gradient."""

    place, option, couples_elements, passes_again = Place.MONITOR, "monitor", True, True
    roles = ("statistics",)
    may_lack, lasting = True, False

    @classmethod
    def of(cls, optimizer):
        return cls() if optimizer.monitor else None

    def stores(self, variable):
        return {"statistics": Stored(shape=(len(STATISTICS),), beside=False)}

    def after(self, step, new):
        state, gradient = step.state, step.gradient
        dtype = state.compute_dtype
        if gradient is None:
            return {"statistics": ops.zeros((len(STATISTICS),), dtype=dtype)}
        before, after = ops.cast(step.values["theta"], dtype), ops.cast(new["theta"], dtype)
        # As floats, because XLA does not count integers in the pass that computes the norms.
        changed = 0 if step.clipped is gradient else ops.sum(ops.cast(step.clipped != gradient, dtype))
        numbers = [numerics.norm(x) for x in (gradient, after - before, after)]
        found = [ops.cast(number, dtype) for number in (*numbers, changed, math.prod(state.shape))]
        return {"statistics": ops.stack(found)}


def metrics(optimizer):
    """Metrics of the last update: a dict of floats, if the optimizer is made with `monitor=True`.

    Norms are Euclidean, over all variables that had a gradient. An update that is skipped because it is not finite is
    counted; the other metrics stay as they were. All are 0 before the first update.

        gradient_norm       of the gradient of the update: unscaled, accumulated, not yet clipped
        update_norm         of the change of the weights: new minus old
        update_to_weight    update_norm divided by the norm of the new weights
        fraction_clipped    fraction of the elements of the gradient that clipping changed
        skipped_updates     number of updates skipped so far
        skipped_elements    number of times an element was not updated because it would not be finite
        learning_rate       of the next update
        loss_scale          of the next call; 1 without one

    Elements smaller than 1e-19 count as zero, because their squares are zero.

    Raises:
        AttributeError: without `monitor=True`.
    """
    rows = np.asarray([np.zeros(len(STATISTICS)), *_statistics(optimizer).values()])
    norms, numbers = np.split(rows, [len(NORMS)], axis=1)
    shown = _shown([*np.sqrt(np.sum(np.square(norms), axis=0)), *np.sum(numbers, axis=0)])
    del shown["weight_norm"]
    scale = optimizer.loss_scale_factor if optimizer.loss_scale is None else optimizer.loss_scale.scale
    return shown | {
        "skipped_updates": _number(getattr(optimizer, "skipped_updates", 0)),
        "skipped_elements": float(optimizer.skipped_elements),
        "learning_rate": _number(optimizer.learning_rate),
        "loss_scale": 1.0 if scale is None else _number(scale),
    }


def metrics_by_variable(optimizer):
    """Metrics of the last update of each variable, by path, if the optimizer is made with `monitor=True`.

    A dict of dicts with gradient_norm, update_norm, weight_norm, update_to_weight and fraction_clipped: see `metrics`.
    All are 0 for a variable that had no gradient. If variables share a path (plain ones of TensorFlow may), a number
    is added to each.
    """
    return {path: _shown(row) for path, row in _statistics(optimizer).items()}


def _statistics(optimizer):
    """The statistics in float64, by path, read from the device in one transfer."""
    if not optimizer.monitor:
        raise AttributeError("An optimizer has metrics only if made with monitor=True. Received: monitor=False")
    states = (
        [] if optimizer.plan is None else [state for state in optimizer.plan.states if "statistics" in state.stored]
    )
    if not states:
        return {}
    widest = "float64" if any(state.compute_dtype == "float64" for state in states) else "float32"
    rows = ops.stack([ops.cast(backends.read(state.stored["statistics"]), widest) for state in states])
    names = distinct([state.path for state in states])
    return dict(zip(names, ops.convert_to_numpy(rows).astype("float64"), strict=True))


def _shown(row):
    """The metrics to show, from the statistics of one variable or of all."""
    numbers = {name: float(number) for name, number in zip(STATISTICS, row, strict=True)}
    return {name: numbers[name] for name in NORMS} | {
        "update_to_weight": _ratio(numbers["update_norm"], numbers["weight_norm"]),
        "fraction_clipped": _ratio(numbers["clipped"], numbers["elements"]),
    }


def _ratio(part, whole):
    """0 where both are 0."""
    if whole == 0.0:
        return 0.0 if part == 0.0 else math.inf
    return part / whole


def _number(tensor):
    return float(ops.convert_to_numpy(tensor))
