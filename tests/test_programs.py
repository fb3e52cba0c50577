"""On TensorFlow: an update split into several programs matches one program."""

import pytest
from cases import CASE, ROWS
from support import OPTIONS, Problem, difference, in_mode, state, values

from keras_adaptive import Group
from keras_adaptive.core.backends import running as backends

pytestmark = pytest.mark.on("tensorflow")

SHAPES = [(), (7,), (4, 3), (2, 3, 3), (6, 5)]
BY_NAME = {case.name: case for case in ROWS}
# One with norms of variables, one with numbers of all variables together, one with matrices.
CASES = [CASE, *(BY_NAME[name] for name in ("lamb", "prodigy", "muon"))]


@pytest.fixture
def with_programs_of(monkeypatch):
    """A function that sets how many elements a program has at least."""
    from keras_adaptive.core.backends import tensorflow_parts

    return lambda elements: monkeypatch.setattr(tensorflow_parts, "IN_ONE_PROGRAM", elements)


def trained(optimizer, mode, shapes=SHAPES, idle=((),)):
    """The weights and the state after four calls.

    Args:
        idle: the places of the variables that have no gradient, for each of the calls in turn.
    """
    problem = Problem(seed=31, shapes=shapes)
    variables = problem.variables("float32")
    optimizer.build(variables)
    received = problem.variables("float32")

    def step_without(places):
        def step():
            gradients = [None if place in places else backends.read(one) for place, one in enumerate(received)]
            optimizer.apply(gradients, variables)

        return in_mode(step, mode)

    steps = [step_without(places) for places in idle]
    for t in range(1, 5):
        for one, gradient in zip(received, problem.gradients(t, values(variables)), strict=True):
            one.assign(gradient)
        steps[t % len(steps)]()
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


def programs(optimizer):
    """The variables of each compiled program of a part of the update, as keys."""
    return [key for key in optimizer.plan.update.cache if isinstance(key, tuple) and key[0] != "parts"]


ALIKE = [(), *[(4, 3), (7,)] * 4, (4, 3), (6, 5)]


def test_like_variables_have_one_program(with_programs_of):
    """Four times a matrix and a vector; two other variables and the fifth matrix are not in these programs."""
    ends = []
    for elements in (10**9, 20):
        with_programs_of(elements)
        optimizer = BY_NAME["lamb"].make()
        ends.append(trained(optimizer, "graph", ALIKE))
    assert difference(ends[1], ends[0]) <= 1e-6
    assert sum(map(len, programs(optimizer))) == 2 + 3


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.parametrize(
    ("options", "idle"),
    [
        # Clips by the norm of each column of w0, w1 and of each row of w2, w3.
        ({"agc": 0.1, "groups": [Group("w[01]", inputs=(0,)), Group("w[23]", inputs=(1,))]}, [()]),
        ({"groups": [Group("w[01]", learning_rate_multiplier=0.1)]}, [()]),
        # Whether the window of w3 had a gradient is known only when the step runs.
        ({"gradient_accumulation_steps": 2, "use_ema": True}, [(0, 3), (0,)]),
        ({"use_ema": True}, [(), (0, 3)]),
    ],
    ids=["role", "group", "contributions", "idle"],
)
def test_variables_that_are_not_alike_do_not_share_a_program(options, idle, with_programs_of):
    ends = []
    for elements in (10**9, 1):
        with_programs_of(elements)
        ends.append(trained(BY_NAME["lamb"].make(**options), "graph", [(4, 4)] * 5, idle))
    assert difference(ends[1], ends[0]) <= 1e-6
