"""The table of cases: every contract test runs on every row, and knows an optimizer by its row alone."""

import os

import keras
import pytest
import worlds
from rows import CATALOGUE, LECTURE
from rows.case import Case

# The whole contract suite runs on two of the lecture's rows in every run, on the others of it as variants, and on the
# catalogue with KERAS_ADAPTIVE_WHOLE=1; tests/test_conformance.py and torch's world hold every class to every line of
# the contract.
CASES = LECTURE
# Stand for all in tests of what is not the rule's: a momentum, two slots and a bias correction; and what is most
# unlike it.
CASE, UNLIKE = LECTURE[-1], next(case for case in LECTURE if case.name == "sgd-nesterov")
KERAS = Case("keras-adam", keras.optimizers.Adam)


def is_last(case):
    """Of each class the last row, which has the most slots, is the one that all tests run on."""
    return case is [other for other in ROWS if other.optimizer is case.optimizer][-1]


def rows(variants=False, everywhere=False, in_full=False):
    """The table as parameters.

    Args:
        variants: run all rows of all classes.
        everywhere: run the catalogue too; otherwise that has to be asked for.
        in_full: run `CASE` alone, and `UNLIKE` in the full run; otherwise both. The worlds beside TensorFlow's, which
            share most with it, run `CASE` alone; but on torch, where nothing has to be compiled first, all rows run.
    """
    table = ROWS if everywhere or WHOLE else CASES
    fewer = not (variants or QUICKEST or WHOLE)
    usual, full = (CASE, UNLIKE), ()
    if worlds.current() != worlds.MAIN:
        usual = (CASE,)
    elif in_full:
        usual, full = (CASE,), (UNLIKE,)

    def marks(case):
        if not variants and not is_last(case):
            yield pytest.mark.variant
        if fewer and case not in usual:
            yield pytest.mark.full if case in full else pytest.mark.variant

    return [pytest.param(case, id=case.name, marks=list(marks(case))) for case in table]


ROWS = [*CASES, *CATALOGUE]
WHOLE = bool(os.environ.get("KERAS_ADAPTIVE_WHOLE"))
# Nothing has to be compiled there, so that whole tests can run on the catalogue.
QUICKEST = worlds.current() == "torch"

each = pytest.mark.parametrize("case", rows())
each_row = pytest.mark.parametrize("case", rows(variants=True, everywhere=QUICKEST))
each_in_full = pytest.mark.parametrize("case", rows(in_full=True))
each_class_in_full = pytest.mark.parametrize("case", rows(everywhere=QUICKEST, in_full=True))
each_class = pytest.mark.parametrize("case", rows(everywhere=QUICKEST))
every_class = pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.name, marks=[pytest.mark.full] if case in CATALOGUE and not QUICKEST else [])
        for case in ROWS
        if is_last(case)
    ],
)


def column(name):
    """The test is one of those that fill this column of the table of what is held for each class."""
    return pytest.mark.column(name)


def each_and_keras(reason, raises=AssertionError, table=None):
    """The rows, and Keras's own Adam, which must fail the test: it shows that the test can."""
    expected = pytest.mark.xfail(strict=True, raises=raises, reason=reason)
    return pytest.mark.parametrize("case", [*(table or rows()), pytest.param(KERAS, id=KERAS.name, marks=expected)])
