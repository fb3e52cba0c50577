"""The peers of an optimizer in other libraries, with the same learning rate and the same momenta."""

import inspect

import keras
from keras import ops

from keras_adaptive.core.options import OF_KERAS

# Optimizers with another name in Keras, or with defaults that do different work.
_KERAS = {"Amsgrad": ("Adam", {"amsgrad": True}), "Muon": ("Muon", {"exclude_embeddings": False})}
# Only these arguments change the time.
_MATCHED = ("beta_1", "beta_2", "rho", "momentum", "nesterov", "centered")
# These arguments say how our update is stored or run. They have no meaning for a peer.
_OWN = ("slot_dtype", "sparse", "jit_update", "stochastic_rounding", "seed", "skip_nonfinite", "monitor")


def class_of_keras(name):
    """Keras's class for the optimizer of that name, or None."""
    return getattr(keras.optimizers, _KERAS.get(name, (name, {}))[0], None)


def of_keras(specification):
    """Keras's optimizer of that name, or None.

    Options of Keras (clipping, decay and the like) are passed on if the user gave them. Otherwise Keras has its own
    defaults, so its Lamb does not decay.
    """
    cls, (_, besides) = class_of_keras(specification.name), _KERAS.get(specification.name, ("", {}))
    if cls is None:
        return None
    ours, accepted = specification.make(), inspect.signature(cls).parameters
    matched = {name: getattr(ours, name) for name in _MATCHED if name in accepted and hasattr(ours, name)}
    given = {name: value for name, value in specification.arguments.items() if name in OF_KERAS}
    return cls(learning_rate=_learning_rate(ours), **matched, **given, **besides)


def settings(specification):
    """The arguments for an optimizer of another library; None if the user gave an argument that it does not have."""
    ours = specification.make()
    known = {*ours.hyperparameters, *_OWN, "learning_rate", "weight_decay"}
    if not known.issuperset(specification.arguments):
        return None
    hyperparameters = {name: getattr(ours, name) for name in ours.hyperparameters}
    return {**hyperparameters, "learning_rate": _learning_rate(ours), "weight_decay": ours.weight_decay or 0.0}


def _learning_rate(optimizer):
    return float(ops.convert_to_numpy(optimizer.learning_rate))
