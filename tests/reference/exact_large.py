"""Algorithms for large batches, without a learning rate or a schedule, and for matrices, against exact oracles.

The name of a row, its twin with its hyperparameters, the oracle, and how far they may be apart. The rows of COUPLED
have twins and oracles of several variables.
"""

from . import twins_new as twins
from .oracles_large import keras_optimizer, optax, optax_chain, pytorch_optimizer, single

CLOSE = 1e-12


def _lars_popular(optax, of_matrices):
    """The ratio of the momentum."""
    ratio = optax.scale_by_trust_ratio(trust_coefficient=0.001)
    decay = optax.add_decayed_weights(0.01, mask=of_matrices)
    return [decay, optax.trace(0.9), optax.masked(ratio, of_matrices), None]


def _lamb_but_vectors(optax, of_matrices):
    decay = optax.add_decayed_weights(0.01, mask=of_matrices)
    ratio = optax.masked(optax.scale_by_trust_ratio(), of_matrices)
    return [optax.scale_by_adam(0.9, 0.999, eps=1e-6), decay, ratio, None]


def _lars_but_vectors(optax, of_matrices):
    ratio = optax.masked(optax.scale_by_trust_ratio(trust_coefficient=0.001), of_matrices)
    return [optax.add_decayed_weights(0.01, mask=of_matrices), ratio, None, optax.trace(0.9)]


_NORM = {"form": "norm", "weight_decay": 0.01}
_EVERY = {"exclude_vectors": False}
_FREE = {"weight_decay": 0.01, "warmup_steps": 7, "r": 1.0}
_BETAS = {"beta_1": 0.8, "beta_2": 0.99}

EXACT = {
    "lars": (twins.lars, {"weight_decay": 0.01}, single(pytorch_optimizer("LARS", weight_decay=0.01)), CLOSE),
    "lars-norm": (twins.lars, _NORM, single(optax_chain(_lars_but_vectors)), CLOSE),
    "lars-norm-every": (
        twins.lars,
        {**_NORM, **_EVERY},
        single(optax("lars", weight_decay=0.01, trust_coefficient=0.001, momentum=0.9)),
        CLOSE,
    ),
    "lars-popular": (twins.lars, {**_NORM, "momentum_form": "popular"}, single(optax_chain(_lars_popular)), CLOSE),
    "lamb": (twins.lamb, {}, single(optax_chain(_lamb_but_vectors)), CLOSE),
    "lamb-every": (
        twins.lamb,
        {**_BETAS, **_EVERY, "weight_decay": 0.1},
        single(optax("lamb", b1=0.8, b2=0.99, weight_decay=0.1)),
        CLOSE,
    ),
    "came": (twins.came, {"weight_decay": 0.1}, single(pytorch_optimizer("CAME", weight_decay=0.1)), CLOSE),
    "came-betas": (
        twins.came,
        {**_BETAS, "beta_3": 0.999, "clip_threshold": 0.5},
        single(pytorch_optimizer("CAME", betas=(0.8, 0.99, 0.999), clip_threshold=0.5)),
        CLOSE,
    ),
    "schedule-free-sgd": (
        twins.schedule_free_sgd,
        _FREE,
        single(pytorch_optimizer("ScheduleFreeSGD", **_FREE)),
        CLOSE,
    ),
    "schedule-free-sgd-average": (
        twins.schedule_free_sgd,
        {"beta": 0.8, "weight_power": 1.0, "return_average": True},
        single(pytorch_optimizer("ScheduleFreeSGD", average=True, momentum=0.8, weight_lr_power=1.0)),
        CLOSE,
    ),
    "schedule-free-sgd-optax": (
        twins.schedule_free_sgd,
        {"weight_decay": 0.01, "return_average": True},
        single(optax("contrib.schedule_free_sgd", constant=True, average=True, weight_decay=0.01)),
        CLOSE,
    ),
    "schedule-free-adamw": (
        twins.schedule_free_adamw,
        {**_FREE, **_BETAS},
        single(pytorch_optimizer("ScheduleFreeAdamW", betas=(0.8, 0.99), **_FREE)),
        CLOSE,
    ),
    "schedule-free-adamw-average": (
        twins.schedule_free_adamw,
        {"weight_power": 0.0, "return_average": True},
        single(pytorch_optimizer("ScheduleFreeAdamW", average=True, weight_lr_power=0.0)),
        CLOSE,
    ),
    "schedule-free-adamw-optax": (
        twins.schedule_free_adamw,
        {},
        single(optax("contrib.schedule_free_adamw", constant=True)),
        CLOSE,
    ),
    # optax and Keras scale the momentum before the iteration, which adds a constant to its norm.
    "muon": (
        twins.muon,
        {"nesterov": False},
        single(optax("contrib.muon", nesterov=False, eps=1e-7)),
        1e-6,
    ),
    "muon-moonlight": (
        twins.muon,
        {"scale": "moonlight"},
        single(keras_optimizer("Muon", weight_decay=None)),
        1e-6,
    ),
    "soap-first-basis": (
        twins.soap,
        {"frequency": 1000},
        single(pytorch_optimizer("SOAP", weight_decay=0.0, precondition_frequency=1000)),
        1e-9,
    ),
    # The oracle's bases after the first are float32.
    "soap": (twins.soap, {}, single(pytorch_optimizer("SOAP", weight_decay=0.0)), 1e-6),
    "shampoo-original": (
        twins.shampoo_original,
        {"weight_decay": 0.1},
        single(
            pytorch_optimizer(
                "Shampoo",
                preconditioning_compute_steps=1,
                matrix_eps=1e-4,
                weight_decay=0.1,
                weight_decouple=True,
            )
        ),
        CLOSE,
    ),
}
# Only with a constant learning rate: the oracle's momentum does not contain it, or it takes no schedule.
CONSTANT = {"lars", "schedule-free-sgd-optax", "schedule-free-adamw-optax"}
# Only matrices, and gradients that are large against the constant.
MUONS = {"muon", "muon-moonlight"}
# Only where every factor has full rank, as other bases are arbitrary.
SOAPS = {"soap", "soap-first-basis"}

