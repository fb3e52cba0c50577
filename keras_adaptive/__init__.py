"""Optimizers for Keras 3, each exactly as its authors published it."""

from keras_adaptive.callbacks import OptimizerMonitor
from keras_adaptive.companions import companion_groups
from keras_adaptive.core.groups import Group, no_decay_on_vectors
from keras_adaptive.layerwise import layerwise_decay
from keras_adaptive.optimizers.adagrad import Adagrad
from keras_adaptive.optimizers.adam import Adam
from keras_adaptive.optimizers.muon import Muon
from keras_adaptive.optimizers.normuon import NorMuon
from keras_adaptive.optimizers.rmsprop import RMSprop
from keras_adaptive.optimizers.sgd import SGD
from keras_adaptive.optimizers.shampoo import Shampoo
from keras_adaptive.optimizers.soap import Soap

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "Group",
    "Muon",
    "NorMuon",
    "OptimizerMonitor",
    "RMSprop",
    "Shampoo",
    "Soap",
    "companion_groups",
    "layerwise_decay",
    "no_decay_on_vectors",
]
__version__ = "0.1.0"
