"""On TensorFlow: an update split into several programs matches one program."""

import pytest
from cases import CASE, ROWS
from support import OPTIONS, Problem, difference, in_mode, state, values

from keras_adaptive.core.backends import running as backends

pytestmark = pytest.mark.on("tensorflow")

SHAPES = [(), (7,), (4, 3), (2, 3, 3), (6, 5)]
BY_NAME = {case.name: case for case in ROWS}
# One with norms of variables, one with numbers of all variables together, one with matrices.
CASES = [CASE, *(BY_NAME[name] for name in ("lamb", "prodigy", "muon"))]


@pytest.fixture
def with_programs_of(monkeypatch):
    """A function that sets how many elements a program has at least."""
    from keras_adaptive.core.backends import tensorflow_programs

    return lambda elements: monkeypatch.setattr(tensorflow_programs, "IN_ONE_PROGRAM", elements)


def trained(optimizer, mode):
    problem = Problem(seed=31, shapes=SHAPES)
    variables = problem.variables("float32")
    optimizer.build(variables)
    received = problem.variables("float32")
    step = in_mode(lambda: optimizer.apply([backends.read(one) for one in received], variables), mode)
    for t in range(1, 5):
        for one, gradient in zip(received, problem.gradients(t, values(variables)), strict=True):
            one.assign(gradient)
        step()
    return values(variables) + list(state(optimizer).values())


def rows():
    """Compiling takes long: one row in every run, the others in the full one."""
    for case in CASES:
        marks = [] if case is CASE else [pytest.mark.full]
        yield pytest.param(case, OPTIONS["everything"], "graph", id=case.name, marks=marks)
    yield pytest.param(CASE, OPTIONS["plain"], "eager", id="eager", marks=pytest.mark.full)


@pytest.mark.parametrize(("case", "options", "mode"), rows())
def test_several_programs_match_one_program(case, options, mode, with_programs_of):
    ends = []
    for elements in (10**9, 10, 1):
        with_programs_of(elements)
        ends.append(trained(case.make(**options), mode))
    for end in ends[1:]:
        # Another program may fuse other operations.
        assert difference(end, ends[0]) <= 1e-6
