"""The arguments of the command. This module does not import Keras, so that `--help` is fast."""

import argparse
import os
from pathlib import Path

from keras_adaptive.core import argument_types

DESCRIPTION = """
Tunes each optimizer on six small problems with the same number of trials, trains with the chosen settings from fresh
seeds, on two more problems too, and says who reaches the target first. It trains on JAX. Results are lines of JSON in a
folder. A comparison that was stopped continues where it was.
"""
# Those of workloads.py, which a test compares.
WORKLOADS = ("digits", "mnist1d", "text", "diamonds", "words", "picture", "digits-large-batch", "text-wide")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--mini", action="store_true", help="Run five optimizers on two problems, in about five minutes.")
    what.add_argument("--only", metavar="NAME", nargs="+", help="Run these classes, and put them into the tables.")
    what.add_argument("--full", action="store_true", help="Run everything anew; this takes hours.")
    what.add_argument("--score", action="store_true", help="Run nothing; print the tables of the stored results.")
    add = parser.add_argument
    add("--workloads", metavar="NAMES", help=f"Use some of {', '.join(WORKLOADS)}.")
    add(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="Put new results there. The default is compare-results, or compare-mini with --mini.",
    )
    add(
        "--processes",
        type=argument_types.count,
        default=os.cpu_count() or 1,
        help="Train in so many processes side by side. The default is %(default)s.",
    )
    add("--accelerator", action="store_true", help="Train on a GPU or TPU, 32 runs at once.")
    add("--markdown", action="store_true", help="Print the tables as Markdown.")
    add(
        "--picture",
        type=argument_types.picture,
        metavar="FILE.png",
        help="Draw the results; this needs matplotlib.",
    )
    add("--readme", type=Path, metavar="FILE.md", help="Put the tables between their marks in this file.")
    add("--pack", action="store_true", help="Compress the new results, one file for each optimizer.")
