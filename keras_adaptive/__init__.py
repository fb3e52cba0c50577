"""Optimizers for Keras 3, each exactly as its authors published it."""

from keras_adaptive.callbacks import EvaluationWeights, OptimizerMonitor
from keras_adaptive.core.groups import Group, no_decay_on_vectors
from keras_adaptive.layerwise import layerwise_decay
from keras_adaptive.optimizers.adagrad import Adagrad
from keras_adaptive.optimizers.adam import Adam
from keras_adaptive.optimizers.dadapt_adam import DAdaptAdam
from keras_adaptive.optimizers.dog import DoG
from keras_adaptive.optimizers.dowg import DoWG
from keras_adaptive.optimizers.prodigy import Prodigy
from keras_adaptive.optimizers.rmsprop import RMSprop
from keras_adaptive.optimizers.schedule_free_adamw import ScheduleFreeAdamW
from keras_adaptive.optimizers.schedule_free_sgd import ScheduleFreeSGD
from keras_adaptive.optimizers.sgd import SGD

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "DAdaptAdam",
    "DoG",
    "DoWG",
    "EvaluationWeights",
    "Group",
    "OptimizerMonitor",
    "Prodigy",
    "RMSprop",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
    "layerwise_decay",
    "no_decay_on_vectors",
]
__version__ = "0.1.0"
