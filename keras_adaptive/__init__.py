"""Optimizers for Keras 3, each exactly as its authors published it."""

from keras_adaptive.callbacks import OptimizerMonitor
from keras_adaptive.core.groups import Group, no_decay_on_vectors
from keras_adaptive.layerwise import layerwise_decay
from keras_adaptive.optimizers.adagrad import Adagrad
from keras_adaptive.optimizers.adam import Adam
from keras_adaptive.optimizers.rmsprop import RMSprop
from keras_adaptive.optimizers.sgd import SGD

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "Group",
    "OptimizerMonitor",
    "RMSprop",
    "layerwise_decay",
    "no_decay_on_vectors",
]
__version__ = "0.1.0"
