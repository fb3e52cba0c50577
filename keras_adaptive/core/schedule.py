"""The base class of all schedules, and what they share."""

import math
import numbers

import keras
from keras import ops

from keras_adaptive.core import checks
from keras_adaptive.core.backends import running as backends
from keras_adaptive.core.math import numerics


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """Base: a subclass names its arguments with their checks, and defines `at(k)`, k an integer tensor."""

    arguments: dict[str, checks.Check] = {}

    def __init__(self, **arguments):
        for name, value in arguments.items():
            setattr(self, name, self.arguments[name](name, value))

    @backends.opaque
    def __call__(self, step):
        """The value for the update after `step` updates: an integer tensor in, a tensor of floatx out."""
        return self.at(ops.convert_to_tensor(step))

    def at(self, k):
        raise NotImplementedError

    def __repr__(self):
        given = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.arguments)
        return f"{type(self).__name__}({given})"

    def get_config(self):
        """All arguments, for `from_config`."""
        return {name: serialized(getattr(self, name)) for name in self.arguments}

    @classmethod
    def from_config(cls, config):
        """The schedule with these arguments."""
        read = keras.saving.deserialize_keras_object
        return cls(**{name: read(value) if isinstance(value, dict) else value for name, value in config.items()})


def serialized(value):
    """A schedule as Keras serializes it; a number or None unchanged."""
    return keras.saving.serialize_keras_object(value) if checks.is_schedule(value) else value


def floating(number):
    """A Python number or a tensor in the full precision of floatx."""
    if isinstance(number, numbers.Real):
        return numerics.constant(float(number), keras.config.floatx())
    return ops.cast(number, keras.config.floatx())


def passed(k, begin, length):
    """The fraction of the `length` updates from `begin` that is over: 0 before them, 1 after them."""
    whole = math.floor(begin)
    part = (floating(k - whole) - (begin - whole)) / length
    return numerics.minimum(numerics.maximum(part, 0.0), ops.ones_like(part))


def warmed_up(k, steps, start, peak, then):
    """Linear from `start` to `peak`, then `then`."""
    return ops.where(k < steps, start + (peak - start) * passed(k, 0, max(steps, 1)), then)
