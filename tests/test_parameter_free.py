"""Properties of the algorithms without a schedule or a learning rate, in addition to matching their twins."""

import keras
import numpy as np
import pytest
from keras import ops
from reference import twins
from reference.oracles_large import pytorch_optimizer
from support import Problem, Ramp, a_weight, difference, value, values

import keras_adaptive

# Where nothing has to be compiled first; tests/test_rules.py holds the other backends to the same numbers.
pytestmark = pytest.mark.on("torch")

CURVATURE = np.array([1.0, 10.0, 100.0])


def quadratic(x):
    return 0.5 * float(np.sum(CURVATURE * x * x))


def descended(optimizer, steps, start=(1.0, 1.0, 1.0)):
    """The variable, after so many steps on the quadratic; yields it after each of them."""
    variable = keras.Variable(start, dtype="float64", name="x")
    for _ in range(steps):
        optimizer.apply([ops.convert_to_tensor(CURVATURE * value(variable))], [variable])
        yield variable


def last(steps):
    *_, variable = steps
    return variable


# Schedule-Free


@pytest.mark.parametrize("power", [0.0, 2.0])
def test_at_a_constant_rate_x_is_the_mean_of_z(power, float64):
    optimizer, seen = keras_adaptive.ScheduleFreeSGD(0.005, weight_power=power), []
    for variable in descended(optimizer, 60):
        kept = optimizer.plan.states[0].stored
        seen.append(value(kept["z"]))
        assert difference([value(kept["x"])], [np.mean(seen, axis=0)]) <= 3e-15
        assert difference([value(variable)], [0.1 * seen[-1] + 0.9 * np.mean(seen, axis=0)]) <= 3e-15


@pytest.mark.full
@pytest.mark.parametrize(
    ("rate", "beta", "figure"), [(0.019, 0.9, 2.9017e-4), (0.02, 0.98, 1.140755e-3), (0.005, 0.9, 1.516346e-3)]
)
def test_a_quadratic_ends_at_the_recorded_values(rate, beta, figure, float64):
    """After 1000 steps from ones, to the known digits."""
    optimizer = keras_adaptive.ScheduleFreeSGD(rate, beta=beta)
    last(descended(optimizer, 1000))
    assert quadratic(optimizer.evaluation_weights()["x"]) == pytest.approx(figure, rel=2e-5)


def test_with_beta_0_the_gradient_is_taken_at_z(float64):
    """The path is that of SGD."""
    optimizer, sgd = keras_adaptive.ScheduleFreeSGD(0.005, beta=0.0), keras_adaptive.SGD(0.005)
    ends = [last(descended(one, 20)) for one in (optimizer, sgd)]
    assert difference(*[[value(end)] for end in ends]) <= 1e-15


@pytest.mark.parametrize("cls", [keras_adaptive.ScheduleFreeSGD, keras_adaptive.ScheduleFreeAdamW])
def test_a_rate_of_0_moves_and_counts_nothing(cls, float64):
    optimizer = cls(0.0)
    variable = last(descended(optimizer, 3))
    assert difference([value(variable)], [np.ones(3)]) == 0.0
    optimizer.learning_rate = 0.01
    optimizer.apply([ops.convert_to_tensor(CURVATURE)], [variable])
    kept = optimizer.plan.states[0].stored
    assert difference([value(kept["x"])], [value(kept["z"])]) == 0.0
    assert difference([value(variable)], [np.ones(3)]) > 1e-3


@pytest.mark.parametrize("slot_dtype", ["float32", "bfloat16"])
def test_x_is_exact_for_weights_in_bfloat16(slot_dtype):
    """Found again from y and z it would not be: the roundings of y stay in the gradients, not in the average."""
    rng = np.random.default_rng(41)
    start = rng.normal(size=(64,))
    variable = a_weight(start, dtype="bfloat16")
    begin = value(variable)
    optimizer = keras_adaptive.ScheduleFreeSGD(0.01, slot_dtype=slot_dtype)
    z, seen = begin, []
    for _ in range(10):
        g = rng.normal(size=(64,)).astype("float32")
        optimizer.apply([ops.convert_to_tensor(g)], [variable])
        z = z - 0.01 * g if slot_dtype == "float32" else value(optimizer.plan.states[0].stored["z"])
        seen.append(z)
    kept = optimizer.plan.states[0].stored
    assert kept["x"].dtype == "float32"
    tolerance = 1e-6 if slot_dtype == "float32" else 2.0**-7
    assert difference([value(kept["x"])], [np.mean(seen, axis=0)]) <= tolerance


