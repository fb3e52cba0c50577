"""What an argument may be: one check per kind, applied wherever the argument is set."""

import math
import numbers
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras.optimizers.schedules import LearningRateSchedule

# The smallest normal float32: anything below it is flushed to zero by compilers.
SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Check:
    """Converts a value of the right kind and refuses every other with an error that says what is accepted."""

    accepted: str
    convert: Callable[[Any], Any]
    holds: Callable[[Any], bool]

    def __call__(self, name: str, value: Any) -> Any:
        try:
            converted = self.convert(value)
        except TypeError:
            raise TypeError(self._message(name, value)) from None
        except re.error as error:
            raise ValueError(f"{self._message(name, value)}: {error}") from None
        if not self.holds(converted):
            raise ValueError(self._message(name, value))
        return converted

    def _message(self, name, value):
        return f"`{name}` must be {self.accepted}. Received: {name}={value!r}"


def real(value: Any) -> float:
    """The value as a Python float; TypeError unless it is one real number."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise TypeError
    return float(value)


def _whole(value):
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise TypeError
    if value != value or math.isinf(value) or int(value) != value:
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


def is_schedule(value: Any) -> bool:
    return isinstance(value, LearningRateSchedule)


def _number_or_schedule(value):
    return value if is_schedule(value) else real(value)


def _rate(value):
    return value if is_schedule(value) or callable(value) else real(value)


def _pattern(value):
    re.compile(_text(value))
    return value


def one_of(*names: str) -> Check:
    """One of these strings."""
    return Check(" or ".join(map(repr, names)), _text, lambda value: value in names)


def list_of(kind: type) -> Check:
    """None, or a list or tuple of objects of that class; kept as a tuple."""

    def convert(value):
        if value is None:
            return None
        if not isinstance(value, list | tuple) or not all(isinstance(x, kind) for x in value):
            raise TypeError
        return tuple(value)

    return Check(f"None or a list of {kind.__name__}", convert, lambda value: True)


def instance(kind: type) -> Check:
    """An object of that class."""

    def convert(value):
        if not isinstance(value, kind):
            raise TypeError
        return value

    return Check(f"a {kind.__name__}", convert, lambda value: True)


def optional(check: Check) -> Check:
    """The same check, which lets None pass."""
    return Check(
        f"None or {check.accepted}",
        lambda value: None if value is None else check.convert(value),
        lambda value: value is None or check.holds(value),
    )


def auto_or(check: Check) -> Check:
    """The same check, which lets "auto" pass."""
    return Check(
        f'"auto" or {check.accepted}',
        lambda value: value if isinstance(value, str) and value == "auto" else check.convert(value),
        lambda value: value == "auto" or check.holds(value),
    )


fraction = Check("a real number in [0, 1)", real, lambda x: 0.0 <= x < 1.0)
rate = Check("a real number above 0, at most 1", real, lambda x: 0.0 < x <= 1.0)
nonnegative = Check("a finite real number, at least 0", real, lambda x: 0.0 <= x < math.inf)
positive = Check("a finite real number above 0", real, lambda x: 0.0 < x < math.inf)
stabiliser = Check(
    f"0 or a finite real number of at least {SMALLEST_NORMAL:.2g}, the smallest normal float32",
    real,
    lambda x: x == 0.0 or SMALLEST_NORMAL <= x < math.inf,
)
sole_stabiliser = Check(
    f"a finite real number of at least {SMALLEST_NORMAL:.2g}, the smallest normal float32",
    real,
    lambda x: SMALLEST_NORMAL <= x < math.inf,
)
growth = Check("a real number of at least 1, or infinity", real, lambda x: x >= 1.0)
learning_rate = Check(
    "a finite real number of at least 0, a LearningRateSchedule or a callable without arguments",
    _rate,
    lambda x: callable(x) or is_schedule(x) or 0.0 <= x < math.inf,
)
number_or_schedule = Check(
    "a finite real number, at least 0, or a LearningRateSchedule",
    _number_or_schedule,
    lambda x: is_schedule(x) or 0.0 <= x < math.inf,
)
loss_scale = Check(
    '"dynamic" or a finite real number above 0',
    lambda value: value if value == "dynamic" else real(value),
    lambda value: value == "dynamic" or positive.holds(value),
)
natural = Check("a whole number, at least 0", _whole, lambda x: x >= 0)
count = Check("a whole number, at least 1", _whole, lambda x: x >= 1)
flag = Check("True or False", _flag, lambda x: True)
text = Check("a string that is not empty", _text, bool)
pattern = Check("a regular expression", _pattern, lambda x: True)


def some_epsilon(epsilon: float, epsilon_outside: float) -> None:
    """Refuses both stabilisers at zero: a coordinate whose gradient is zero would be 0/0."""
    if epsilon == 0.0 and epsilon_outside == 0.0:
        raise ValueError(
            "`epsilon` and `epsilon_outside` must not both be 0: a zero gradient would be divided by zero. "
            f"Received: epsilon={epsilon!r}, epsilon_outside={epsilon_outside!r}"
        )
