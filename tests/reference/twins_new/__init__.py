"""NumPy float64 twins of the algorithms for large batches, without a learning rate or schedule, and for matrices.

A coupled twin (`dadapt_adam`, `dog`, `dowg`, `prodigy`) takes and returns a list of variables.
"""

from .large_batch import came, cowclip, lamb, lars, merit
from .matrices import companion, muon, newton_schulz, normuon, soap
from .parameter_free import dadapt_adam, dog, dowg, prodigy, schedule_free_adamw, schedule_free_sgd
from .shampoos import shampoo, shampoo_original

__all__ = [
    "came",
    "companion",
    "cowclip",
    "dadapt_adam",
    "dog",
    "dowg",
    "lamb",
    "lars",
    "merit",
    "muon",
    "newton_schulz",
    "normuon",
    "prodigy",
    "schedule_free_adamw",
    "schedule_free_sgd",
    "shampoo",
    "shampoo_original",
    "soap",
]
