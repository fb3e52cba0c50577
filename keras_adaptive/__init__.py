"""Optimizers for Keras 3, each exactly as its authors published it."""

from keras_adaptive.callbacks import EvaluationWeights, OptimizerMonitor
from keras_adaptive.core.groups import Group, no_decay_on_vectors
from keras_adaptive.layerwise import layerwise_decay
from keras_adaptive.optimizers.adabelief import AdaBelief
from keras_adaptive.optimizers.adabound import AdaBound
from keras_adaptive.optimizers.adadelta import Adadelta
from keras_adaptive.optimizers.adagrad import Adagrad
from keras_adaptive.optimizers.adam import Adam
from keras_adaptive.optimizers.adam_mini import AdamMini
from keras_adaptive.optimizers.adamax import Adamax
from keras_adaptive.optimizers.adamw import AdamW
from keras_adaptive.optimizers.adan import Adan
from keras_adaptive.optimizers.ademamix import AdEMAMix
from keras_adaptive.optimizers.adopt import Adopt
from keras_adaptive.optimizers.amsgrad import Amsgrad
from keras_adaptive.optimizers.dadapt_adam import DAdaptAdam
from keras_adaptive.optimizers.dog import DoG
from keras_adaptive.optimizers.dowg import DoWG
from keras_adaptive.optimizers.grams import Grams
from keras_adaptive.optimizers.mars import Mars
from keras_adaptive.optimizers.nadam import Nadam
from keras_adaptive.optimizers.prodigy import Prodigy
from keras_adaptive.optimizers.radam import RAdam
from keras_adaptive.optimizers.rmsprop import RMSprop
from keras_adaptive.optimizers.schedule_free_adamw import ScheduleFreeAdamW
from keras_adaptive.optimizers.schedule_free_sgd import ScheduleFreeSGD
from keras_adaptive.optimizers.sgd import SGD
from keras_adaptive.optimizers.yogi import Yogi

__all__ = [
    "SGD",
    "AdEMAMix",
    "AdaBelief",
    "AdaBound",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamMini",
    "AdamW",
    "Adamax",
    "Adan",
    "Adopt",
    "Amsgrad",
    "DAdaptAdam",
    "DoG",
    "DoWG",
    "EvaluationWeights",
    "Grams",
    "Group",
    "Mars",
    "Nadam",
    "OptimizerMonitor",
    "Prodigy",
    "RAdam",
    "RMSprop",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
    "Yogi",
    "layerwise_decay",
    "no_decay_on_vectors",
]
__version__ = "0.1.0"
