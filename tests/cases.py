"""The table of cases: every contract test runs on every row, and knows an optimizer by its row alone."""

import keras
import pytest
from rows import CATALOGUE, LECTURE
from rows.case import Case

# The whole contract suite runs on the lecture's rows in every run, and on the others by `pytest -m catalogue`;
# tests/test_conformance.py holds every row to every line of the contract.
CASES = LECTURE
KERAS = Case("keras-adam", keras.optimizers.Adam)


def _marks(case):
    """Of each class the last row, which has the most slots, is the one that all tests run on."""
    if case is not [other for other in [*CASES, *CATALOGUE] if other.optimizer is case.optimizer][-1]:
        return [pytest.mark.variant]
    return [pytest.mark.catalogue] if case in CATALOGUE else []


ALL = [pytest.param(case, id=case.name) for case in [*CASES, *CATALOGUE]]
ONE_PER_CLASS = [pytest.param(case, id=case.name, marks=_marks(case)) for case in [*CASES, *CATALOGUE]]

each = pytest.mark.parametrize("case", ONE_PER_CLASS)
each_row = pytest.mark.parametrize("case", ALL)


def each_and_keras(reason, raises=AssertionError, rows=ONE_PER_CLASS):
    """The rows, and Keras's own Adam, which must fail the test: it shows that the test can."""
    expected = pytest.mark.xfail(strict=True, raises=raises, reason=reason)
    return pytest.mark.parametrize("case", [*rows, pytest.param(KERAS, id=KERAS.name, marks=expected)])
