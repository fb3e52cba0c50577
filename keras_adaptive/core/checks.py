"""Checks of arguments: one per kind, applied wherever the argument is set."""

import math
import numbers
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from keras.optimizers.schedules import LearningRateSchedule

# The smallest and the largest normal float32: compilers treat smaller numbers as zero, and larger ones are infinite.
SMALLEST, LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
# Updates and micro-batches are counted in int32.
MOST = 2**31 - 1


@dataclass(frozen=True)
class Check:
    """Converts a value of the right kind, and refuses any other with an error that says what is accepted.

    Attributes:
        accepted: text that says what it accepts.
        convert: makes the value that is stored; raises a TypeError for another kind.
        holds: whether the converted value is in range.
        type: the type for signatures and type checkers.
        takes_schedules: it also accepts a LearningRateSchedule.
    """

    accepted: str
    convert: Callable[[Any], Any]
    holds: Callable[[Any], bool]
    type: Any = Any
    takes_schedules: bool = False

    def __call__(self, name: str, value: Any) -> Any:
        try:
            converted = self.convert(value)
        except TypeError:
            raise TypeError(self._message(name, value)) from None
        except OverflowError:
            raise ValueError(self._message(name, value)) from None
        except re.error as error:
            raise ValueError(f"{self._message(name, value)}: {error}") from None
        if not self.holds(converted):
            raise ValueError(f"{self._message(name, value)}{_rounded(converted)}")
        return converted

    def _message(self, name, value):
        return f"`{name}` must be {self.accepted}. Received: {name}={shown(value)}"


def shown(value: Any) -> str:
    """The value as an error shows it."""
    # Python refuses to print an integer of thousands of digits.
    if isinstance(value, int) and abs(value) >= 10**40:
        return f"an integer of {value.bit_length()} bits"
    text = repr(value)
    if is_schedule(value) and text.startswith("<"):
        # Keras's own say nothing but their address.
        arguments = ", ".join(f"{name}={one!r}" for name, one in value.get_config().items() if one is not None)
        text = f"{type(value).__name__}({arguments})"
    return text if len(text) <= 200 else f"{text[:197]}..."


def _rounded(value: Any) -> str:
    """The number in float32, if it is refused because of that."""
    if not isinstance(value, float) or not math.isfinite(value):
        return ""
    with np.errstate(all="ignore"):
        rounded = float(np.float32(value))
    rounded = 0.0 if abs(rounded) < SMALLEST else rounded
    lost = rounded != value and (rounded in (0.0, 1.0) or math.isinf(rounded))
    return f", which is {rounded} in float32" if lost else ""


def in_float32(x: float) -> bool:
    """Whether float32 holds the number: updates are computed in float32, except for float64 weights."""
    return x == 0.0 or SMALLEST <= abs(x) <= LARGEST


