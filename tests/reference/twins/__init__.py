"""NumPy float64 twins.

Each takes one variable's first value, `gradient(t, theta)`, `eta(t)` with t from 1, the number of steps and the
hyperparameters, and returns the variable's last value.
"""

from .lecture import adagrad, adam, rmsprop, sgd
from .rounding import rounding_bits

__all__ = ["adagrad", "adam", "rmsprop", "rounding_bits", "sgd"]
