"""The arguments of `list` and `show`. This module does not import Keras, so that `--help` is fast."""

import argparse


def add_to_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--markdown", action="store_true", help="Print the table as Markdown.")


def add_to_show(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="Show this class, function or option, such as Adam or clipnorm.")
    parser.add_argument("--markdown", action="store_true", help="Print the page as Markdown.")
