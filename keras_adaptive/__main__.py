"""`python -m keras_adaptive`: the commands `list`, `show`, `bench` and `compare`."""

import argparse
import importlib
import importlib.util
import io
import os
import sys

import keras_adaptive
from keras_adaptive.bench import arguments as of_bench
from keras_adaptive.catalogue import arguments as of_catalogue
from keras_adaptive.compare import arguments as of_compare

# By command: the module that runs it, which is imported when it is needed, and what adds its arguments.
COMMANDS = {
    "list": ("catalogue.command", "Print a table of all optimizers.", of_catalogue.add_to_list),
    "show": ("catalogue.command", "Print the page of one optimizer.", of_catalogue.add_to_show),
    "bench": ("bench.command", "Measure how fast updates are on this device.", of_bench.add_arguments),
    "compare": ("compare.command", "Compare how optimizers train on small problems.", of_compare.add_arguments),
}

BACKENDS = ("tensorflow", "jax", "torch")


class Parser(argparse.ArgumentParser):
    """Reports an error in one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}\n")


def make_parsers():
    """The parser of the command line, and those of the commands by their names."""
    parser = Parser(prog="python -m keras_adaptive", description="Optimizers for Keras 3.")
    parser.add_argument("--version", action="version", version=f"keras_adaptive {keras_adaptive.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar=f"{{{','.join(COMMANDS)}}}")
    parsers = {}
    for name, (_, what, add_arguments) in COMMANDS.items():
        parsers[name] = commands.add_parser(name, help=what, description=what)
        add_arguments(parsers[name])
    return parser, parsers


def main(arguments=None):
    arguments = sys.argv[1:] if arguments is None else arguments
    parser, parsers = make_parsers()
    given = parser.parse_args(arguments)
    given.arguments = arguments
    if "Adam" not in vars(keras_adaptive):
        _import_classes(parser)
    command = importlib.import_module(f"keras_adaptive.{COMMANDS[given.command][0]}")
    return command.run(parsers[given.command], given)


def _import_classes(parser):
    """What keras_adaptive/__init__.py leaves out when the package is run as a command."""
    # TensorFlow reports every GPU that it does not find.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        importlib.reload(keras_adaptive)
    except ModuleNotFoundError as error:
        if error.name not in BACKENDS:
            raise
        others = [name for name in BACKENDS if name != error.name]
        there = [name for name in others if importlib.util.find_spec(name)]
        install = f"install it, or {' or '.join(others)} with KERAS_BACKEND set"
        remedy = f"set KERAS_BACKEND={there[0]}" if there else install
        parser.error(f"Keras's backend {error.name} is not installed: {remedy}")
    except (ImportError, ValueError) as error:
        # Keras or this package does not know the backend.
        parser.error(f"{error}")


def until_nobody_reads():
    """`main`, which ends quietly if the reader of its lines, such as `head`, stops reading."""
    if sys.stdout is None:
        # There is nobody from the start, as after `>&-` in a shell.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    # A terminal that does not have a character shows a question mark.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:
        # Otherwise Python reports the error again when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    return status


if __name__ == "__main__":
    sys.exit(until_nobody_reads())