COUPLED = {
    "prodigy": (twins.prodigy, {}, pytorch_optimizer("Prodigy"), CLOSE),
    "prodigy-arguments": (
        twins.prodigy,
        {
            **_BETAS,
            "beta_3": 0.9,
            "d_0": 1e-3,
            "d_coefficient": 2.0,
            "growth_rate": 1.5,
            "use_bias_correction": True,
            "safeguard_warmup": True,
            "weight_decay": 0.1,
        },
        pytorch_optimizer(
            "Prodigy",
            betas=(0.8, 0.99),
            beta3=0.9,
            d0=1e-3,
            d_coef=2.0,
            growth_rate=1.5,
            bias_correction=True,
            safeguard_warmup=True,
            weight_decay=0.1,
            weight_decouple=True,
        ),
        CLOSE,
    ),
    "prodigy-optax": (
        twins.prodigy,
        {"use_bias_correction": True, "weight_decay": 0.1},
        optax("contrib.prodigy", weight_decay=0.1),
        CLOSE,
    ),
    "dadapt-adam": (
        twins.dadapt_adam,
        {"weight_decay": 0.1},
        pytorch_optimizer("DAdaptAdam", weight_decay=0.1, weight_decouple=True),
        CLOSE,
    ),
    "dadapt-adam-arguments": (
        twins.dadapt_adam,
        {**_BETAS, "d_0": 1e-3, "growth_rate": 1.2, "use_bias_correction": True},
        pytorch_optimizer("DAdaptAdam", betas=(0.8, 0.99), d0=1e-3, growth_rate=1.2, bias_correction=True),
        CLOSE,
    ),
    "dadapt-adam-optax": (
        twins.dadapt_adam,
        {"use_bias_correction": True, "weight_decay": 0.1},
        optax("contrib.dadapt_adamw", weight_decay=0.1),
        CLOSE,
    ),
    "dog": (twins.dog, {"weight_decay": 0.01}, optax("contrib.dog", weight_decay=0.01), CLOSE),
    "dog-arguments": (
        twins.dog,
        {"reps_rel": 1e-2, "epsilon": 1e-4},
        optax("contrib.dog", init_step=("heuristic", 1e-2), eps=1e-4),
        CLOSE,
    ),
    "dowg": (twins.dowg, {"weight_decay": 0.01}, optax("contrib.dowg", weight_decay=0.01), CLOSE),
    "dowg-distance": (
        twins.dowg,
        {"initial_distance": 0.1, "epsilon": 1e-8},
        optax("contrib.dowg", init_estim_sq_dist=0.01, eps=1e-8),
        CLOSE,
    ),
}
