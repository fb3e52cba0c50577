"""Algorithms for large batches, without a learning rate or a schedule, and for matrices, against exact oracles.

The name of a row, its twin with its hyperparameters, the oracle, and how far they may be apart. The rows of COUPLED
have twins and oracles of several variables.
"""

from . import twins
from .oracles_large import keras_optimizer, optax, optax_chain, pytorch_optimizer, single

CLOSE = 1e-12


def _lars_popular(optax, rate, of_matrices):
    """The ratio of the momentum."""
    ratio = optax.scale_by_trust_ratio(trust_coefficient=0.001)
    decay = optax.add_decayed_weights(0.01, mask=of_matrices)
    return [decay, optax.trace(0.9), optax.masked(ratio, of_matrices), rate]


def _lamb_but_vectors(optax, rate, of_matrices):
    decay = optax.add_decayed_weights(0.01, mask=of_matrices)
    ratio = optax.masked(optax.scale_by_trust_ratio(), of_matrices)
    return [optax.scale_by_adam(0.9, 0.999, eps=1e-6), decay, ratio, rate]


def _lars_but_vectors(optax, rate, of_matrices):
    ratio = optax.masked(optax.scale_by_trust_ratio(trust_coefficient=0.001), of_matrices)
    return [optax.add_decayed_weights(0.01, mask=of_matrices), ratio, rate, optax.trace(0.9)]


_NORM = {"form": "norm", "weight_decay": 0.01}
_EVERY = {"exclude_vectors": False}
_FREE = {"weight_decay": 0.01, "warmup_steps": 7, "r": 1.0}
_BETAS = {"beta_1": 0.8, "beta_2": 0.99}
_MUON = single(optax("contrib.muon", nesterov=False, eps=1e-7))
_MOONLIGHT = single(keras_optimizer("Muon", weight_decay=None))

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
        single(optax("contrib.schedule_free_sgd", average=True, weight_decay=0.01)),
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
        single(optax("contrib.schedule_free_adamw")),
        CLOSE,
    ),
    "muon": (twins.muon, {"nesterov": False}, _MUON, 2e-6),
    "muon-large": (twins.muon, {"nesterov": False}, _MUON, CLOSE),
    "muon-moonlight": (twins.muon, {"scale": "moonlight"}, _MOONLIGHT, 2e-6),
    "muon-moonlight-large": (twins.muon, {"scale": "moonlight"}, _MOONLIGHT, 1e-7),
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
# Where a row holds, if not for every shape, scale of gradients and schedule from zero, and why.
_MATRICES = [(4, 3), (3, 5), (4, 4)]
_NOT_FROM_ZERO = {"schedule": "from the second update"}
_FULL_RANK = {"shapes": [(), (7,), (4, 3), (6, 6), (2, 1, 3, 2, 2)]}
ONLY = {
    # The oracle's momentum does not contain the learning rate.
    "lars": {"schedule": "constant"},
    # The oracle has 1e-15 under the root.
    "schedule-free-adamw": {"scales": [1.0]},
    "schedule-free-adamw-average": {"scales": [1.0]},
    # The constant added to the norm must be small compared with it: the oracles scale the momentum in other ways.
    "muon": {"shapes": _MATRICES, "scales": [1.0]},
    "muon-moonlight": {"shapes": _MATRICES, "scales": [1.0]},
    "muon-large": {"shapes": _MATRICES, "scales": [1e7]},
    # The oracle's factor is a root in float32.
    "muon-moonlight-large": {"shapes": _MATRICES, "scales": [1e7]},
    # The vectors of an eigenvalue that is there twice are arbitrary.
    "soap": _FULL_RANK,
    "soap-first-basis": _FULL_RANK,
    # The oracle has no factor for a scalar, and no decomposition of an empty matrix.
    "shampoo-original": {"shapes": [(1,), (7,), (4, 3), (3, 5), (2, 1, 3, 2, 2)]},
    # The oracle divides zero by zero while the learning rate is zero.
    "prodigy-optax": _NOT_FROM_ZERO,
    "dadapt-adam-optax": _NOT_FROM_ZERO,
}

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
