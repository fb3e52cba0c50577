"""An optimizer with its arguments, as the command line names it: `SGD:momentum=0.9`."""

import ast
import difflib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras_adaptive
from keras_adaptive.core.optimizer import AdaptiveOptimizer

CLASSES = {
    name: value
    for name, value in vars(keras_adaptive).items()
    if inspect.isclass(value) and issubclass(value, AdaptiveOptimizer) and value is not AdaptiveOptimizer
}


@dataclass(frozen=True)
class Specification:
    """A class of the package and its arguments."""

    name: str
    arguments: Mapping[str, Any]

    def __str__(self):
        return ":".join([self.name, *(f"{name}={value}" for name, value in self.arguments.items())])

    def make(self):
        return CLASSES[self.name](**self.arguments)


def parse(text: str, options: Mapping[str, Any]) -> list[Specification]:
    """The optimizers of a comma-separated list, or all optimizers for "all".

    Args:
        text: the list.
        options: arguments of each optimizer that does not give its own value.

    Raises:
        ValueError: for an unknown name, or arguments that the class refuses.
    """
    items = sorted([*CLASSES, "SGD:momentum=0.9"], key=str.lower) if text == "all" else text.split(",")
    return [_one(item.strip(), options) for item in items]


def _one(item, options):
    name, *pairs = item.split(":")
    if name not in CLASSES:
        by_lower = {known.lower(): known for known in CLASSES}
        near = [by_lower[found] for found in difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.4)]
        nearest = f"; the nearest names are {', '.join(near)}" if near else ""
        raise ValueError(f"unknown optimizer{nearest}. Received: {name!r}")
    made = Specification(name, {**options, **arguments(pairs)})
    try:
        made.make()
    except (TypeError, ValueError) as error:
        raise ValueError(f"{made}: {' '.join(str(error).split())}") from error
    return made


def arguments(pairs) -> dict[str, Any]:
    """Arguments by name from texts such as "momentum=0.9". A value that is not a Python literal is a string."""
    found = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not (sign and name.strip().isidentifier()):
            raise ValueError(f"an argument must be given as name=value. Received: {pair!r}")
        try:
            found[name.strip()] = ast.literal_eval(value.strip())
        except (SyntaxError, ValueError):
            found[name.strip()] = value.strip()
    return found
