"""What other libraries have for an optimizer of the package, with the same learning rate and the same momenta."""

import inspect

import keras
from keras import ops

from keras_adaptive.core.options import OF_KERAS

# What is under another name in Keras, or does other work by default.
_KERAS = {"Amsgrad": ("Adam", {"amsgrad": True}), "Muon": ("Muon", {"exclude_embeddings": False})}
# These make a difference in time; the others do not.
_MATCHED = ("beta_1", "beta_2", "rho", "momentum", "nesterov", "centered")
# These say how ours stores or runs an update; a peer does it in its own way.
_OWN = ("slot_dtype", "sparse", "jit_update", "stochastic_rounding", "seed", "skip_nonfinite", "monitor")


def class_of_keras(name):
    """Keras's own class for the optimizer of that name, or None."""
    return getattr(keras.optimizers, _KERAS.get(name, (name, {}))[0], None)


def of_keras(specification):
    """Keras's own optimizer of that name, or None.

    Options of Keras (clipping, decay and the like) are passed on where the user gave them; else Keras has its defaults,
    so its Lamb does not decay.
    """
    cls, (_, besides) = class_of_keras(specification.name), _KERAS.get(specification.name, ("", {}))
    if cls is None:
        return None
    ours, accepted = specification.make(), inspect.signature(cls).parameters
    matched = {name: getattr(ours, name) for name in _MATCHED if name in accepted and hasattr(ours, name)}
    given = {name: value for name, value in specification.arguments.items() if name in OF_KERAS}
    return cls(learning_rate=_learning_rate(ours), **matched, **given, **besides)


def settings(specification):
    """What an optimizer of another library is made with; None where the user asked for more than such a one does."""
    ours = specification.make()
    known = {*ours.hyperparameters, *_OWN, "learning_rate", "weight_decay"}
    if not known.issuperset(specification.arguments):
        return None
    hyperparameters = {name: getattr(ours, name) for name in ours.hyperparameters}
    return {**hyperparameters, "learning_rate": _learning_rate(ours), "weight_decay": ours.weight_decay or 0.0}


def _learning_rate(optimizer):
    return float(ops.convert_to_numpy(optimizer.learning_rate))
