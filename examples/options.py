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
PRECISIONS = ("float32", "bfloat16", "mixed_bfloat16", "mixed_float16")
SLOT_DTYPES = ("float32", "bfloat16", "int8")
STRATEGIES = ("auto", "cpu", "mirrored", "multiworker", "tpu")


def refuse(message: str) -> NoReturn:
    """Ends the program with one line that says what was wrong, and exit code 2."""
    print(f"{Path(sys.argv[0]).name}: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(2)


class Parser(argparse.ArgumentParser):
    """A parser with the options that every training script takes, and errors of one line."""

    def __init__(self, description, batch_size, epochs, output):
        super().__init__(description=description, allow_abbrev=False)
        option = self.option
        option("--optimizer", "NAME", "a class of keras_adaptive: SGD, Adagrad, RMSprop, Adam, ...", default="Adam")
        option("--learning-rate", "RATE", "0 or more (default: that of the class)", type=_rate)
        option("--batch-size", "N", "examples in a step, on all replicas together", type=_count, default=batch_size)
        option("--epochs", "N", "passes over the training data", type=_count, default=epochs)
        option("--seed", "N", "of the first weights, the order of the data and the rounding", type=_seed, default=1)
        text = "bfloat16 is for weights too; mixed keeps the weights in float32"
        option("--precision", None, text, choices=PRECISIONS, default="float32")
        text = "of the optimizer's state; bfloat16 takes half of the memory, int8 a quarter"
        option("--slot-dtype", None, text, choices=SLOT_DTYPES, default="float32")
        text = "auto: TPU, GPUs or CPU, whatever is there; cpu: one CPU; mirrored: all GPUs, or --replicas logical "
        text += "CPUs; multiworker: one process for each worker, started with the same arguments and its own TF_CONFIG"
        option("--strategy", None, text, choices=STRATEGIES, default="auto")
        option("--replicas", "N", "devices that share a batch (default: all that the strategy finds)", type=_count)
        option("--data-dir", "FOLDER", "of tensorflow-datasets (default: its own)", type=Path)
        option("--output", "FILE.png", "the picture of the learning curves", type=Path, default=output)

    def option(self, flag, metavar, text, default=None, **how):
        """`add_argument`, with the default shown in the help if there is one."""
        text += "" if default is None else " (default: %(default)s)"
        self.add_argument(flag, metavar=metavar, help=text, default=default, **how)

    def error(self, message):
        refuse(f"{message} (--help lists all options)")

    def parse(self):
        """The arguments, checked as far as that goes without Keras, which takes seconds to import."""
        arguments = self.parse_args()
        missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
        if missing:
            refuse(f'{missing[0]} is not installed. Run: pip install -e ".[examples]"')
        check_batch(arguments.batch_size, arguments.replicas or 1)
        if arguments.output.suffix != ".png" or not os.access(arguments.output.absolute().parent, os.W_OK):
            refuse(f"--output must be a .png file in a folder that can be written. Received: {arguments.output}")
        return arguments


def check_batch(batch_size, replicas):
    """Every replica must get the same share of a batch."""
    if batch_size % replicas:
        refuse(f"--batch-size must be a multiple of the number of replicas. Received: {batch_size} for {replicas}")


def find_optimizer(name):
    """The class of the package with that name, in any case."""
    import keras

    import keras_adaptive

    public = [getattr(keras_adaptive, each) for each in keras_adaptive.__all__]
    classes = [each for each in public if isinstance(each, type) and issubclass(each, keras.optimizers.Optimizer)]
    by_lower_case = {each.__name__.lower(): each for each in classes}
    if name.lower() not in by_lower_case:
        near = difflib.get_close_matches(name.lower(), by_lower_case, n=3, cutoff=0.0)
        names = ", ".join(by_lower_case[each].__name__ for each in near)
        refuse(f"unknown --optimizer {name!r}; the nearest names are {names}")
    return by_lower_case[name.lower()]


def optimizer_arguments(arguments):
    """What the command line says of the optimizer, besides its class."""
    chosen = {"slot_dtype": arguments.slot_dtype, "seed": arguments.seed}
    if arguments.learning_rate is not None:
        chosen["learning_rate"] = arguments.learning_rate
    if arguments.precision == "bfloat16":
        # Rounded to the nearest, most steps are too small to change a bfloat16 weight.
        chosen["stochastic_rounding"] = True
    if arguments.precision == "mixed_float16":
        chosen["loss_scale_factor"] = "dynamic"
    return chosen


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
