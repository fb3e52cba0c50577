"""The lecture's four."""

from reference import oracles, twins

import keras_adaptive
from rows.case import OUTSIDE, WRONG_EPSILON, WRONG_EPSILON_OF_ADAM, Case

ROWS = [
    Case(
        "sgd",
        keras_adaptive.SGD,
        twins.sgd,
        oracles.torch("SGD"),
        wrong=({"momentum": 1.1}, {"momentum": -0.1}, {"momentum": "0.9"}, {"nesterov": 1}, {"nesterov": None}),
        stands=True,
    ),
    Case(
        "sgd-momentum",
        keras_adaptive.SGD,
        twins.sgd,
        oracles.torch("SGD", momentum=0.9),
        {"momentum": 0.9},
    ),
    Case(
        "sgd-nesterov",
        keras_adaptive.SGD,
        twins.sgd,
        oracles.torch("SGD", momentum=0.8, nesterov=True),
        {"momentum": 0.8, "nesterov": True},
    ),
    Case(
        "adagrad",
        keras_adaptive.Adagrad,
        twins.adagrad,
        oracles.optax("adagrad", initial_accumulator_value=0.0, eps=1e-16),
        wrong=(*WRONG_EPSILON, {"initial_accumulator_value": -0.1}),
        stands=True,
    ),
    Case(
        "adagrad-torch",
        keras_adaptive.Adagrad,
        twins.adagrad,
        oracles.torch("Adagrad", eps=1e-8, initial_accumulator_value=0.1),
        {**OUTSIDE, "initial_accumulator_value": 0.1},
        stands=True,
    ),
    Case(
        "rmsprop",
        keras_adaptive.RMSprop,
        twins.rmsprop,
        oracles.optax("rmsprop", decay=0.9, eps=1e-16, eps_in_sqrt=True),
        wrong=(*WRONG_EPSILON, {"rho": 1.0}, {"momentum": -0.1}, {"centered": "yes"}),
        stands=True,
    ),
    Case(
        "rmsprop-torch",
        keras_adaptive.RMSprop,
        twins.rmsprop,
        oracles.torch("RMSprop", alpha=0.95, eps=1e-8, centered=True, momentum=0.8),
        {**OUTSIDE, "rho": 0.95, "momentum": 0.8, "centered": True},
    ),
    Case(
        "adam",
        keras_adaptive.Adam,
        twins.adam,
        oracles.optax("adam", b1=0.9, b2=0.999, eps=0.0, eps_root=1e-16),
        wrong=(
            *WRONG_EPSILON_OF_ADAM,
            {"beta_1": 1.0},
            {"beta_1": -0.1},
            {"beta_2": 1.5},
            {"beta_2": None},
            {"amsgrad": True},
        ),
    ),
    Case(
        "adam-torch",
        keras_adaptive.Adam,
        twins.adam,
        oracles.torch("Adam", betas=(0.8, 0.99), eps=1e-8),
        {"epsilon": 1e-8, "beta_1": 0.8, "beta_2": 0.99},
    ),
]
