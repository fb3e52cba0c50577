"""What the examples have in common on the command line, and how they say no."""

import argparse
import difflib
import importlib.util
import math
import os
import sys
from pathlib import Path
from typing import NoReturn

PACKAGES = ("keras", "tensorflow_datasets", "sklearn", "matplotlib")


def refuse(message: str) -> NoReturn:
    """Ends the program with one line that says what was wrong, and exit code 2."""
    print(f"{Path(sys.argv[0]).name}: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(2)


class Parser(argparse.ArgumentParser):
    """A parser with the options that every training script takes, and errors of one line."""

    def __init__(self, description, batch_size, epochs, output):
        formatter = argparse.ArgumentDefaultsHelpFormatter
        super().__init__(description=description, formatter_class=formatter, allow_abbrev=False)
        add = self.add_argument
        add("--optimizer", default="Adam", metavar="NAME", help="a class of keras_adaptive: SGD, Adagrad, RMSprop, ...")
        add("--learning-rate", type=_rate, metavar="RATE", help="at least 0; if not given, the class's own default")
        add("--batch-size", type=_count, default=batch_size, metavar="N", help="of all replicas together")
        add("--epochs", type=_count, default=epochs, metavar="N", help="passes over the training data")
        add("--seed", type=_seed, default=1, metavar="N", help="of the first weights and of the order of the data")
        add("--precision", choices=["float32", "bfloat16", "mixed_bfloat16", "mixed_float16"], default="float32",
            help="bfloat16: weights too; mixed: 16 bits for the layers, float32 for the weights")  # fmt: skip
        add("--strategy", choices=["auto", "cpu", "mirrored", "multiworker", "tpu"], default="auto",
            help="where to train: what is there; one CPU; all GPUs of this machine; several machines; a TPU")  # fmt: skip
        add("--replicas", type=_count, metavar="N",
            help="how many devices share each batch; without GPUs, N logical CPUs. If not given, all devices")  # fmt: skip
        add("--data-dir", type=Path, metavar="FOLDER", help="of tensorflow-datasets; if not given, its own default")
        add("--output", type=Path, default=output, metavar="FILE.png", help="the learning curves")

    def error(self, message):
        refuse(f"{message} (--help lists all options)")

    def parse(self):
        """The checked arguments; nothing heavy has been imported by then."""
        arguments = self.parse_args()
        missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
        if missing:
            refuse(f'{missing[0]} is not installed. Run: pip install -e ".[examples]"')
        check_batch(arguments.batch_size, arguments.replicas or 1)
        folder = arguments.output.absolute().parent
        if arguments.output.suffix != ".png" or not os.access(folder, os.W_OK):
            refuse(f"--output must be a .png file in a folder that can be written. Received: {arguments.output}")
        return arguments


def check_batch(batch_size, replicas):
    """Every replica must get the same share of a batch."""
    if batch_size % replicas:
        refuse(f"--batch-size must be a multiple of the number of replicas. Received: {batch_size} for {replicas}")


def make_optimizer(name, learning_rate):
    """An optimizer of the package by the name of its class, in any case."""
    import keras_adaptive

    classes = {each: getattr(keras_adaptive, each) for each in keras_adaptive.__all__}
    by_lower_case = {each.lower(): each for each in classes}
    if name.lower() not in by_lower_case:
        near = difflib.get_close_matches(name.lower(), by_lower_case, n=3, cutoff=0.0)
        refuse(f"unknown --optimizer {name!r}; the nearest names are {', '.join(by_lower_case[each] for each in near)}")
    arguments = {} if learning_rate is None else {"learning_rate": learning_rate}
    return classes[by_lower_case[name.lower()]](**arguments)


def _number(kind, accepted, holds):
    """A converter for argparse, whose errors say what is accepted."""

    def convert(text):
        try:
            number = kind(text)
        except ValueError:
            number = None
        if number is None or not holds(number):
            raise argparse.ArgumentTypeError(f"must be {accepted}. Received: {text}")
        return number

    return convert


_count = _number(int, "a whole number, at least 1", lambda n: n >= 1)
_seed = _number(int, "a whole number from 0 to 4294967295", lambda n: 0 <= n < 2**32)
_rate = _number(float, "a finite real number, at least 0", lambda x: 0.0 <= x < math.inf)
