"""A row of the table of cases, and what several rows have in common."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import pytest


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
        of_twin: arguments for the twin alone: where its default is not that of the class, or it needs to be told more.
        of_class: arguments for the class alone.
        coupled: the twin and the oracle take all variables at once, because the step depends on all of them.
        elementwise: in a vector each element's step depends on its own gradients alone.
        stands: a row without a gradient stands still, so that its slots need not be looked at.
        shapes: of the variables that it is compared on; default: every kind.
        rate: the highest learning rate of that comparison in tests/test_rules.py.
        moves: how far each weight moves at least in 20 steps with learning rate 0.05 and gradients near 1.
        stops: a learning rate of 0 stops it at once, because nothing that it keeps holds whole steps.
        shared: what the learning rate of a long vector is multiplied by, where each of many weights moves less.
        vector_rate: what the learning rate of a variable with fewer than two axes is multiplied by.
        lacks: what most algorithms have, with the reason why this one has not; a test that rests on it `needs` it:
            "first steps": the first updates move weights;
            "rest": without a gradient nothing but decay moves a weight;
            "smoothness": a small difference of a gradient is a small difference of the step;
            "long vectors": a vector of thousands of elements is done in a moment.
        refuses: options that the class has no use for and refuses, with the reason; `make` leaves them out where a test
            turns them on besides, and a test that is about one `needs` it.
        tolerance: of the comparison with the oracle, where that is not exact, with the reason.
    """

    name: str
    optimizer: type[keras.optimizers.Optimizer]
    twin: Callable | None = None
    oracle: Callable | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    wrong: tuple[dict[str, Any], ...] = ()
    of_twin: dict[str, Any] = field(default_factory=dict)
    of_class: dict[str, Any] = field(default_factory=dict)
    coupled: bool = False
    elementwise: bool = True
    stands: bool = False
    shapes: tuple[tuple[int, ...], ...] | None = None
    rate: float = 0.05
    moves: float = 0.1
    stops: bool = True
    shared: float = 1.0
    vector_rate: float = 1.0
    lacks: Mapping[str, str] = field(default_factory=dict)
    refuses: Mapping[str, str] = field(default_factory=dict)
    tolerance: tuple[float, str] = (1e-12, "exact")

    @property
    def id(self):
        """The name, and that of the class if it is not part of it: `pytest -k adammini` finds its tests."""
        of_class = self.optimizer.__name__.lower()
        return self.name if of_class in self.name else f"{of_class}-{self.name}"

    def make(self, learning_rate=0.05, **options):
        given = {"learning_rate": learning_rate, **self.arguments, **self.of_class, **self.accepted(options)}
        return self.optimizer(**given)

    def accepted(self, options):
        """Those of the options that the class does not refuse."""
        refused = {name for name in self.refuses if options.get(name) is True}
        refused |= {"ema_overwrite_frequency"} if "use_ema" in refused else set()
        return {name: option for name, option in options.items() if name not in refused}

    def needs(self, what):
        """Leaves the test out where it is about an option that the class refuses, or rests on what the row lacks."""
        if what in self.refuses:
            pytest.skip(f"{self.optimizer.__name__} refuses {what}: {self.refuses[what]}")
        if what in self.lacks:
            pytest.skip(f"{self.name} lacks {what}: {self.lacks[what]}")

    def needs_steps_of_its_own(self):
        """Leaves the test out where it compares a variable with itself among others."""
        if self.coupled:
            pytest.skip("the step of one variable depends on all of them")


WRONG_EPSILON = (
    {"epsilon": -1e-8},
    {"epsilon": float("nan")},
    {"epsilon": 1e-50},
    {"epsilon_outside": -1.0},
    {"epsilon": 0.0, "epsilon_outside": 0.0},
)
OUTSIDE = {"epsilon": 0.0, "epsilon_outside": 1e-8}
WRONG_EPSILON_OF_ADAM = (
    {"epsilon": -1e-8},
    {"epsilon": float("nan")},
    {"epsilon": 1e-50},
    {"epsilon_root": -1.0},
    {"epsilon": 0.0, "epsilon_root": 0.0},
)
