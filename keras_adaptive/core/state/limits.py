"""Which values a stored number may have, by its declaration; and assignment of all arrays or none."""

import contextlib
import math
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from keras import backend, ops

from keras_adaptive.core.backends import running as backends
from keras_adaptive.core.step.scheduled import DEBIAS

# The step counts from 1 in an int32, which must also hold the number of the next update.
MOST_ITERATIONS = 2**31 - 2


@dataclass(frozen=True)
class Limits:
    """The values that one of the optimizer's variables may have.

    Attributes:
        least, most: the range. Numbers that are not finite are outside of it, unless `may_diverge`.
        whole: no fractions.
        may_diverge: NaN and infinity are restored as well, because a training may have computed them.
    """

    least: float = -math.inf
    most: float = math.inf
    whole: bool = False
    may_diverge: bool = False

    @property
    def accepted(self) -> str:
        kind = "whole numbers" if self.whole else "finite numbers"
        if self.most < math.inf:
            return f"{kind} from {self.least:.15g} to {self.most:.15g}"
        return kind if self.least == -math.inf else f"{kind} of at least {self.least:.15g}"

    def check(self, array: np.ndarray, what: str) -> bool:
        """Raises a ValueError for a value outside of the limits; returns whether all values are finite."""
        if array.dtype.kind in "bui" and not array.size:
            return True
        numbers = array.astype("float64") if array.dtype.kind in "fV" else array
        finite = np.isfinite(numbers)
        wrong = ~finite if not self.may_diverge else np.zeros(numbers.shape, bool)
        wrong |= (numbers < self.least) | (finite & (numbers > self.most))
        if self.whole:
            wrong |= finite & (numbers != np.floor(np.where(finite, numbers, 0)))
        if wrong.any():
            raise ValueError(f"{what} must hold {self.accepted}. Received: {numbers[wrong].ravel()[0]}")
        return bool(finite.all())


TRAINED = Limits(may_diverge=True)
NONNEGATIVE = Limits(0.0, may_diverge=True)
COUNT = Limits(0, whole=True)
PART = Limits(0.0, 1.0)
# What the core stores for all variables together; stages declare theirs.
OF_CORE = {
    "iteration": Limits(0, MOST_ITERATIONS, whole=True),
    "learning_rate": Limits(0.0),
    "dynamic_scale": Limits(float(np.finfo("float32").tiny)),
    "finite_calls": COUNT,
}


def of_scalar(optimizer, name: str, accumulation_steps: int | None = None) -> Limits:
    """The limits of a scalar variable for all trained variables, by its name.

    Args:
        accumulation_steps: the number of micro-batches of a window.
    """
    nonnegative = {scalar.name: scalar.nonnegative for scalar in optimizer.scalars}
    if name in nonnegative:
        return NONNEGATIVE if nonnegative[name] else TRAINED
    if name.endswith(DEBIAS):
        return PART
    if name == "window_position":
        return Limits(0, max(0, (accumulation_steps or 1) - 1), whole=True)
    of_stages = {
        name: stored.limits
        for field in optimizer.fields.values()
        for stage in field.stages
        for name, stored in stage.scalars.items()
    }
    return (OF_CORE | of_stages).get(name, TRAINED)


def of_role(state, role: str, iterations: float = MOST_ITERATIONS) -> Limits:
    """The limits of a variable that belongs to a trained variable, by its role."""
    if role in state.slots:
        codec = state.slots[role][1]
        return NONNEGATIVE if codec.nonnegative else TRAINED
    if role.endswith(DEBIAS):
        return PART
    if role in ("last_step", "added_at"):
        return Limits(0, iterations, whole=True)
    if role in state.declared:
        return state.declared[role].limits
    return NONNEGATIVE if role.endswith("_scale") and role.removesuffix("_scale") in state.slots else TRAINED


def check_codes(state, name: str, array: np.ndarray, what: str):
    """Raises for a slot of integers that are not the eight-bit codes of this slot."""
    codes = "uint8" if state.slots[name][1].nonnegative else "int8"
    if array.dtype.kind in "biu" and array.dtype != codes:
        raise ValueError(f"{what} must hold floats or codes of dtype {codes}. Received: dtype {array.dtype}")
    if array.dtype == "int8" and (array == -128).any():
        raise ValueError(f"{what} must hold codes from -127 to 127. Received: -128")


def converted(variable, array: Any, what: str) -> np.ndarray:
    """The array in the shape and dtype of the variable, to be assigned to it.

    Raises:
        ValueError: it has another shape, does not hold real numbers, or holds some that the dtype cannot hold.
    """
    array, dtype = np.asarray(array), backend.standardize_dtype(variable.dtype)
    if array.shape != tuple(variable.shape):
        raise ValueError(f"{what} must have shape {tuple(variable.shape)}. Received: shape {array.shape}")
    if array.dtype.kind not in "biuf" and array.dtype != ml_dtypes.bfloat16:
        raise ValueError(f"{what} must hold real numbers. Received: dtype {array.dtype}")
    target = np.dtype(getattr(ml_dtypes, dtype) if hasattr(ml_dtypes, dtype) else dtype)
    if array.dtype == target:
        new = array
    else:
        with np.errstate(all="ignore"):
            new = array.astype(target)
        wide = "float64" if target.kind in "fV" else None
        before, after = (array.astype(wide), new.astype(wide)) if wide else (array, new)
        lost = np.isfinite(before) & ~np.isfinite(after) if wide else before != after
        if lost.any():
            raise ValueError(f"{what} must hold numbers that {dtype} has. Received: {before[lost].ravel()[0]}")
    # Not every backend accepts NumPy's bfloat16.
    return new.astype("float32") if new.dtype.kind == "V" else new


def assign(optimizer, assignments):
    """Assigns each array to its variable; if one of them raises, all variables get their old values back."""
    old: list[tuple[Any, np.ndarray]] = []
    with backends.outside_of_steps(optimizer):
        try:
            for variable, array in assignments:
                old.append((variable, np.array(ops.convert_to_numpy(variable))))
                variable.assign(array)
        except BaseException:
            for variable, array in reversed(old):
                with contextlib.suppress(Exception):
                    variable.assign(array.astype("float32") if array.dtype.kind == "V" else array)
            raise
