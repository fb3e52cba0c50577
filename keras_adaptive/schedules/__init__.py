"""Learning rate schedules and recipes."""

import keras


def __getattr__(name):
    if hasattr(keras.optimizers.schedules, name):
        raise AttributeError(f"{name} is a schedule of Keras, which works here too: keras.optimizers.schedules.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
