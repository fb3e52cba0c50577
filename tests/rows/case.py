"""A row of the table of cases, and what several rows have in common."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras


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
        shapes: of the variables that it is compared on; default: every kind.
        elementwise: a gradient that keeps its sign moves every element; False where they move together.
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
    shapes: tuple[tuple[int, ...], ...] | None = None
    elementwise: bool = True
    tolerance: tuple[float, str] = (1e-12, "exact")

    def make(self, learning_rate=0.05, **options):
        return self.optimizer(**{"learning_rate": learning_rate, **self.arguments, **self.of_class, **options})


WRONG_EPSILON = (
    {"epsilon": -1e-8},
    {"epsilon": float("nan")},
    {"epsilon": 1e-50},
    {"epsilon_outside": -1.0},
    {"epsilon": 0.0, "epsilon_outside": 0.0},
)
OUTSIDE = {"epsilon": 0.0, "epsilon_outside": 1e-8}
