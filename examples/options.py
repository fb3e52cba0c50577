"""The command-line options and error messages that the examples share."""

import argparse
import difflib
import importlib.util
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

# The packages that every example needs in addition to keras_adaptive, and the extra that installs each.
PACKAGES = {"keras": "examples", "sklearn": "examples", "matplotlib": "examples"}
PRECISIONS = ("float32", "bfloat16", "mixed_bfloat16", "mixed_float16")
SLOT_DTYPES = ("float32", "bfloat16", "int8")
STRATEGIES = ("auto", "cpu", "mirrored", "multiworker", "tpu")


def end(code: int, message: str) -> NoReturn:
    """Ends the program with that exit code and one line."""
    print(f"{Path(sys.argv[0]).name}: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(code)


def refuse(message: str) -> NoReturn:
    """Ends the program with exit code 2 and one line that says which argument was wrong."""
    end(2, message)


class Parser(argparse.ArgumentParser):
    """A parser with the options that every example has, and errors of one line.

    `packages` are those that this example needs in addition to PACKAGES, each with the extra that installs it. Without
    `devices` the example chooses where to train by itself.
    """

    def __init__(self, description, devices=True, **packages):
        super().__init__(description=description, allow_abbrev=False)
        self.packages = PACKAGES | packages
        text = "seed of the initial weights, the order of the data and the rounding"
        self.option("--seed", "N", text, type=_seed, default=1)
        if devices:
            self._devices()
        text = "the picture (default: in a new folder for temporary files, which is printed)"
        self.option("--output", "FILE.png", text, type=Path)

    def _devices(self):
        text = "auto: TPU, GPUs or CPU, in this order; cpu: one CPU; mirrored: all GPUs, or --replicas logical "
        text += "CPUs; multiworker: one process for each worker, started with the same arguments and its own TF_CONFIG"
        self.option("--strategy", None, text, choices=STRATEGIES, default="auto")
        self.option("--replicas", "N", "devices that share a batch (default: all that the strategy finds)", type=count)

    def training(self, batch_size, epochs, optimizer="Adam", precision="float32", **rates):
        """Adds the options of an example that trains one model by `fit`; None if the example chooses the default."""
        what = "examples in a step, on all replicas together"
        self.one_optimizer(batch_size, what, optimizer, **rates)
        self.option("--epochs", "N", "passes over the training data", type=count, default=epochs)
        self.precision(precision)

    def precision(self, default="float32"):
        text = "dtype of weights and arithmetic; with mixed_... the weights are float32"
        self.option("--precision", None, text, choices=PRECISIONS, default=default)

    def one_optimizer(
        self, batch_size, what_is_a_batch, optimizer="Adam", own_rate="that of the class", learning_rate=None
    ):
        """Adds the options of an example that trains with one optimizer."""
        text = "a class of keras_adaptive: SGD, Adagrad, RMSprop, Adam, ..."
        self.option("--optimizer", "NAME", text, default=optimizer)
        text = "0 or more" + ("" if learning_rate else f" (default: {own_rate})")
        self.option("--learning-rate", "RATE", text, type=rate, default=learning_rate)
        self.option("--batch-size", "N", what_is_a_batch, type=count, default=batch_size)
        text = "dtype of the optimizer's state; bfloat16 takes half of the memory, int8 a quarter"
        self.option("--slot-dtype", None, text, choices=SLOT_DTYPES, default="float32")

    def measured(self, block):
        """Adds the options of an example that repeats its measurements and writes a table into a Markdown file."""
        self.option("--seeds", "N", "repetitions, with seeds from --seed on", type=count, default=5)
        text = "only try whether everything runs, in a few steps without a verdict"
        self.add_argument("--quick", action="store_true", help=text)
        text = f"put the table between its lines <!-- {block} --> and <!-- /{block} -->"
        self.option("--readme", "FILE.md", text, type=Path)

    def text(self):
        text = "text to learn from (default: the help on Python's language, which comes with Python)"
        self.option("--text", "FILE", text, type=Path)

    def option(self, flag, metavar, text, default=None, **how):
        """`add_argument`, with the default shown in the help if there is one."""
        text += "" if default is None else " (default: %(default)s)"
        self.add_argument(flag, metavar=metavar, help=text, default=default, **how)

    def error(self, message):
        refuse(f"{message} (--help lists all options)")

    def parse(self):
        """The arguments, checked as far as possible without Keras, which takes seconds to import."""
        arguments = self.parse_args()
        for package, extra in self.packages.items():
            if importlib.util.find_spec(package) is None:
                others = ', or ".[data]" for JAX or torch without TensorFlow' if extra == "examples" else ""
                refuse(f'{package} is not installed. Run: pip install -e ".[{extra}]"{others}')
        if getattr(arguments, "batch_size", None):
            check_batch(arguments.batch_size, arguments.replicas or 1)
        if arguments.output:
            output = arguments.output.absolute()
            folder = output.parent.is_dir() and os.access(output.parent, os.W_OK)
            if output.suffix != ".png" or output.is_dir() or not folder:
                refuse(f"--output must be a .png file in a folder that can be written. Received: {arguments.output}")
        return arguments


def picture_file(arguments):
    """Where the picture goes: --output, or a new folder for temporary files, so that nothing is left unasked."""
    if arguments.output:
        return arguments.output
    return Path(tempfile.mkdtemp(prefix="keras_adaptive_")) / Path(sys.argv[0]).with_suffix(".png").name


def check_batch(batch_size, replicas):
    """Every replica must get the same share of a batch."""
    if batch_size % replicas:
        refuse(f"--batch-size must be a multiple of the number of replicas. Received: {batch_size} for {replicas}")


def seeds_of(arguments):
    """The seeds of an example that repeats its measurements."""
    last = arguments.seed + arguments.seeds - 1
    if last >= 2**32:
        refuse(f"--seed and --seeds must end at 4294967295 or before. Received: {arguments.seed} to {last}")
    return range(arguments.seed, last + 1)


def find_optimizer(name):
    """The class of the package with that name; upper and lower case do not matter."""
    import keras_adaptive

    public = [getattr(keras_adaptive, each) for each in keras_adaptive.__all__]
    base = keras_adaptive.AdaptiveOptimizer
    classes = [each for each in public if isinstance(each, type) and issubclass(each, base) and each is not base]
    by_lower_case = {each.__name__.lower(): each for each in classes}
    if name.lower() not in by_lower_case:
        near = difflib.get_close_matches(name.lower(), by_lower_case, n=3, cutoff=0.0)
        names = ", ".join(by_lower_case[each].__name__ for each in near)
        refuse(f"unknown --optimizer {name!r}; the nearest names are {names}")
    return by_lower_case[name.lower()]


def optimizer_arguments(arguments):
    """The arguments of the optimizer from the command line."""
    chosen = {"slot_dtype": arguments.slot_dtype, "seed": arguments.seed}
    if arguments.learning_rate is not None:
        chosen["learning_rate"] = arguments.learning_rate
    precision = getattr(arguments, "precision", "float32")
    if precision == "bfloat16":
        # With rounding to nearest, most steps are too small to change a bfloat16 weight.
        chosen["stochastic_rounding"] = True
    if precision == "mixed_float16":
        chosen["loss_scale_factor"] = "dynamic"
    return chosen


def new_optimizer(optimizer_class, arguments, **others):
    """The optimizer of that class with the arguments of the command line; `others` override them."""
    try:
        return optimizer_class(**optimizer_arguments(arguments) | others)
    except ValueError as error:
        refuse(f"--optimizer {optimizer_class.__name__} cannot be made so: {error}")


def callbacks(optimizer, option="--learning-rate"):
    """The callbacks of every `fit`: it ends if it diverges, and tests the evaluation weights of this optimizer.

    `option` is the argument of the example that decides the learning rate.
    """
    from diverged import StopIfDiverged

    from keras_adaptive import EvaluationWeights

    return [StopIfDiverged(option), *([EvaluationWeights()] if optimizer.has_evaluation_weights else [])]


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


count = _number(int, "a whole number, at least 1", lambda n: n >= 1)
_seed = _number(int, "a whole number from 0 to 4294967295", lambda n: 0 <= n < 2**32)
rate = _number(float, "a finite real number, at least 0", lambda x: 0.0 <= x < math.inf)
