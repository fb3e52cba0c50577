"""Adam's family."""

import numpy as np
from reference import oracles, twins

import keras_adaptive
from rows.case import Case

WRONG_BETAS = ({"beta_1": 1.0}, {"beta_1": -0.1}, {"beta_2": 1.5}, {"beta_2": None})
WRONG_EPSILON = ({"epsilon": -1e-8}, {"epsilon": 0.0}, {"epsilon": float("nan")}, {"epsilon": 1e-50})
BETAS = {"beta_1": 0.8, "beta_2": 0.99}


def mini(axes_of):
    """Adam-mini's twin with the axes that a variable of so many axes has."""

    def run(theta, gradient, eta, steps, block="auto", **arguments):
        return twins.adam_mini(theta, gradient, eta, steps, axes=axes_of(np.ndim(theta)), **arguments)

    return run


ROWS = [
    Case(
        "adamw-cautious",
        keras_adaptive.AdamW,
        twins.adamw,
        None,
        {"cautious": True, "weight_decay": 0.1},
        wrong=(*WRONG_BETAS, *WRONG_EPSILON, {"amsgrad": True}),
    ),
    Case(
        "adamw",
        keras_adaptive.AdamW,
        twins.adamw,
        oracles.torch("AdamW", betas=(0.8, 0.99), weight_decay=0.01),
        BETAS,
    ),
    Case(
        "amsgrad-hat",
        keras_adaptive.Amsgrad,
        twins.amsgrad,
        oracles.optax("amsgrad"),
        {"variant": "hat"},
        wrong=(*WRONG_BETAS, *WRONG_EPSILON, {"variant": "torch"}, {"variant": None}),
    ),
    Case(
        "amsgrad-raw",
        keras_adaptive.Amsgrad,
        twins.amsgrad,
        oracles.torch("Adam", betas=(0.8, 0.99), amsgrad=True),
        {**BETAS, "variant": "raw"},
    ),
    Case(
        "amsgrad",
        keras_adaptive.Amsgrad,
        twins.amsgrad,
        oracles.optax("amsgrad", bias_correction_mu=False, bias_correction_nu=False),
    ),
    Case(
        "adamax",
        keras_adaptive.Adamax,
        twins.adamax,
        oracles.torch("Adamax"),
        wrong=(*WRONG_BETAS, *WRONG_EPSILON),
    ),
    Case(
        "nadam-simple",
        keras_adaptive.Nadam,
        twins.nadam,
        oracles.optax("nadam"),
        {"form": "simple"},
        wrong=(*WRONG_BETAS, *WRONG_EPSILON, {"momentum_decay": -0.1}, {"form": "paper"}, {"form": 1}),
    ),
    Case(
        "nadam-keras",
        keras_adaptive.Nadam,
        twins.nadam,
        oracles.torch("NAdam", betas=(0.8, 0.99), momentum_decay=1.0),
        {**BETAS, "momentum_decay": 1.0},
    ),
    Case("nadam", keras_adaptive.Nadam, twins.nadam, oracles.torch("NAdam")),
    Case(
        "radam-torch",
        keras_adaptive.RAdam,
        twins.radam,
        oracles.torch("RAdam"),
        {"threshold": 5.0},
        wrong=(*WRONG_BETAS, *WRONG_EPSILON, {"threshold": 3.9}, {"unrectified": "sgd"}, {"unrectified": True}),
    ),
    Case(
        "radam-skip",
        keras_adaptive.RAdam,
        twins.radam,
        oracles.pytorch_optimizer("RAdam", betas=(0.9, 0.9), n_sma_threshold=4, degenerated_to_sgd=False),
        {"unrectified": "skip", "beta_2": 0.9},
        lacks={"first steps": "it takes none"},
    ),
    Case(
        "radam-never",
        keras_adaptive.RAdam,
        twins.radam,
        None,
        {"beta_2": 0.6},
    ),
    Case(
        "radam",
        keras_adaptive.RAdam,
        twins.radam,
        oracles.pytorch_optimizer("RAdam", n_sma_threshold=4, degenerated_to_sgd=True),
    ),
    Case("adabelief-epsilon", keras_adaptive.AdaBelief, twins.adabelief, None, {**BETAS, "epsilon": 1e-4}),
    Case(
        "adabelief",
        keras_adaptive.AdaBelief,
        twins.adabelief,
        oracles.optax("adabelief", eps=1e-16, eps_root=1e-16),
        wrong=(*WRONG_BETAS, *WRONG_EPSILON),
    ),
    Case(
        "yogi-optax",
        keras_adaptive.Yogi,
        twins.yogi,
        oracles.optax("yogi"),
        {"initial_momentum_value": 1e-6, "use_bias_correction": True},
        wrong=(
            *WRONG_BETAS,
            *WRONG_EPSILON,
            {"initial_accumulator_value": -0.1},
            {"initial_momentum_value": -0.1},
            {"use_bias_correction": 1},
        ),
        lacks={"rest": "its momentum begins above 0"},
    ),
    Case("yogi", keras_adaptive.Yogi, twins.yogi),
    Case(
        "adabound-tight",
        keras_adaptive.AdaBound,
        twins.adabound,
        None,
        {**BETAS, "final_learning_rate": 0.2, "gamma": 0.1, "base_learning_rate": 0.1},
    ),
    Case(
        "adabound",
        keras_adaptive.AdaBound,
        twins.adabound,
        oracles.pytorch_optimizer("AdaBound", lr=0.05),
        {"base_learning_rate": 0.05},
        wrong=(
            *WRONG_BETAS,
            *WRONG_EPSILON,
            {"final_learning_rate": 0.0},
            {"gamma": 0.0},
            {"base_learning_rate": 0.0},
            {"base_learning_rate": "0.1"},
        ),
        tolerance=(1e-8, "pytorch_optimizer adds 1e-15 under the root"),
    ),
    Case(
        "adan-decoupled",
        keras_adaptive.Adan,
        twins.adan,
        oracles.pytorch_optimizer("Adan", betas=(0.9, 0.8, 0.95), weight_decay=0.1, weight_decouple=True),
        {"beta_1": 0.9, "beta_2": 0.8, "beta_3": 0.95, "proximal": False, "weight_decay": 0.1},
        wrong=(*WRONG_BETAS, *WRONG_EPSILON, {"beta_3": 1.0}, {"proximal": 1}),
    ),
    Case("adan", keras_adaptive.Adan, twins.adan, oracles.pytorch_optimizer("Adan", weight_decay=0.02)),
    Case(
        "ademamix-scheduled",
        keras_adaptive.AdEMAMix,
        twins.ademamix,
        None,
        {"alpha_steps": 30, "beta_3_steps": 60},
        wrong=(
            *WRONG_BETAS,
            *WRONG_EPSILON,
            {"beta_3": 1.0},
            {"alpha": -1.0},
            {"alpha_steps": 0},
            {"alpha_steps": 1.5},
            {"beta_3_steps": 0},
            {"beta_3_steps": "all"},
        ),
    ),
    Case(
        "ademamix-slow",
        keras_adaptive.AdEMAMix,
        twins.ademamix,
        None,
        {"beta_1": 0.0, "beta_3_steps": 60},
    ),
    Case("ademamix", keras_adaptive.AdEMAMix, twins.ademamix, oracles.optax("contrib.ademamix")),
    Case(
        "adopt-unclipped",
        keras_adaptive.Adopt,
        twins.adopt,
        oracles.optax("contrib.adopt", use_clipping=False),
        {"clip_exponent": None},
        wrong=(*WRONG_BETAS, *WRONG_EPSILON, {"clip_exponent": -0.25}, {"clip_exponent": "0.25"}),
        lacks={
            "first steps": "the first gradient makes none",
            "smoothness": "a first gradient near 0 makes steps without bound",
        },
    ),
    Case(
        "adopt",
        keras_adaptive.Adopt,
        twins.adopt,
        oracles.optax("contrib.adopt"),
        lacks={"first steps": "the first gradient makes none, and the clip bounds those that follow"},
    ),
    Case("adopt-betas", keras_adaptive.Adopt, twins.adopt, oracles.optax("contrib.adopt", b1=0.8, b2=0.99), BETAS),
    Case(
        "mars-lion-matrices",
        keras_adaptive.Mars,
        twins.mars,
        oracles.pytorch_optimizer("MARS", mars_type="lion", weight_decay=0.0),
        {"variant": "lion"},
        wrong=(
            *WRONG_BETAS,
            *WRONG_EPSILON,
            {"gamma": -0.1},
            {"variant": "shampoo"},
            {"vector_learning_rate_multiplier": -1.0},
            {"vector_beta_1": 1.0},
            {"vector_beta_2": -0.1},
        ),
        # pytorch_optimizer's AdamW, which the others have, adds 1e-15 under the root.
        shapes=((4, 3), (3, 5), (3, 0)),
    ),
    Case(
        "mars-lion",
        keras_adaptive.Mars,
        twins.mars,
        None,
        {"variant": "lion", "beta_1": 0.9, "gamma": 0.1},
    ),
    Case(
        "mars-vectors",
        keras_adaptive.Mars,
        twins.mars,
        None,
        {
            "beta_1": 0.9,
            "beta_2": 0.95,
            "gamma": 0.1,
            "vector_learning_rate_multiplier": 0.25,
            "vector_beta_1": 0.8,
            "vector_beta_2": 0.9,
            "weight_decay": 0.1,
        },
        vector_rate=0.25,
    ),
    Case("mars", keras_adaptive.Mars, twins.mars),
    Case(
        "grams",
        keras_adaptive.Grams,
        twins.grams,
        oracles.pytorch_optimizer("Grams", weight_decay=0.0),
        wrong=(*WRONG_BETAS, *WRONG_EPSILON),
    ),
    Case(
        "adam-mini-row",
        keras_adaptive.AdamMini,
        mini(lambda ndim: tuple(range(1, ndim))),
        None,
        {"block": "row"},
        wrong=(*WRONG_BETAS, *WRONG_EPSILON, {"block": "layer"}, {"block": 0}),
    ),
    Case(
        "adam-mini-tensor",
        keras_adaptive.AdamMini,
        mini(lambda ndim: tuple(range(ndim))),
        None,
        {**BETAS, "block": "tensor"},
        elementwise=False,
    ),
    Case(
        "adam-mini-element",
        keras_adaptive.AdamMini,
        mini(lambda ndim: ()),
        oracles.torch("Adam"),
        {"block": "element"},
    ),
    Case(
        "adam-mini",
        keras_adaptive.AdamMini,
        mini(lambda ndim: tuple(range(ndim - 1))),
        None,
    ),
    Case(
        "adadelta-torch",
        keras_adaptive.Adadelta,
        twins.adadelta,
        oracles.torch("Adadelta", rho=0.9, eps=1e-2),
        {"rho": 0.9, "epsilon": 1e-2},
        wrong=(*WRONG_EPSILON, {"rho": 1.0}, {"rho": -0.1}),
        stands=True,
    ),
    Case(
        "adadelta",
        keras_adaptive.Adadelta,
        twins.adadelta,
        oracles.torch("Adadelta", rho=0.95, eps=1e-2),
        # With the default of 1e-6 the first steps are a hundred times shorter than those of the other rows.
        {"epsilon": 1e-2},
        stands=True,
    ),
]