# Distances


@pytest.mark.parametrize(
    ("cls", "twin", "arguments"),
    [
        (keras_adaptive.Prodigy, twins.prodigy, {}),
        (keras_adaptive.Prodigy, twins.prodigy, {"weight_decay": 0.1, "safeguard_warmup": True, "d_coefficient": 0.5}),
        (
            keras_adaptive.Prodigy,
            twins.prodigy,
            {"growth_rate": 1.2, "d_0": 1e-3, "beta_3": 0.9, "use_bias_correction": True},
        ),
        (keras_adaptive.DAdaptAdam, twins.dadapt_adam, {}),
        (keras_adaptive.DAdaptAdam, twins.dadapt_adam, {"growth_rate": 1.2, "d_0": 1e-3, "weight_decay": 0.1}),
        (keras_adaptive.DoG, twins.dog, {"reps_rel": 1e-2}),
        (keras_adaptive.DoWG, twins.dowg, {"initial_distance": 0.1}),
    ],
)
def test_at_a_rate_of_1_the_estimate_moves_and_matches_the_twin(cls, twin, arguments, float64):
    """The contract's tests have rates of 0.05 and less, where an estimate may stay what it was in the beginning."""
    problem, schedule = Problem(seed=42, shapes=[(), (3, 0), (4, 3)], steps=30), Ramp(1.0)
    optimizer = cls(learning_rate=schedule, **arguments)
    ours = problem.run(optimizer, "float64")
    assert difference(ours, problem.reference(twin, schedule.at, coupled=True, **arguments)) <= 1e-12
    assert difference(ours, problem.start) > 0.03
    if "d" in optimizer.common:
        assert value(optimizer.common["d"]) > 2 * optimizer.d_0


@pytest.mark.parametrize("cls", [keras_adaptive.DoG, keras_adaptive.DoWG])
@pytest.mark.parametrize("power", [0.0, 8.0])
def test_the_average_is_the_polynomial_one(cls, power, float64):
    """Its weights, written out: of theta_s in t steps, (1 + power) / (s + power) times what the later ones leave."""
    optimizer, seen = cls(average_power=power), []
    for variable in descended(optimizer, 15):
        seen.append(value(variable))
    shares = [(1 + power) / (s + power) for s in range(1, 16)]
    weights = [share * np.prod([1 - later for later in shares[s:]]) for s, share in enumerate(shares, 1)]
    assert np.isclose(np.sum(weights), 1.0)
    expected = sum(weight * theta for weight, theta in zip(weights, seen, strict=True))
    assert difference([optimizer.evaluation_weights()["x"]], [expected]) <= 1e-14
    if power == 0.0:
        assert difference([expected], [np.mean(seen, axis=0)]) <= 1e-14


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize(
    "cls", [keras_adaptive.Prodigy, keras_adaptive.DAdaptAdam, keras_adaptive.DoG, keras_adaptive.DoWG]
)
def test_the_units_of_the_gradient_do_not_matter(cls, scale, float64):
    """Except for epsilon."""
    options = {} if cls in (keras_adaptive.DoG, keras_adaptive.DoWG) else {"d_0": 0.01}
    options["epsilon"] = 1e-30
    if cls is keras_adaptive.DoWG:
        options["initial_distance"] = 0.01
    ends = []
    for factor in (1.0, scale):
        variable, optimizer = a_weight([1.0, 2.0], dtype="float64"), cls(**options)
        for _ in range(20):
            optimizer.apply([ops.convert_to_tensor(factor * value(variable))], [variable])
        ends.append(value(variable))
    assert difference(ends[:1], ends[1:]) <= 1e-9
    assert difference(ends[:1], [np.array([1.0, 2.0])]) > 1e-5


