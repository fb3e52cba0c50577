"""`python -m keras_adaptive`: `list` prints the optimizers of the package as a table, `bench` measures their speed,
`compare` how they train."""

import argparse
import inspect
import os
import re
import sys
from dataclasses import astuple, dataclass

import keras

from keras_adaptive.bench import command
from keras_adaptive.bench.specification import CLASSES
from keras_adaptive.compare import command as comparison
from keras_adaptive.core import tables

HEAD = ("class", "what it is", "paper", "year", "slots", "bytes per parameter", "rows of a sparse gradient")
# So large that what is stored per row or column is negligible.
MATRIX = (1024, 1024)


@dataclass(frozen=True)
class Entry:
    """The row of one class in the table.

    Attributes:
        name: of the class.
        what: the beginning of its docstring.
        paper, year: authors and venue of the first source in its docstring.
        slots: the letters of the slots that it stores for a matrix.
        bytes_per_parameter: the bytes of state that it stores per parameter of a large float32 matrix, measured.
        sparse: when an update of some rows of a table reads and writes these rows only: always, with sparse="lazy", or
            never.
    """

    name: str
    what: str
    paper: str
    year: str
    slots: str
    bytes_per_parameter: str
    sparse: str


def catalogue():
    """An entry for each optimizer of the package, by name."""
    return [_entry(cls) for _, cls in sorted(CLASSES.items(), key=lambda item: item[0].lower())]


def _entry(cls):
    text = inspect.getdoc(cls) or ""
    optimizer = cls()
    optimizer.build([keras.Variable(keras.ops.zeros(MATRIX), name="kernel")])
    (row,) = optimizer.describe()
    source = re.search(r"Source: (.+?),? (\d{4})(?!\.?\d)", text, re.DOTALL)
    return Entry(
        name=cls.__name__,
        what=" ".join(text.split("\n\n")[0].split()).rstrip("."),
        paper=" ".join(source[1].split()) if source else "",
        year=source[2] if source else "",
        slots=", ".join(row.slots),
        bytes_per_parameter=f"{row.state_bytes / (MATRIX[0] * MATRIX[1]):.2g}",
        sparse=_of_rows(cls),
    )


def _of_rows(cls):
    for sparse, text in (("exact", "those rows"), ("lazy", "those rows if lazy")):
        optimizer = cls(sparse=sparse)
        optimizer.build([keras.Variable(keras.ops.zeros((4, 2)), name="embeddings")])
        if optimizer.plan.states[0].why_all_rows is None:
            return text
    return "all rows"


def markdown(entries):
    """The table as the README has it."""
    return "\n".join(tables.markdown(HEAD, map(astuple, entries)))


def plain(entries):
    """The table in columns."""
    return "\n".join(tables.columns([HEAD, *map(astuple, entries)]))


class Parser(argparse.ArgumentParser):
    """Reports an error in one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}\n")


def main(arguments=None):
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = Parser(prog="python -m keras_adaptive", description="The optimizers of keras_adaptive.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="{list,bench,compare}")
    listing = commands.add_parser("list", help="a table of all optimizers")
    listing.add_argument("--markdown", action="store_true", help="as the README has it")
    bench = commands.add_parser("bench", help="how fast updates are on this device")
    command.add_arguments(bench)
    compare = commands.add_parser("compare", help="which optimizer trains better on small problems")
    comparison.add_arguments(compare)
    given = parser.parse_args(arguments)
    if given.command == "list":
        print((markdown if given.markdown else plain)(catalogue()))
        return 0
    if given.command == "compare":
        return comparison.run(compare, given)
    return command.run(bench, given, arguments)


def until_nobody_reads():
    """`main`, which ends quietly if the reader of its lines, such as `head`, stops reading."""
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
