"""The page of bugs fixed has what tests/defects.py measures."""

import os
import re
import subprocess
import sys
from decimal import Decimal, InvalidOperation
from pathlib import Path

import keras
import pytest

import keras_adaptive

TESTS = Path(__file__).parent
PAGE = (TESTS / "bugs_fixed.md").read_text(encoding="utf-8")


def table(markdown):
    """Keras's version, and the rows of the table of defects by their first column."""
    version, body = re.search(
        r"^\| \| Keras ([\d.]+) \| keras_adaptive \|\n\|[-|]+\|\n((?:\|.*\n)+)", markdown, re.MULTILINE
    ).groups()
    cells = (line.strip("| ").split(" | ") for line in body.splitlines())
    return version, {what: figures for what, *figures in cells}


def agree(written, measured):
    """The same words, or numbers that differ by at most one unit of the last digit that is written."""
    if written == measured:
        return True
    try:
        written, measured = Decimal(written), Decimal(measured)
    except InvalidOperation:
        return False
    return abs(written - measured) <= Decimal((0, (1,), written.as_tuple().exponent))


@pytest.mark.quick
def test_figures_agree_to_the_written_digits():
    assert agree("0.73", "0.74")
    assert agree("<1e-6", "<1e-6")
    assert not agree("0.73", "0.75")
    assert not agree("0.73", "<1e-6")
    assert not agree("1", "ValueError")
    assert not agree("accepted", "ValueError")


@pytest.mark.full
@pytest.mark.on("tensorflow")
def test_the_table_of_defects_is_current():
    version, written = table(PAGE)
    if keras.__version__ != version:
        pytest.skip(f"the figures of the page are those of Keras {version}")
    done = subprocess.run(
        [sys.executable, str(TESTS / "defects.py")],
        env={**os.environ, "PYTHONPATH": str(Path(keras_adaptive.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    _, measured = table(done.stdout)
    assert list(written) == list(measured)
    wrong = {
        what: (figures, measured[what])
        for what, figures in written.items()
        if not all(agree(*pair) for pair in zip(figures, measured[what], strict=True))
    }
    assert not wrong
