"""The optimizers that are compared: how each is made, and one search space for all workloads."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keras

import keras_adaptive
from keras_adaptive import Group
from keras_adaptive.bench.specification import CLASSES

# The fractions of the budget after which the learning rate is 0.
HORIZONS = (0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Logarithmic:
    """Numbers between two limits, uniform in their logarithm.

    Attributes:
        low, high: the limits.
        zero: the share of the axis for which the number is 0.
        complement: whether the setting is 1 minus the number, as for beta_1.
    """

    low: float
    high: float
    zero: float = 0.0
    complement: bool = False

    def at(self, place: float) -> float:
        """The setting for a place between 0 and 1."""
        if place < self.zero:
            return 0.0
        place = (place - self.zero) / (1 - self.zero)
        number = self.low * (self.high / self.low) ** place
        return float(f"{1 - number if self.complement else number:.4g}")


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    values: tuple[float, ...]

    def at(self, place: float) -> float:
        return self.values[min(int(place * len(self.values)), len(self.values) - 1)]


DECAY = Logarithmic(1e-4, 0.3, zero=0.25)
MOMENTUM = Logarithmic(0.02, 0.3, complement=True)
SQUARES = Logarithmic(1e-3, 0.1, complement=True)
HORIZON = Choice(HORIZONS)


@dataclass(frozen=True)
class Contender:
    """An optimizer with its search space.

    Attributes:
        name: its name in tables.
        cls: the name of its class.
        axes: the settings besides the learning rate that are tuned, in their order.
        arguments: further arguments, the same in all runs.
        learning_rate: the middle of the three decades that are searched. Default None: the default of the class.
        constant: whether the learning rate stays at its peak after the warm-up, since the algorithm needs no decay.
        tables: settings for embedding tables, which other optimizers of matrices leave to AdamW.
        sequential: whether its steps contain conditions that several runs at once would all compute.
    """

    name: str
    cls: str
    axes: Mapping[str, Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    learning_rate: float | None = None
    constant: bool = False
    tables: Mapping[str, Any] = field(default_factory=dict)
    sequential: bool = False

    @property
    def space(self) -> dict[str, Any]:
        """The axes of the search by name, the learning rate first."""
        middle = self.learning_rate or self.default("learning_rate")
        axes = {"learning_rate": Logarithmic(middle * 10**-1.5, middle * 10**1.5), **self.axes}
        return axes if self.constant else {**axes, "horizon": HORIZON}

    def default(self, name: str) -> float:
        """The number that an argument has if it is not given."""
        if name in self.arguments:
            return self.arguments[name]
        return getattr(keras_adaptive, self.cls).fields[name].default or 0.0

    def make(self, model: keras.Model | None = None, weight_decay: float = 0.1):
        """An optimizer whose learning rate and tuned settings are replaced in every step.

        Args:
            model: its tables get the settings that they need. Default None: there are none.
            weight_decay: used where weight decay is tuned.
        """
        groups = []
        if model is None or any(len(variable.shape) < 2 for variable in model.trainable_variables):
            groups = [keras_adaptive.no_decay_on_vectors()]
        if self.tables and model and any(isinstance(layer, keras.layers.Embedding) for layer in model.layers):
            groups = [Group("embeddings", role="embedding", **self.tables), *groups]
        # A step can replace the weight decay only if there is one.
        decay = {"weight_decay": weight_decay} if "weight_decay" in self.axes else {}
        return getattr(keras_adaptive, self.cls)(**decay, **self.arguments, groups=groups)


def _of(name, cls=None, axes=("weight_decay", "beta_1"), **others):
    known = {
        "weight_decay": DECAY,
        "momentum": MOMENTUM,
        "beta_1": MOMENTUM,
        "beta_2": SQUARES,
        "beta_3": SQUARES,
        "rho": SQUARES,
    }
    return Contender(name, cls or name, {axis: known[axis] for axis in axes}, **others)


_ALL = (
    _of("SGD, momentum", "SGD", ("weight_decay", "momentum"), arguments={"momentum": 0.9}),
    _of("SGD, Nesterov", "SGD", ("weight_decay", "momentum"), arguments={"momentum": 0.9, "nesterov": True}),
    _of("Adagrad", axes=("weight_decay",)),
    _of("RMSprop", axes=("weight_decay", "rho")),
    _of("Adam", axes=("beta_1", "beta_2")),
    _of("AdamW"),
    _of("AdamW, cautious", "AdamW", arguments={"cautious": True}),
    _of("Nadam"),
    _of("Lion"),
    _of("Adafactor", arguments={"beta_1": 0.9}),
    _of("Lamb"),
    _of("Lars", axes=("weight_decay", "momentum")),
    _of("AdEMAMix", axes=("weight_decay", "beta_3")),
    _of("Adopt"),
    _of("Mars"),
    _of("Adan"),
    _of("ScheduleFreeAdamW", constant=True),
    _of("Prodigy"),
    _of("Muon", axes=("weight_decay", "momentum")),
    _of("NorMuon", axes=("weight_decay", "momentum")),
    _of("Soap", tables={"max_size": 1}, sequential=True),
    _of("Shampoo", arguments={"frequency": 20}, tables={"block_size": 32, "start": 10**6}),
)
CONTENDERS = {contender.name: contender for contender in _ALL}
# Those whose results are the targets, as in AlgoPerf.
SETTERS = ("AdamW", "Nadam", "SGD, Nesterov", "SGD, momentum")


def find(name: str) -> Contender:
    """The contender with this name; for another class of the package, one that tunes learning rate and weight decay.

    Raises:
        ValueError: there is no such class.
    """
    if name in CONTENDERS:
        return CONTENDERS[name]
    if name in CLASSES:
        return _of(name, axes=("weight_decay",), constant=name.startswith("ScheduleFree"))
    near = difflib.get_close_matches(name, dict.fromkeys([*CONTENDERS, *CLASSES]), n=3, cutoff=0.4)
    nearest = f"; the nearest are {', '.join(map(repr, near))}" if near else ""
    raise ValueError(f"no optimizer has this name{nearest}. Received: {name!r}")
