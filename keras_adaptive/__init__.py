"""Optimizers for Keras 3, each exactly as its authors published it."""

from keras_adaptive.callbacks import OptimizerMonitor
from keras_adaptive.core.groups import Group, no_decay_on_vectors
from keras_adaptive.layerwise import layerwise_decay
from keras_adaptive.optimizers.adafactor import Adafactor
from keras_adaptive.optimizers.adagrad import Adagrad
from keras_adaptive.optimizers.adam import Adam
from keras_adaptive.optimizers.came import Came
from keras_adaptive.optimizers.lamb import Lamb
from keras_adaptive.optimizers.lars import Lars
from keras_adaptive.optimizers.lion import Lion
from keras_adaptive.optimizers.merit import Merit
from keras_adaptive.optimizers.novograd import Novograd
from keras_adaptive.optimizers.rmsprop import RMSprop
from keras_adaptive.optimizers.sgd import SGD
from keras_adaptive.optimizers.sm3 import SM3
from keras_adaptive.optimizers.tiger import Tiger

__all__ = [
    "SGD",
    "SM3",
    "Adafactor",
    "Adagrad",
    "Adam",
    "Came",
    "Group",
    "Lamb",
    "Lars",
    "Lion",
    "Merit",
    "Novograd",
    "OptimizerMonitor",
    "RMSprop",
    "Tiger",
    "layerwise_decay",
    "no_decay_on_vectors",
]
__version__ = "0.1.0"
