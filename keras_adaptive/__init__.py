"""Optimizers for Keras 3, each exactly as its authors published it."""

import sys

__version__ = "0.2.0"

# Everything is imported here, so that Keras knows the classes when it loads a model. Only `python -m keras_adaptive`
# imports it later: `--help` does not wait for Keras and its backend. While Python imports a package that it runs as a
# command, sys.argv[0] is "-m".
if sys.argv[:1] != ["-m"] or sys.orig_argv[-len(sys.argv)] not in ("keras_adaptive", "-mkeras_adaptive"):
    from keras_adaptive.core.optimizer import AdaptiveOptimizer
    from keras_adaptive.core.step.cowclip import CowClip
    from keras_adaptive.groups.companion_groups import companion_groups
    from keras_adaptive.groups.group import Group, no_decay_on_vectors
    from keras_adaptive.groups.layerwise_decay import layerwise_decay
    from keras_adaptive.optimizers.adabelief import AdaBelief
    from keras_adaptive.optimizers.adabound import AdaBound
    from keras_adaptive.optimizers.adadelta import Adadelta
    from keras_adaptive.optimizers.adafactor import Adafactor
    from keras_adaptive.optimizers.adagrad import Adagrad
    from keras_adaptive.optimizers.adam import Adam
    from keras_adaptive.optimizers.adam_mini import AdamMini
    from keras_adaptive.optimizers.adamax import Adamax
    from keras_adaptive.optimizers.adamw import AdamW
    from keras_adaptive.optimizers.adan import Adan
    from keras_adaptive.optimizers.ademamix import AdEMAMix
    from keras_adaptive.optimizers.adopt import Adopt
    from keras_adaptive.optimizers.amsgrad import Amsgrad
    from keras_adaptive.optimizers.came import Came
    from keras_adaptive.optimizers.dadapt_adam import DAdaptAdam
    from keras_adaptive.optimizers.dog import DoG
    from keras_adaptive.optimizers.dowg import DoWG
    from keras_adaptive.optimizers.grams import Grams
    from keras_adaptive.optimizers.lamb import Lamb
    from keras_adaptive.optimizers.lars import Lars
    from keras_adaptive.optimizers.lion import Lion
    from keras_adaptive.optimizers.mars import Mars
    from keras_adaptive.optimizers.merit import Merit
    from keras_adaptive.optimizers.muon import Muon
    from keras_adaptive.optimizers.nadam import Nadam
    from keras_adaptive.optimizers.normuon import NorMuon
    from keras_adaptive.optimizers.novograd import Novograd
    from keras_adaptive.optimizers.prodigy import Prodigy
    from keras_adaptive.optimizers.radam import RAdam
    from keras_adaptive.optimizers.rmsprop import RMSprop
    from keras_adaptive.optimizers.schedule_free_adamw import ScheduleFreeAdamW
    from keras_adaptive.optimizers.schedule_free_sgd import ScheduleFreeSGD
    from keras_adaptive.optimizers.sgd import SGD
    from keras_adaptive.optimizers.shampoo import Shampoo
    from keras_adaptive.optimizers.sm3 import SM3
    from keras_adaptive.optimizers.soap import Soap
    from keras_adaptive.optimizers.tiger import Tiger
    from keras_adaptive.optimizers.yogi import Yogi
    from keras_adaptive.schedules.decays import InverseSquareRoot, PolynomialDecay, WarmupSchedule, WarmupStableDecay
    from keras_adaptive.schedules.one_cycle import OneCycle
    from keras_adaptive.schedules.recipes import legw, recipe, scale_learning_rate
    from keras_adaptive.training.callbacks import EvaluationWeights, OptimizerMonitor

__all__ = [
    "SGD",
    "SM3",
    "AdEMAMix",
    "AdaBelief",
    "AdaBound",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamMini",
    "AdamW",
    "Adamax",
    "Adan",
    "AdaptiveOptimizer",
    "Adopt",
    "Amsgrad",
    "Came",
    "CowClip",
    "DAdaptAdam",
    "DoG",
    "DoWG",
    "EvaluationWeights",
    "Grams",
    "Group",
    "InverseSquareRoot",
    "Lamb",
    "Lars",
    "Lion",
    "Mars",
    "Merit",
    "Muon",
    "Nadam",
    "NorMuon",
    "Novograd",
    "OneCycle",
    "OptimizerMonitor",
    "PolynomialDecay",
    "Prodigy",
    "RAdam",
    "RMSprop",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
    "Shampoo",
    "Soap",
    "Tiger",
    "WarmupSchedule",
    "WarmupStableDecay",
    "Yogi",
    "companion_groups",
    "layerwise_decay",
    "legw",
    "no_decay_on_vectors",
    "recipe",
    "scale_learning_rate",
]


def __getattr__(name):
    """Says where Keras's other names are, for who replaces `keras.optimizers` by `keras_adaptive`."""
    import keras

    if not name.startswith("_") and hasattr(keras.optimizers, name):
        raise AttributeError(f"keras_adaptive has no {name}; it is keras.optimizers.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