def test_the_first_distance_of_dog_uses_the_weights_at_the_first_update(float64):
    """Which are loaded after the optimizer is built; 1 + 5 times reps_rel."""
    variables = [a_weight(np.zeros(2), dtype="float64"), a_weight(0.0, dtype="float64")]
    optimizer = keras_adaptive.DoG(reps_rel=0.01, epsilon=1e-30)
    optimizer.build(variables)
    variables[0].assign([3.0, 0.0])
    variables[1].assign(4.0)
    optimizer.apply([ops.convert_to_tensor(np.array([0.0, 5.0])), ops.convert_to_tensor(np.array(0.0))], variables)
    assert value(optimizer.common["r"]) == pytest.approx(0.06, rel=1e-14)
    assert difference(values(variables), [np.array([3.0, -0.06]), np.array(4.0)]) <= 1e-14


@pytest.mark.parametrize("cls", [keras_adaptive.DoG, keras_adaptive.DoWG])
def test_the_largest_distance_never_falls(cls, float64):
    """Although the weights turn back."""
    variable, optimizer = a_weight(np.ones(3), dtype="float64"), cls()
    largest, distances = [], [0.0]
    for slope in [1.0] * 30 + [-1.0] * 5:
        optimizer.apply([ops.convert_to_tensor(np.full(3, slope))], [variable])
        common = optimizer.common
        largest.append(float(value(common["r"]) if "r" in common else np.sqrt(value(common["R"]))))
        assert largest[-1] == pytest.approx(max(largest[0], *distances), rel=1e-9)
        distances.append(float(np.linalg.norm(value(variable) - 1.0)))
    assert np.min(np.diff(distances)) < 0.0
    assert largest[-1] > 2 * largest[0]


@pytest.mark.parametrize("growth", [1.0, 1.1])
@pytest.mark.parametrize("cls", [keras_adaptive.Prodigy, keras_adaptive.DAdaptAdam])
def test_d_never_falls_and_grows_within_its_limit(cls, growth, float64):
    optimizer, seen = cls(d_0=1e-3, growth_rate=growth), []
    for _ in descended(optimizer, 40):
        seen.append(float(value(optimizer.common["d"])))
    ratios = np.array(seen[1:]) / np.array(seen[:-1])
    assert np.all(ratios >= 1.0)
    # Prodigy takes any first estimate above d_0.
    first = 1 if cls is keras_adaptive.Prodigy else 0
    assert np.sum(ratios > growth + 1e-12) <= first


@pytest.mark.parametrize("name", ["Prodigy", "DAdaptAdam"])
def test_nothing_decays_before_the_first_nonzero_gradient(name, float64):
    """Then the decay starts, also for a variable without a gradient."""
    problem = Problem(seed=45, shapes=[(4, 3), (5,)], steps=12)
    slopes = problem.gradients
    problem.gradients = lambda t, thetas: [slopes(t, thetas)[0] * (t > 5), np.zeros(5)]
    ours = problem.run(getattr(keras_adaptive, name)(learning_rate=1.0, d_0=0.1, weight_decay=0.1), "float64")
    oracle = pytorch_optimizer(name, d0=0.1, weight_decay=0.1, weight_decouple=True)
    assert difference(ours, problem.reference(oracle, lambda t: 1.0, coupled=True)) <= 1e-12
    assert difference([ours[1]], [problem.start[1]]) > 0.05


def test_a_group_cannot_change_arguments_shared_by_all_variables():
    with pytest.raises(ValueError, match=r"`d_0` of Prodigy .* must not be in a group. Received: d_0=0.1"):
        keras_adaptive.Prodigy(groups=[keras_adaptive.Group("bias", d_0=0.1)])
    keras_adaptive.Prodigy(groups=[keras_adaptive.Group("bias", beta_1=0.5, optional=True)])


def test_a_late_first_gradient_starts_from_the_weights():
    """What begins as the weights (z, x, p_0, x_0, a) does so at the first update, with or without a gradient."""
    for cls in (keras_adaptive.ScheduleFreeSGD, keras_adaptive.DoG, keras_adaptive.Prodigy):
        one, two = a_weight([1.0]), a_weight([5.0])
        optimizer = cls(learning_rate=0.1)
        optimizer.build([one, two])
        optimizer.apply([ops.ones(1)], [one])
        optimizer.apply([ops.ones(1), ops.ones(1)], [one, two])
        assert 4.0 < value(two)[0] <= 5.0
        assert 4.0 < list(optimizer.evaluation_weights().values())[1][0] <= 5.0
