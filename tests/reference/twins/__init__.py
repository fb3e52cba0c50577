"""NumPy float64 twins.

Each takes one variable's first value, `gradient(t, theta)`, `eta(t)` with t from 1, the number of steps and the
hyperparameters, and returns the variable's last value.

A coupled twin (`dadapt_adam`, `dog`, `dowg`, `prodigy`) takes and returns a list of variables.
"""

from .adam_descendants import adam_mini, adan, ademamix, adopt, grams, mars
from .adam_family import adabelief, adabound, adadelta, adamax, adamw, amsgrad, nadam, radam, yogi
from .codes import decoded, neighbours
from .large_batch import came, cowclip, lamb, lars, merit
from .lecture import adagrad, adam, rmsprop, sgd
from .matrices import companion, muon, newton_schulz, normuon, soap
from .parameter_free import dadapt_adam, dog, dowg, prodigy, schedule_free_adamw, schedule_free_sgd
from .rounding import rounding_bits
from .shampoos import shampoo, shampoo_original
from .small_state import adafactor, lion, novograd, sm3, tiger

__all__ = [
    "adabelief",
    "adabound",
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adam_mini",
    "adamax",
    "adamw",
    "adan",
    "ademamix",
    "adopt",
    "amsgrad",
    "came",
    "companion",
    "cowclip",
    "dadapt_adam",
    "decoded",
    "dog",
    "dowg",
    "grams",
    "lamb",
    "lars",
    "lion",
    "mars",
    "merit",
    "muon",
    "nadam",
    "neighbours",
    "newton_schulz",
    "normuon",
    "novograd",
    "prodigy",
    "radam",
    "rmsprop",
    "rounding_bits",
    "schedule_free_adamw",
    "schedule_free_sgd",
    "sgd",
    "shampoo",
    "shampoo_original",
    "sm3",
    "soap",
    "tiger",
    "yogi",
]
