"""Types of arguments of the command line. Each is checked before anything runs."""

import argparse
import os
from pathlib import Path

FORMATS = (".png", ".pdf", ".svg")


def count(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1. Received: {text!r}")
    return int(text)


def file(text: str) -> Path:
    """A file that may be written, in a folder that exists."""
    path, folder = Path(text), Path(text).absolute().parent
    if path.is_dir() or not folder.is_dir():
        raise argparse.ArgumentTypeError(f"must be a file in a folder that exists. Received: {text!r}")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise argparse.ArgumentTypeError(f"must be a file that may be written. Received: {text!r}")
    return path


def picture(text: str) -> Path:
    """A file for a picture."""
    path = file(text)
    if path.suffix.lower() not in FORMATS:
        raise argparse.ArgumentTypeError(f"must end in one of {', '.join(FORMATS)}. Received: {text!r}")
    return path
