"""The commands `list` and `show`."""

import argparse
import difflib

import keras_adaptive
from keras_adaptive.catalogue import entries, page
from keras_adaptive.core.optimizer import AdaptiveOptimizer


def run(parser: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    """Runs one of the commands. Exit status: 0, or 2 for a name that does not exist."""
    if given.command == "list":
        print((entries.markdown if given.markdown else entries.plain)(entries.catalogue()))
        return 0
    options = AdaptiveOptimizer.fields
    if given.name.lower() in options:
        print(options[given.name.lower()].described(given.name.lower()))
        return 0
    by_lower = {name.lower(): name for name in (*keras_adaptive.__all__, *options)}
    if given.name.lower() not in by_lower:
        near = [by_lower[name] for name in difflib.get_close_matches(given.name.lower(), by_lower, n=3, cutoff=0.4)]
        nearest = f"the nearest are {', '.join(near)}" if near else "`python -m keras_adaptive list` has all optimizers"
        parser.error(f"the package has no such name; {nearest}. Received: {given.name!r}")
    item = getattr(keras_adaptive, by_lower[given.name.lower()])
    print((page.markdown if given.markdown else page.plain)(item))
    return 0
