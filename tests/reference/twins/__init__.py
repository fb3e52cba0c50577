"""NumPy float64 twins.

Each takes one variable's first value, `gradient(t, theta)`, `eta(t)` with t from 1, the number of steps and the
hyperparameters, and returns the variable's last value.
"""

from .adam_descendants import adam_mini, adan, ademamix, adopt, grams, mars
from .adam_family import adabelief, adabound, adadelta, adamax, adamw, amsgrad, nadam, radam, yogi
from .lecture import adagrad, adam, rmsprop, sgd
from .rounding import rounding_bits
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
    "grams",
    "lion",
    "mars",
    "nadam",
    "novograd",
    "radam",
    "rmsprop",
    "rounding_bits",
    "sgd",
    "sm3",
    "tiger",
    "yogi",
]
