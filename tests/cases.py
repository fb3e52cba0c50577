"""The table of cases: every contract test runs on every row, and knows an optimizer by its row alone."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import pytest
from reference import oracles, twins

import keras_adaptive


@dataclass(frozen=True)
class Case:
    """One optimizer with its arguments.

    Args:
        name: of the row.
        optimizer: the class.
        twin: its NumPy float64 twin.
        oracle: another library's run, where one is exact.
        arguments: for the class and the twin.
        wrong: one value out of range for each of the algorithm's own arguments.
    """

    name: str
    optimizer: type[keras.optimizers.Optimizer]
    twin: Callable | None = None
    oracle: Callable | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    wrong: tuple[dict[str, Any], ...] = ()

    def make(self, learning_rate=0.05, **options):
        return self.optimizer(learning_rate=learning_rate, **self.arguments, **options)


_WRONG_EPSILON = (
    {"epsilon": -1e-8},
    {"epsilon": float("nan")},
    {"epsilon": 1e-50},
    {"epsilon_outside": -1.0},
    {"epsilon": 0.0, "epsilon_outside": 0.0},
)
OUTSIDE = {"epsilon": 0.0, "epsilon_outside": 1e-8}

CASES = [
    Case(
        "sgd",
        keras_adaptive.SGD,
        twins.sgd,
        oracles.torch("SGD"),
        wrong=({"momentum": 1.0}, {"momentum": -0.1}, {"momentum": "0.9"}, {"nesterov": 1}, {"nesterov": True}),
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
        wrong=(*_WRONG_EPSILON, {"initial_accumulator_value": -0.1}),
    ),
    Case(
        "adagrad-torch",
        keras_adaptive.Adagrad,
        twins.adagrad,
        oracles.torch("Adagrad", eps=1e-8, initial_accumulator_value=0.1),
        {**OUTSIDE, "initial_accumulator_value": 0.1},
    ),
    Case(
        "rmsprop",
        keras_adaptive.RMSprop,
        twins.rmsprop,
        oracles.optax("rmsprop", decay=0.9, eps=1e-16, eps_in_sqrt=True),
        wrong=(*_WRONG_EPSILON, {"rho": 1.0}, {"momentum": -0.1}, {"centered": "yes"}),
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
        wrong=(*_WRONG_EPSILON, {"beta_1": 1.0}, {"beta_1": -0.1}, {"beta_2": 1.5}, {"beta_2": None}),
    ),
    Case(
        "adam-torch",
        keras_adaptive.Adam,
        twins.adam,
        oracles.torch("Adam", betas=(0.8, 0.99), eps=1e-8),
        {**OUTSIDE, "beta_1": 0.8, "beta_2": 0.99},
    ),
]
KERAS = Case("keras-adam", keras.optimizers.Adam)


def _last_of_its_class(case):
    return case is [other for other in CASES if other.optimizer is case.optimizer][-1]


ALL = [pytest.param(case, id=case.name) for case in CASES]
# Besides the numbers: the last row of each class, which has the most slots; the others by `pytest -m variant`.
ONE_PER_CLASS = [
    pytest.param(case, id=case.name, marks=[] if _last_of_its_class(case) else pytest.mark.variant) for case in CASES
]

each = pytest.mark.parametrize("case", ONE_PER_CLASS)
each_row = pytest.mark.parametrize("case", ALL)


def each_and_keras(reason, raises=AssertionError, rows=ONE_PER_CLASS):
    """The rows, and Keras's own Adam, which must fail the test: it shows that the test can."""
    expected = pytest.mark.xfail(strict=True, raises=raises, reason=reason)
    return pytest.mark.parametrize("case", [*rows, pytest.param(KERAS, id=KERAS.name, marks=expected)])
