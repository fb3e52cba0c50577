"""Adam's family and the algorithms with a small state, against the libraries whose form is exactly the twin's.

The name of a row, its twin with its hyperparameters, the oracle, and how far they may be apart.
"""

from math import log

import pytest

from . import twins
from .oracles import optax, pytorch_optimizer, torch

CLOSE = 1e-12


def _relative(oracle):
    """optax's Adafactor takes the relative rate from its schedule."""
    return lambda theta, gradient, eta, steps: oracle(theta, gradient, lambda t: min(eta(t), t**-0.5), steps)


def _with_moment(**arguments):
    """pytorch_optimizer's Adafactor, whose moment is bfloat16 unless it is told."""

    def run(*given):
        library = pytest.importorskip("torch", reason="torch is what pytorch_optimizer computes with")
        return pytorch_optimizer("AdaFactor", momentum_dtype=library.float64, **arguments)(*given)

    return run


def _slow_beta(count):
    """From 0.9 to 0.9999 over 30 updates, so that the steps in which an average halves grow evenly."""
    ramp = min((float(count) + 1) / 30, 1.0)
    return 0.5 ** (1 / ((1 - ramp) * log(0.5, 0.9) + ramp * log(0.5, 0.9999)))


_OF_PAPER = {"bias_correction_mu": False, "bias_correction_nu": False}
_OF_OPTAX = {"initial_momentum_value": 1e-6, "use_bias_correction": True}
_FROM_1E_4 = {"initial_momentum_value": 1e-4, "initial_accumulator_value": 1e-4}
_BETAS = {"beta_1": 0.8, "beta_2": 0.99}

