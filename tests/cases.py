"""The table of cases, and `each`, which says which of its rows a test takes. A contract test knows an optimizer only
by its row."""

import os

import keras
import pytest
import worlds
from rows import CATALOGUE, LECTURE
from rows.case import Case

CASES = LECTURE
ROWS = [*LECTURE, *CATALOGUE]
# Stands for all in tests of what is not the rule's: a momentum, two slots and a bias correction.
CASE = LECTURE[-1]
KERAS = Case("keras-adam", keras.optimizers.Adam)
# Nothing has to be compiled there, so full tests can run on the catalogue.
QUICKEST = worlds.current() == "torch"
WHOLE = bool(os.environ.get("KERAS_ADAPTIVE_WHOLE"))


def last_rows(table):
    """Of each class the last row, which has the most slots."""
    return list({case.optimizer: case for case in table}.values())


TABLES = {
    "none": [],
    "one": [CASE],
    "lecture": last_rows(LECTURE),
    "lecture rows": LECTURE,
    "classes": last_rows(ROWS),
    "rows": ROWS,
}


def rows(here="one", **of_worlds):
    """The rows that a test takes in this world: those of `here`, or those that `of_worlds` names for it.

    A set of rows is a name in TABLES. For torch it is "lecture" if nothing else is said, as nothing is compiled there.
    With KERAS_ADAPTIVE_WHOLE=1 every test takes a row of every class at least.
    """
    of_worlds = {"torch": "lecture" if here == "one" else here} | of_worlds
    taken = TABLES[of_worlds.get(worlds.current(), here)]
    return [case for case in ROWS if case in taken or (WHOLE and case in TABLES["classes"])]


def each(here="one", full="none", where=lambda case: True, keras=None, raises=AssertionError, **of_worlds):
    """Runs a test on rows of the table, each its argument `case`.

    Args:
        here, of_worlds: which rows in every run; see `rows`.
        full: which rows the full run has besides.
        where: takes only the rows for which it holds.
        keras: why Keras's own Adam must fail the test, which shows that the test can; None: it is not tried.
        raises: with which exception.
    """
    taken = rows(here, **of_worlds)
    late = [case for case in TABLES[full] if case not in taken]
    table = [pytest.param(case, id=case.id) for case in taken if where(case)]
    table += [pytest.param(case, id=case.id, marks=pytest.mark.full) for case in late if where(case)]
    if keras is not None:
        expected = pytest.mark.xfail(strict=True, raises=raises, reason=keras)
        table.append(pytest.param(KERAS, id=KERAS.id, marks=expected))
    return pytest.mark.parametrize("case", table)


def column(name):
    """The test is one of those that fill this column of the table of what is held for each class."""
    return pytest.mark.column(name)
