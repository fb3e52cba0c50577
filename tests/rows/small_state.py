"""Algorithms with less state than Adam."""

from functools import partial

from reference import oracles, twins

import keras_adaptive
from rows.case import Case

NOT_EMPTY = ((), (1,), (7,), (4, 3), (2, 1, 3, 2, 2))
WRONG_ADAFACTOR = (
    {"beta_1": 1.0},
    {"beta_2_decay": 0.0},
    {"beta_2_decay": None},
    {"epsilon_1": 0.0},
    {"epsilon_1": 1e-50},
    {"epsilon_2": -1e-3},
    {"clip_threshold": 0.0},
    {"relative_step": 1},
    {"scale_parameter": "yes"},
    {"warmup_init": None},
    {"warmup_init": True, "relative_step": False},
    {"min_size_to_factor": 0},
    {"min_size_to_factor": 1.5},
)

# An element's step depends on the gradients of the others.
Whole = partial(Case, elementwise=False)

ROWS = [
    Whole(
        "adafactor",
        keras_adaptive.Adafactor,
        twins.adafactor,
        oracles.torch("Adafactor", eps=(1e-30, 1e-3), weight_decay=0.0),
        wrong=WRONG_ADAFACTOR,
        shapes=NOT_EMPTY,
    ),
    Whole(
        "adafactor-decay",
        keras_adaptive.Adafactor,
        twins.adafactor,
        oracles.torch("Adafactor", eps=(1e-30, 1e-3), d=1.2, beta2_decay=-0.6, weight_decay=0.1),
        {"clip_threshold": 1.2, "beta_2_decay": 0.6, "weight_decay": 0.1},
        shapes=NOT_EMPTY,
    ),
    Whole(
        "adafactor-absolute",
        keras_adaptive.Adafactor,
        twins.adafactor,
        oracles.pytorch_optimizer("AdaFactor", betas=(None, 0.999), relative_step=False, scale_parameter=False),
        {"relative_step": False, "scale_parameter": False},
    ),
    Whole(
        "adafactor-large-matrices",
        keras_adaptive.Adafactor,
        twins.adafactor,
        arguments={"min_size_to_factor": 3, "epsilon_1": 1e-12, "epsilon_2": 0.5},
    ),
    Whole("adafactor-moment", keras_adaptive.Adafactor, twins.adafactor, arguments={"beta_1": 0.9}, stops=False),
    Case(
        "sm3-plain",
        keras_adaptive.SM3,
        twins.sm3,
        oracles.pytorch_optimizer("SM3"),
        {"momentum": 0.0},
        shapes=NOT_EMPTY,
        tolerance=(1e-10, "the oracle adds 1e-30 to squares, of which the smallest are 1e-20"),
    ),
    Case(
        "sm3",
        keras_adaptive.SM3,
        twins.sm3,
        oracles.pytorch_optimizer("SM3", momentum=0.9),
        wrong=({"momentum": 1.0}, {"momentum": -0.1}, {"momentum": "0.9"}),
        shapes=NOT_EMPTY,
        tolerance=(1e-10, "the oracle adds 1e-30 to squares, of which the smallest are 1e-20"),
    ),
    Whole(
        "novograd-averaging",
        keras_adaptive.Novograd,
        twins.novograd,
        oracles.pytorch_optimizer("NovoGrad", betas=(0.8, 0.99), grad_averaging=True, weight_decay=0.1),
        {"beta_1": 0.8, "beta_2": 0.99, "grad_averaging": True, "weight_decay": 0.1},
        moves=0.04,
        shared=50.0,
    ),
    Whole(
        "novograd",
        keras_adaptive.Novograd,
        twins.novograd,
        oracles.optax("novograd", b1=0.95, b2=0.98, eps=1e-8, weight_decay=0.1),
        {"weight_decay": 0.1},
        wrong=(
            {"beta_1": 1.0},
            {"beta_2": -0.1},
            {"epsilon": 0.0},
            {"epsilon": float("nan")},
            {"grad_averaging": 1},
            {"weight_decay": -0.1},
        ),
    ),
    Case(
        "lion-decay",
        keras_adaptive.Lion,
        twins.lion,
        oracles.pytorch_optimizer("Lion", betas=(0.8, 0.99), cautious=True, weight_decay=0.1),
        {"beta_1": 0.8, "cautious": True, "weight_decay": 0.1},
    ),
    Case(
        "lion",
        keras_adaptive.Lion,
        twins.lion,
        oracles.optax("lion", weight_decay=0.0),
        wrong=({"beta_1": 1.0}, {"beta_1": None}, {"beta_2": 1.0}),
    ),
    Case(
        "tiger-plain",
        keras_adaptive.Tiger,
        twins.tiger,
        oracles.pytorch_optimizer("Tiger", weight_decay=0.1),
        {"parameter_scale": False, "weight_decay": 0.1},
        lacks={"smoothness": "a step is a sign"},
    ),
    Case(
        "tiger",
        keras_adaptive.Tiger,
        twins.tiger,
        arguments={"weight_decay": 0.1},
        wrong=({"beta": 1.0}, {"beta": -0.1}, {"parameter_scale": 1}, {"weight_decay": -0.1}),
    ),
]