def real(value: Any) -> float:
    """The value as a Python float; TypeError unless it is one real number."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise TypeError
    return float(value)


def _whole(value: Any) -> Any:
    is_real = isinstance(value, numbers.Real)
    if isinstance(value, bool | np.bool_) or not is_real:
        raise TypeError
    if value != value or value in (math.inf, -math.inf) or int(value) != value:
        return math.nan
    return int(value)


def _flag(value):
    if not isinstance(value, bool | np.bool_):
        raise TypeError
    return bool(value)


def _text(value):
    if not isinstance(value, str):
        raise TypeError
    return value


def _axes(value):
    if not isinstance(value, list | tuple):
        raise TypeError
    return tuple(map(_whole, value))


def is_schedule(value: Any) -> bool:
    return isinstance(value, LearningRateSchedule)


def _number_or_schedule(value):
    return value if is_schedule(value) else real(value)


def _rate(value):
    # A class is callable too, but its instances are not learning rates.
    is_callable = callable(value) and not isinstance(value, type)
    return value if is_schedule(value) or is_callable else real(value)


def _decay(value):
    # Keras takes False for no decay.
    return None if value is None or value is False else _number_or_schedule(value)


def _pattern(value):
    re.compile(_text(value))
    return value


def one_of(*names: str) -> Check:
    """One of these strings."""
    return Check(" or ".join(map(repr, names)), _text, lambda value: value in names, Literal[names])


def list_of(kind: type) -> Check:
    """None, or a list or tuple of objects of that class; stored as a tuple."""

    def convert(value):
        if value is None:
            return None
        if not isinstance(value, list | tuple) or not all(isinstance(x, kind) for x in value):
            raise TypeError
        return tuple(value)

    return Check(
        f"None or a list of {kind.__name__}",
        convert,
        lambda value: True,
        list[kind] | tuple[kind, ...] | None,  # type: ignore[valid-type]
    )


def instance(kind: type) -> Check:
    """An object of that class."""

    def convert(value):
        if not isinstance(value, kind):
            raise TypeError
        return value

    return Check(f"a {kind.__name__}", convert, lambda value: True, kind)


def optional(check: Check) -> Check:
    """The same check, which also accepts None."""
    return Check(
        f"None or {check.accepted}",
        lambda value: None if value is None else check.convert(value),
        lambda value: value is None or check.holds(value),
        check.type | None,
    )


def scheduled(check: Check) -> Check:
    """The same check of a number, which also accepts a LearningRateSchedule."""
    return Check(
        f"{check.accepted}, or a LearningRateSchedule",
        lambda value: value if is_schedule(value) else check.convert(value),
        lambda value: is_schedule(value) or check.holds(value),
        float | LearningRateSchedule | (None if check.type == float | None else float),
        takes_schedules=True,
    )


def auto_or(check: Check) -> Check:
    """The same check, which also accepts "auto"."""
    return Check(
        f'"auto" or {check.accepted}',
        lambda value: value if isinstance(value, str) and value == "auto" else check.convert(value),
        lambda value: value == "auto" or check.holds(value),
        Literal["auto"] | check.type,
    )


def count_to(most: int, least: int = 1) -> Check:
    """A whole number in this range."""
    return Check(f"a whole number from {least} to {most}", _whole, lambda x: least <= x <= most, int)


fraction = Check(
    "a real number in [0, 1)", real, lambda x: 0.0 <= x < 1.0 and bool(np.float32(x) < 1.0) and in_float32(x), float
)
share = Check("a real number in [0, 1]", real, lambda x: 0.0 <= x <= 1.0 and in_float32(x), float)
rate = Check("a real number above 0, at most 1", real, lambda x: SMALLEST <= x <= 1.0, float)
nonnegative = Check("a finite real number, at least 0", real, lambda x: x >= 0.0 and in_float32(x), float)
positive = Check("a finite real number above 0", real, lambda x: SMALLEST <= x <= LARGEST, float)
stabiliser = Check(
    f"0 or a finite real number of at least {SMALLEST:.2g}, the smallest normal float32",
    real,
    nonnegative.holds,
    float,
)
sole_stabiliser = Check(
    f"a finite real number of at least {SMALLEST:.2g}, the smallest normal float32", real, positive.holds, float
)
growth = Check("a real number of at least 1, or infinity", real, lambda x: 1.0 <= x <= LARGEST or x == math.inf, float)
learning_rate = Check(
    "a finite real number of at least 0, a LearningRateSchedule or a callable without arguments",
    _rate,
    lambda x: callable(x) or nonnegative.holds(x),
    float | LearningRateSchedule | Callable[[], Any],
)
number_or_schedule = scheduled(nonnegative)
weight_decay = Check(
    f"None, {number_or_schedule.accepted}",
    _decay,
    lambda x: x is None or number_or_schedule.holds(x),
    float | LearningRateSchedule | None,
    takes_schedules=True,
)
loss_scale = Check(
    '"dynamic" or a finite real number above 0',
    lambda value: value if isinstance(value, str) and value == "dynamic" else real(value),
    lambda value: value == "dynamic" or positive.holds(value),
    Literal["dynamic"] | float,
)
natural = count_to(MOST, 0)
seed = count_to(2**63 - 1, 0)
count = count_to(MOST)
flag = Check("True or False", _flag, lambda x: True, bool)
text = Check("a string that is not empty", _text, bool, str)
axes = Check(
    "a tuple of whole numbers, each once",
    _axes,
    lambda x: all(axis == axis for axis in x) and len(set(x)) == len(x),
    tuple[int, ...],
)
pattern = Check("a regular expression", _pattern, lambda x: True, str)


def not_both_zero(**epsilons: float) -> None:
    """Refuses two stabilisers at zero: a coordinate whose gradient is zero would be 0/0."""
    if not any(epsilons.values()):
        names, given = " and ".join(f"`{n}`" for n in epsilons), ", ".join(f"{n}={v!r}" for n, v in epsilons.items())
        raise ValueError(f"{names} must not both be 0: a zero gradient would be divided by zero. Received: {given}")