EXACT = {
    "adamw": (twins.adamw, {"weight_decay": 0.1}, torch("AdamW", weight_decay=0.1), CLOSE),
    "adamw-optax": (twins.adamw, _BETAS, optax("adamw", b1=0.8, b2=0.99, weight_decay=0.01), CLOSE),
    "amsgrad": (twins.amsgrad, {}, optax("amsgrad", **_OF_PAPER), CLOSE),
    "amsgrad-raw": (twins.amsgrad, {"variant": "raw"}, torch("Adam", amsgrad=True), CLOSE),
    "amsgrad-raw-decay": (
        twins.amsgrad,
        {**_BETAS, "variant": "raw", "weight_decay": 0.1},
        torch("AdamW", betas=(0.8, 0.99), amsgrad=True, weight_decay=0.1),
        CLOSE,
    ),
    "amsgrad-hat": (twins.amsgrad, {"variant": "hat"}, optax("amsgrad"), CLOSE),
    "adamax": (twins.adamax, {}, torch("Adamax"), CLOSE),
    "nadam": (twins.nadam, {}, torch("NAdam"), CLOSE),
    "nadam-decay": (
        twins.nadam,
        {**_BETAS, "momentum_decay": 1.0, "weight_decay": 0.1},
        torch("NAdam", betas=(0.8, 0.99), momentum_decay=1.0, weight_decay=0.1, decoupled_weight_decay=True),
        CLOSE,
    ),
    "nadam-simple": (twins.nadam, {"form": "simple"}, optax("nadam"), CLOSE),
    "radam-torch": (
        twins.radam,
        {"threshold": 5.0, "weight_decay": 0.1},
        torch("RAdam", weight_decay=0.1, decoupled_weight_decay=True),
        CLOSE,
    ),
    "radam": (
        twins.radam,
        {"threshold": 4.0},
        pytorch_optimizer("RAdam", n_sma_threshold=4, degenerated_to_sgd=True),
        CLOSE,
    ),
    "radam-skip": (
        twins.radam,
        {"unrectified": "skip", "beta_2": 0.99},
        pytorch_optimizer("RAdam", betas=(0.9, 0.99), n_sma_threshold=4, degenerated_to_sgd=False),
        CLOSE,
    ),
    "adabelief": (
        twins.adabelief,
        {"weight_decay": 0.1},
        pytorch_optimizer("AdaBelief", rectify=False, weight_decay=0.1),
        CLOSE,
    ),
    "adabelief-optax": (twins.adabelief, _BETAS, optax("adabelief", b1=0.8, b2=0.99, eps=1e-16, eps_root=1e-16), CLOSE),
    "yogi-optax": (twins.yogi, _OF_OPTAX, optax("yogi"), CLOSE),
    "yogi-debias": (
        twins.yogi,
        {**_BETAS, **_FROM_1E_4, "use_bias_correction": True, "weight_decay": 0.1},
        pytorch_optimizer("Yogi", betas=(0.8, 0.99), initial_accumulator=1e-4, weight_decay=0.1),
        CLOSE,
    ),
    # It adds 1e-15 under the root.
    "adabound": (
        twins.adabound,
        {"base_learning_rate": 0.02, "weight_decay": 0.1},
        pytorch_optimizer("AdaBound", lr=0.02, weight_decay=0.1),
        1e-9,
    ),
    "adabound-narrow": (
        twins.adabound,
        {**_BETAS, "base_learning_rate": 0.05, "final_learning_rate": 0.3, "gamma": 0.2},
        pytorch_optimizer("AdaBound", lr=0.05, betas=(0.8, 0.99), final_lr=0.3, gamma=0.2),
        1e-9,
    ),
    "adan": (twins.adan, {}, pytorch_optimizer("Adan", weight_decay=0.02), CLOSE),
    "adan-decoupled": (
        twins.adan,
        {"beta_1": 0.9, "beta_2": 0.8, "beta_3": 0.95, "proximal": False, "weight_decay": 0.1},
        pytorch_optimizer("Adan", betas=(0.9, 0.8, 0.95), weight_decay=0.1, weight_decouple=True),
        CLOSE,
    ),
    "ademamix": (
        twins.ademamix,
        {"weight_decay": 0.1},
        pytorch_optimizer("AdEMAMix", weight_decay=0.1, weight_decouple=True),
        CLOSE,
    ),
    "ademamix-optax": (
        twins.ademamix,
        {**_BETAS, "beta_3": 0.999, "alpha": 8.0},
        optax("contrib.ademamix", b1=0.8, b2=0.99, b3=0.999, alpha=8.0),
        CLOSE,
    ),
    "ademamix-schedules": (
        twins.ademamix,
        {"alpha_steps": 20, "beta_3_steps": 30},
        optax("contrib.ademamix", b3=_slow_beta, alpha=lambda count: min((float(count) + 1) / 4, 5.0)),
        CLOSE,
    ),
    "adopt": (twins.adopt, {}, optax("contrib.adopt"), CLOSE),
    "adopt-decay": (
        twins.adopt,
        {"beta_1": 0.8, "beta_2": 0.99, "weight_decay": 0.1},
        pytorch_optimizer(
            "ADOPT",
            betas=(0.8, 0.99),
            clip_lambda=lambda step: (step - 1) ** 0.25,
            weight_decay=0.1,
            weight_decouple=True,
        ),
        CLOSE,
    ),
    "adopt-unclipped": (twins.adopt, {"clip_exponent": None}, optax("contrib.adopt", use_clipping=False), CLOSE),
    # It adds epsilon before the bias correction, and 1e-15 under the root.
    "mars": (
        twins.mars,
        {"vector_learning_rate_multiplier": 0.5, "weight_decay": 0.1},
        pytorch_optimizer("MARS", lr_1d=0.5, weight_decay=0.1, weight_decay_1d=0.1),
        1e-6,
    ),
    "mars-epsilon": (
        twins.mars,
        {"beta_1": 0.9, "beta_2": 0.95, "gamma": 0.1, "epsilon": 1e-30, "vector_beta_1": 0.8, "vector_beta_2": 0.9},
        pytorch_optimizer(
            "MARS", lr_1d=1.0, betas=(0.9, 0.95), betas_1d=(0.8, 0.9), gamma=0.1, eps=1e-30, weight_decay_1d=0.0
        ),
        1e-10,
    ),
    "mars-lion": (
        twins.mars,
        {"variant": "lion", "weight_decay": 0.1},
        pytorch_optimizer("MARS", mars_type="lion", lr_1d=1.0, weight_decay=0.1, weight_decay_1d=0.1),
        CLOSE,
    ),
    "grams": (twins.grams, {"weight_decay": 0.1}, pytorch_optimizer("Grams", weight_decay=0.1), CLOSE),
    "adadelta": (twins.adadelta, {}, torch("Adadelta", rho=0.95), CLOSE),
    "adadelta-optax": (twins.adadelta, {"rho": 0.9}, optax("adadelta", rho=0.9, eps=1e-6), CLOSE),
    # It adds nothing to the squares.
    "adafactor": (twins.adafactor, {}, torch("Adafactor", eps=(1e-30, 1e-3), weight_decay=0.0), 1e-10),
    "adafactor-decay": (
        twins.adafactor,
        {"clip_threshold": 1.2, "beta_2_decay": 0.6, "weight_decay": 0.1},
        torch("Adafactor", eps=(1e-30, 1e-3), d=1.2, beta2_decay=-0.6, weight_decay=0.1),
        1e-10,
    ),
    "adafactor-moment": (
        twins.adafactor,
        {"beta_1": 0.9, "relative_step": False},
        _with_moment(betas=(0.9, 0.999), relative_step=False),
        CLOSE,
    ),
    "adafactor-absolute": (
        twins.adafactor,
        {"relative_step": False, "scale_parameter": False},
        pytorch_optimizer("AdaFactor", betas=(None, 0.999), relative_step=False, scale_parameter=False),
        CLOSE,
    ),
    "adafactor-warmup": (
        twins.adafactor,
        {"warmup_init": True},
        pytorch_optimizer("AdaFactor", betas=(None, 0.999), warmup_init=True),
        CLOSE,
    ),
    # Its decay rate is a float32 number.
    "adafactor-optax": (
        twins.adafactor,
        {"min_size_to_factor": 3},
        _relative(optax("adafactor", min_dim_size_to_factor=3)),
        1e-7,
    ),
    "sm3": (twins.sm3, {}, pytorch_optimizer("SM3", momentum=0.9, eps=0.0), CLOSE),
    "sm3-plain": (twins.sm3, {"momentum": 0.0}, pytorch_optimizer("SM3", eps=0.0), CLOSE),
    "novograd": (
        twins.novograd,
        {"weight_decay": 0.1},
        optax("novograd", b1=0.95, b2=0.98, eps=1e-8, weight_decay=0.1),
        CLOSE,
    ),
    "novograd-averaging": (
        twins.novograd,
        {**_BETAS, "grad_averaging": True, "weight_decay": 0.1},
        pytorch_optimizer("NovoGrad", betas=(0.8, 0.99), grad_averaging=True, weight_decay=0.1),
        CLOSE,
    ),
    "lion": (twins.lion, {"weight_decay": 0.1}, optax("lion", weight_decay=0.1), CLOSE),
    "lion-cautious": (
        twins.lion,
        {**_BETAS, "cautious": True, "weight_decay": 0.1},
        pytorch_optimizer("Lion", betas=(0.8, 0.99), cautious=True, weight_decay=0.1),
        CLOSE,
    ),
    "tiger": (
        twins.tiger,
        {"parameter_scale": False, "weight_decay": 0.1},
        pytorch_optimizer("Tiger", weight_decay=0.1),
        CLOSE,
    ),
}

