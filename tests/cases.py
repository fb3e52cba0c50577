"""The table of cases: every contract test runs on every row, and knows an optimizer by its row alone."""

import os

import keras
import pytest
import worlds
from rows import CATALOGUE, LECTURE
from rows.case import Case

# The whole contract suite runs on one of the lecture's rows in every run, on the others of it as variants, and on the
# catalogue with KERAS_ADAPTIVE_WHOLE=1; tests/test_conformance.py and torch's world hold every class to every line of
# the contract.
CASES = LECTURE
# Stands for all in tests of what is not the rule's: a momentum, two slots and a bias correction.
CASE = LECTURE[-1]
KERAS = Case("keras-adam", keras.optimizers.Adam)


def is_last(case):
    """Of each class the last row, which has the most slots, is the one that all tests run on."""
    return case is [other for other in ROWS if other.optimizer is case.optimizer][-1]


def rows(variants=False, everywhere=False):
    """The table as parameters: `CASE` runs, and on torch, where nothing has to be compiled first, every row.

    Args:
        variants: run all rows of all classes.
        everywhere: run the catalogue too; otherwise that has to be asked for.
    """
    table = ROWS if everywhere or WHOLE else CASES
    fewer = not (variants or QUICKEST or WHOLE)

    def is_variant(case):
        return (not variants and not is_last(case)) or (fewer and case is not CASE)

    return [pytest.param(case, id=case.name, marks=[pytest.mark.variant] * is_variant(case)) for case in table]


ROWS = [*CASES, *CATALOGUE]
WHOLE = bool(os.environ.get("KERAS_ADAPTIVE_WHOLE"))
# Nothing has to be compiled there, so that whole tests can run on the catalogue.
QUICKEST = worlds.current() == "torch"

each = pytest.mark.parametrize("case", rows())
each_row = pytest.mark.parametrize("case", rows(variants=True, everywhere=QUICKEST))
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
