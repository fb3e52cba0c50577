"""The weights match the published algorithm in every dtype, for every row, on torch, where nothing is compiled.

tests/test_rules.py checks the same rules on the other backends.
"""

import numpy as np
import pytest
from cases import CASES, column, each
from support import SHAPES, Problem, Ramp, difference, value

SCALES = pytest.mark.parametrize("scale", [1.0, 1e-4, 1e-8])


def problem_of(case, **arguments):
    steps = 100 if case in CASES else 50
    return Problem(shapes=case.shapes or SHAPES, steps=steps, **arguments)


def reference_of(case, problem, eta):
    return problem.reference(case.twin, eta, case.coupled, **case.arguments, **case.of_twin)


@column("float64")
@each(torch="rows", full="lecture rows")
@SCALES
@pytest.mark.quick
def test_float64_matches_the_twin(case, scale, float64):
    problem, schedule = problem_of(case, seed=11, scale=scale), Ramp(0.05)
    ours = problem.run(case.make(learning_rate=schedule), "float64")
    assert difference(ours, reference_of(case, problem, schedule.at)) <= 1e-12


@column("oracle")
@each(torch="rows", full="lecture rows")
@pytest.mark.parametrize("scale", [1.0])
def test_float64_matches_the_outside_oracle(case, scale, float64):
    if case.oracle is None:
        pytest.skip("no library has exactly this algorithm: its twin was written apart from it")
    problem, schedule = problem_of(case, seed=12, scale=scale), Ramp(0.05)
    oracle = problem.reference(case.oracle, schedule.at, case.coupled)
    ours = problem.run(case.make(learning_rate=schedule), "float64")
    tolerance, _ = case.tolerance
    assert difference(ours, oracle) <= tolerance


@column("float32")
@each(torch="rows", full="lecture rows")
@SCALES
def test_float32_matches_the_twin_to_its_resolution(case, scale):
    problem, schedule = problem_of(case, seed=13, scale=scale), Ramp(0.05)
    reference = reference_of(case, problem, schedule.at)
    largest = max(np.max(np.abs(theta)) for theta in reference if theta.size)
    assert difference(problem.run(case.make(learning_rate=schedule), "float32"), reference) <= 1e-6 * largest


@each(torch="rows", full="lecture rows", keras="Keras rounds beta_2 to the weight's dtype: 0.999 is 1 in bfloat16")
@pytest.mark.parametrize(
    ("dtype", "resolution"),
    [
        pytest.param("bfloat16", 2.0**-8, marks=column("bfloat16")),
        pytest.param("float16", 2.0**-11, marks=column("float16")),
    ],
)
def test_low_precision_weights_follow_float32(case, dtype, resolution):
    """Twenty roundings of a weight, each by at most half of its spacing, are all that may separate the two."""
    if case.twin is None and dtype == "float16":
        raise AssertionError("stated for bfloat16 only")
    steps, rng = 20, np.random.default_rng(14)
    pushes = [0.5 + rng.uniform(size=(steps, 5, 4)).astype("float16")]
    ends = {}
    for weights in (dtype, "float32"):
        problem = Problem(seed=14, shapes=[(5, 4)], steps=steps)
        problem.gradients = lambda t, thetas: [push[t - 1] for push in pushes]
        problem.start = [np.clip(start, -1.5, 1.5).astype("float16") for start in problem.start]
        (ends[weights],) = problem.run(case.make(learning_rate=0.05), weights)
        moved = np.abs(ends[weights] - value(problem.variables(weights)[0]))
    largest = max(np.max(np.abs(end)) for end in ends.values()) + moved.max()
    assert np.max(np.abs(ends[dtype] - ends["float32"])) <= steps * resolution / 2 * 2 * largest
    assert moved.min() >= case.moves


@each(torch="rows", full="lecture rows")
def test_slots_of_low_precision_weights_are_float32(case):
    problem = Problem(seed=15, shapes=[(3, 2)], steps=2)
    optimizer = case.make(use_ema=True)
    problem.run(optimizer, "bfloat16")
    kept = dict(optimizer.plan.states[0].stored)
    if optimizer.use_ema:
        exposed = kept.pop("average")
        assert exposed.dtype == "bfloat16", "Keras's callbacks swap it with the weights"
    assert {variable.dtype for variable in kept.values()} == {"float32"}


@each(torch="rows", full="lecture rows")
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e30])
def test_extreme_gradients_leave_finite_weights(case, size):
    """Zero, and what underflows or overflows when it is squared: where the square overflows the step may be zero."""
    problem = Problem(seed=16, steps=3)
    problem.gradients = lambda t, thetas: [np.full_like(theta, size) for theta in thetas]
    optimizer = case.make(learning_rate=1e-3, clipnorm=1.0 if size > 1 else None)
    assert all(np.all(np.isfinite(theta)) for theta in problem.run(optimizer, "float32"))