# Where an oracle holds for some shapes or for some scales of the gradient only. Those of optax run on fewer shapes:
# JAX compiles each operation for each shape.
_NOT_EMPTY = [(), (1,), (7,), (4, 3), (2, 1, 3, 2, 2)]
_BY_OPTAX = [
    "adamw-optax",
    "amsgrad",
    "amsgrad-hat",
    "nadam-simple",
    "adabelief-optax",
    "yogi-optax",
    "ademamix-optax",
    "ademamix-schedules",
    "adopt",
    "adopt-unclipped",
    "adadelta-optax",
    "adafactor-optax",
    "novograd",
    "lion",
]
_MARS_SHAPES = [(), (1,), (3, 0), (7,), (4, 3)]  # It takes any tensor for a matrix.
SHAPES = {
    "mars": _MARS_SHAPES,
    "mars-epsilon": _MARS_SHAPES,
    "mars-lion": [(3, 0), (4, 3)],
    "adafactor": _NOT_EMPTY,
    "adafactor-decay": _NOT_EMPTY,
    "sm3": _NOT_EMPTY,
    "sm3-plain": _NOT_EMPTY,
    **{name: [(), (3, 0), (4, 3)] for name in _BY_OPTAX},
}
SCALES = {"mars": [1.0], "mars-epsilon": [1.0]}
