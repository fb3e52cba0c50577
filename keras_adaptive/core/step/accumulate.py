"""Accumulation: the gradients of several calls make one update."""

from typing import Any, NamedTuple

from keras import ops

from keras_adaptive.core.backends import running as backends
from keras_adaptive.core.state.limits import COUNT, NONNEGATIVE, Limits
from keras_adaptive.core.step.nonfinite import SkipNonfinite
from keras_adaptive.core.step.stage import Place, Stage, Stored
from keras_adaptive.core.step.transaction import Transaction


class Accumulate(Stage):
    """Stores the running mean of a window's gradients; the update uses the mean."""

    place, option, needs_all_rows = Place.CLIP, "gradient_accumulation_steps", True
    roles, of_window = ("accumulator", "contributions", "counts"), True
    may_lack = True
    scalars = {
        # Its limits in a saved state follow from the number of micro-batches.
        "window_position": Stored(shape=(), dtype="int32", limits=COUNT),
        "window_is_spoilt": Stored(shape=(), dtype="bool", limits=Limits(0, 1, whole=True)),
    }

    def __init__(self, may_be_spoilt):
        self.may_be_spoilt = may_be_spoilt

    @classmethod
    def of(cls, optimizer):
        if optimizer.gradient_accumulation_steps in (None, 1):
            return None
        return cls(may_be_spoilt=SkipNonfinite.of(optimizer) is not None)

    def stores_for_all(self):
        return self.scalars if self.may_be_spoilt else ["window_position"]

    def stores(self, variable):
        stored = {
            "accumulator": Stored(name="gradient_accumulator"),
            "contributions": Stored(shape=(), limits=Limits(0.0)),
        }
        if variable.counted:
            stored["counts"] = Stored(shape=variable.shape[:1], limits=NONNEGATIVE)
        return stored


class Accumulation(Transaction):
    """Adds a micro-batch to the running mean; the first micro-batch of a window resets the mean.

    A variable without a gradient adds zero.
    """

    def variables(self, state):
        return state.window

    def one(self, state, clock, shared, gradient, values):
        begins = ops.equal(clock.t, 1)
        new = {role: ops.where(begins, ops.zeros_like(value), value) for role, value in values.items()}
        if state.counts_name in clock.scheduled:
            new["counts"] = new["counts"] + clock.scheduled_number(state.counts_name, state.compute_dtype)
        if gradient is None:
            return new
        total, first = new["accumulator"], ops.equal(new["contributions"], 0)
        new["contributions"] = new["contributions"] + 1
        if state.overwrite:
            new["accumulator"] = ops.where(ops.logical_or(first, gradient > total), gradient, total)
        else:
            new["accumulator"] = total + gradient / self.optimizer.gradient_accumulation_steps
        return new


class Window(NamedTuple):
    """The result of a call: the mean gradients of its window so far, and whether an update follows.

    Attributes:
        gradients: one for each variable; None if it had none.
        scalars: numbers that belong to them, by name.
        go: whether this call ends in an update.
        ends: whether the window ends here, with or without an update.
        counters: variables of the window, each with its next value.
    """

    gradients: list
    scalars: dict
    go: Any
    ends: Any
    counters: tuple = ()


def accumulated(optimizer, plan, gradients, counts, is_finite):
    """The window after this micro-batch. It ends without an update if any of its micro-batches was not finite.

    A variable has a gradient if it had one in any micro-batch of the window. While a step is traced this is not known,
    so it is one of the scalars.
    """
    position = backends.read(optimizer.window_position) + 1
    ends = ops.equal(position, optimizer.gradient_accumulation_steps)
    values = accumulators(plan, gradients, {"t": position, "eta": 0.0} | counts, ends)
    scalars = {s.counts_name: of_one["counts"] for s, of_one in zip(plan.states, values, strict=True) if s.counted}
    means: list = []
    for state, gradient, of_one in zip(plan.states, gradients, values, strict=True):
        contributed = True if gradient is not None else backends.known(of_one["contributions"] > 0)
        means.append(None if contributed is False else of_one["accumulator"])
        if not isinstance(contributed, bool):
            scalars[state.contributed_name] = contributed
    counters = [(optimizer.window_position, ops.where(ends, ops.zeros_like(position), position))]
    go = ends
    if optimizer.skips_nonfinite:
        spoilt_before = ops.logical_and(position > 1, backends.read(optimizer.window_is_spoilt))
        spoilt = ops.logical_or(spoilt_before, ops.logical_not(is_finite))
        counters.append((optimizer.window_is_spoilt, spoilt))
        go = ops.logical_and(ends, ops.logical_not(spoilt))
    return Window(means, scalars, go, ends, tuple(counters))


def accumulators(plan, gradients, scalars, ends):
    """Adds the micro-batch to the accumulators; returns their values for each variable, by role."""
    if plan.update.asks_the_user and backends.known(ends) is True:
        # A constraint may raise: then the last micro-batch must not have been added. The next one starts a new window.
        old = [{role: backends.read(v) for role, v in state.window.items()} for state in plan.states]
        return plan.accumulation.all(gradients, scalars, old, {})[0]
    backends.transact(plan.accumulation, True, gradients, scalars)
    return [{role: backends.read(v) for role, v in state.window.items()} for state in plan.states]
