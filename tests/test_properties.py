"""Properties of a step that the papers state, to the last digit."""

import keras
import numpy as np
import pytest
from keras import ops
from reference import twins
from support import Problem, Ramp, a_weight, difference, value

import keras_adaptive
from keras_adaptive.core.math import numerics

# Where nothing has to be compiled first; tests/test_rules.py holds the other backends to the same numbers.
pytestmark = pytest.mark.on("torch")

SIZES = pytest.mark.parametrize("size", [1.0, 1e-3, 1e3])


def step(optimizer, theta, gradient, dtype="float64"):
    """The weights before a first step, and what it takes away from them."""
    variable = a_weight(theta, dtype=dtype)
    before = value(variable)
    optimizer.apply([ops.convert_to_tensor(gradient, dtype=dtype)], [variable])
    return before, before - value(variable)


def pair(seed, shape=(6, 4)):
    """Weights and a gradient."""
    return np.random.default_rng(seed).normal(size=(2, *shape))


# LARS and LAMB: the step has the norm of the weights, for a gradient of any norm.


@SIZES
def test_lars_takes_the_same_part_of_the_norm(size, float64):
    theta, gradient = pair(1)
    optimizer = keras_adaptive.Lars(0.5, momentum=0.0, trust_coefficient=0.01, weight_decay=0.0)
    before, taken = step(optimizer, theta, size * gradient)
    assert np.linalg.norm(taken) == pytest.approx(0.5 * 0.01 * np.linalg.norm(before), rel=1e-13)


@SIZES
def test_lamb_takes_the_same_part_of_the_norm(size, float64):
    theta, gradient = pair(2)
    before, taken = step(keras_adaptive.Lamb(0.5, weight_decay=0.1), theta, size * gradient)
    assert np.linalg.norm(taken) == pytest.approx(0.5 * np.linalg.norm(before), rel=1e-13)


@pytest.mark.parametrize("size", [1e-37, 1e-25, 1e25, 1e37])
@pytest.mark.parametrize("form", ["sum", "norm"])
def test_lars_with_gradients_whose_squares_overflow_or_underflow(size, form):
    theta, gradient = pair(3)
    optimizer = keras_adaptive.Lars(0.5, momentum=0.0, trust_coefficient=0.5, form=form, weight_decay=0.0)
    before, taken = step(optimizer, 1e4 * theta, size * gradient, "float32")
    assert np.linalg.norm(taken) == pytest.approx(0.25 * np.linalg.norm(before), rel=1e-5)


@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_lamb_with_weights_whose_squares_overflow_or_underflow(size):
    theta, gradient = pair(4)
    before, taken = step(keras_adaptive.Lamb(0.5, weight_decay=0.0), size * theta, gradient, "float32")
    assert np.linalg.norm(taken) == pytest.approx(0.5 * np.linalg.norm(before), rel=1e-5)


@pytest.mark.parametrize("algorithm", [keras_adaptive.Lars, keras_adaptive.Lamb])
def test_a_group_may_adapt_its_vectors(algorithm, float64):
    vectors = [keras.Variable(pair(5, (4,))[0], name=name, dtype="float64") for name in ("plain", "adapted")]
    groups = [keras_adaptive.Group("adapted", exclude_vectors=False)]
    optimizer = algorithm(0.5, weight_decay=0.0, groups=groups)
    before = [value(v) for v in vectors]
    optimizer.apply([ops.convert_to_tensor(g) for g in pair(6, (4,))], vectors)
    lengths = [np.linalg.norm(b - value(v)) / np.linalg.norm(b) for b, v in zip(before, vectors, strict=True)]
    part = 0.5 * (1e-3 if algorithm is keras_adaptive.Lars else 1.0)
    assert lengths[1] == pytest.approx(part, rel=1e-12)
    assert lengths[0] != pytest.approx(part, rel=1e-2)


@pytest.mark.parametrize("ending", ["bias", "gamma", "beta", "scale"])
@pytest.mark.parametrize("name", ["Lars", "Lamb", "Tiger", "Mars", "Muon", "NorMuon"])
def test_biases_of_two_axes_are_vectors(name, ending, float64):
    """Those of attention and a GRU start at zero. A step in units of their norm would not move them."""
    ends, gradients = [], np.random.default_rng(14).normal(size=(3, 2, 3))
    for shape, path in [((2, 3), ending), ((6,), "vector"), ((2, 3), f"{ending}_kernel")]:
        variable = keras.Variable(np.zeros(shape), dtype="float64", name=path)
        optimizer = getattr(keras_adaptive, name)(0.1, weight_decay=0.1)
        for gradient in gradients:
            optimizer.apply([ops.convert_to_tensor(np.reshape(gradient, shape))], [variable])
        ends.append(np.ravel(value(variable)))
    assert difference(ends[:1], ends[1:2]) <= 1e-14
    assert np.min(np.abs(ends[0])) > 0.0
    assert difference(ends[2:], ends[1:2]) > 1e-4


# Adafactor, SM3, Lion, Tiger


def test_adafactor_knows_squares_of_rank_one(float64):
    """Rows times columns is then the square itself, and the step the sign."""
    rng = np.random.default_rng(7)
    signs = np.sign(rng.normal(size=(2, 5, 3)))
    gradient = signs * np.exp(rng.normal(size=(2, 5, 1))) * np.exp(rng.normal(size=(2, 1, 3)))
    optimizer = keras_adaptive.Adafactor(0.5, relative_step=False, scale_parameter=False)
    _, taken = step(optimizer, rng.normal(size=(2, 5, 3)), gradient)
    np.testing.assert_allclose(taken, 0.5 * signs, rtol=0, atol=1e-14)


def test_adafactor_warms_up_from_a_millionth(float64):
    """For any learning rate, except for weight decay."""
    problem, eta = Problem(seed=12, shapes=[(5, 3), (4,)], steps=20), Ramp(0.05)
    ours = problem.run(keras_adaptive.Adafactor(eta, warmup_init=True, weight_decay=0.1), "float64")
    theirs = problem.reference(twins.adafactor, eta.at, warmup_init=True, weight_decay=0.1)
    assert difference(ours, theirs) <= 1e-13
    assert difference(ours, problem.reference(twins.adafactor, eta.at, weight_decay=0.1)) > 1e-3


def test_sm3_of_a_vector_is_adagrad(float64):
    problem, eta = Problem(seed=8, shapes=[(7,)], steps=20), Ramp(0.05)
    ours = problem.run(keras_adaptive.SM3(eta, momentum=0.0), "float64")
    assert difference(ours, problem.reference(twins.adagrad, eta.at, epsilon=0.0)) <= 1e-13


@pytest.mark.parametrize("size", [1e-20, 1.0, 1e20])
def test_lion_takes_steps_of_equal_length(size):
    theta, gradient = pair(9)
    gradient[2:4] = 0.0
    _, taken = step(keras_adaptive.Lion(0.5), theta, size * gradient, "float32")
    np.testing.assert_allclose(taken, 0.5 * np.sign(gradient), rtol=0, atol=1e-6)


def test_lion_stands_still_only_where_the_momentum_is_zero(float64):
    """beta_1 m + (1 - beta_1) g in the second step, for the third element -0.75 * 0.5 + 0.25 * 1.5 = 0."""
    variable = a_weight([0.0, 0.0, 0.0], dtype="float64")
    optimizer = keras_adaptive.Lion(1.0, beta_1=0.75, beta_2=0.5)
    for gradient in [1.0, 1.0, -1.0], [0.0, -1.0, 1.5]:
        optimizer.apply([ops.convert_to_tensor(gradient, dtype="float64")], [variable])
    np.testing.assert_array_equal(value(variable), [-2.0, -2.0, 1.0])


def test_tiger_measures_embeddings_row_by_row(float64):
    problem, eta = Problem(seed=10, shapes=[(5, 3), (5, 3)], steps=20), Ramp(0.05)
    tables = [
        keras.Variable(x, dtype="float64", name=n) for x, n in zip(problem.start, ("embeddings", "w"), strict=True)
    ]
    problem.variables = lambda dtype: tables
    ours = problem.run(keras_adaptive.Tiger(eta, weight_decay=0.1), "float64")
    for index, per_row in enumerate([True, False]):
        arguments = {"weight_decay": 0.1, "per_row": per_row}
        theirs = twins.tiger(problem.start[index], problem.gradient(index), eta.at, problem.steps, **arguments)
        assert difference([ours[index]], [theirs]) <= 1e-13


# Identities between classes


def equal(*optimizers):
    """That they lead the same way."""
    problem = Problem(seed=15, shapes=[(5, 3), (4,)], steps=20)
    ends = [problem.run(optimizer, "float64") for optimizer in optimizers]
    assert difference(*ends) <= 1e-12
    assert difference(ends[0], problem.start) > 1e-2


def test_adamw_without_decay_is_adam(float64):
    equal(keras_adaptive.AdamW(0.1, weight_decay=None), keras_adaptive.Adam(0.1, epsilon=1e-8))


def test_adamw_with_the_coupled_decay_is_adam_with_the_penalty(float64):
    coupled = {"weight_decay": 0.1, "weight_decay_mode": "coupled"}
    equal(keras_adaptive.AdamW(0.1, **coupled), keras_adaptive.Adam(0.1, epsilon=1e-8, **coupled))


def test_lion_with_equal_betas_is_tiger(float64):
    lion = keras_adaptive.Lion(0.1, beta_1=0.9, beta_2=0.9, weight_decay=0.1)
    equal(lion, keras_adaptive.Tiger(0.1, beta=0.9, parameter_scale=False, weight_decay=0.1))


def test_ademamix_without_the_slow_average_is_adamw(float64):
    equal(keras_adaptive.AdEMAMix(0.1, alpha=0.0, weight_decay=0.1), keras_adaptive.AdamW(0.1, weight_decay=0.1))


def test_adam_mini_with_blocks_of_one_element_is_adamw(float64):
    mini = keras_adaptive.AdamMini(0.1, block="element", weight_decay=0.1)
    equal(mini, keras_adaptive.AdamW(0.1, weight_decay=0.1))


def test_a_companion_of_muon_is_adamw(float64):
    muon = keras_adaptive.Muon(0.2, companion=True, companion_learning_rate_multiplier=0.5, weight_decay=0.1)
    equal(muon, keras_adaptive.AdamW(0.1, beta_1=0.9, beta_2=0.95, epsilon=1e-10, weight_decay=0.1))


def test_lamb_without_a_ratio_is_adamw(float64):
    """Of a step that is as long as the weights count for, the ratio is 1; the decay is in it."""
    theta, gradient = pair(16)
    adamw = {"learning_rate": 0.1, "epsilon": 1e-6, "weight_decay": 0.3}
    _, expected = step(keras_adaptive.AdamW(**adamw), theta, gradient)
    length = np.linalg.norm(expected) / 0.1
    _, taken = step(keras_adaptive.Lamb(**adamw, phi_lower=length, phi_upper=length), theta, gradient)
    np.testing.assert_allclose(taken, expected, rtol=1e-13)


def test_radam_is_adam_times_its_rectification(float64):
    """From the fifth update on, for any gradients. The length of the average is 2 / (1 - beta_2) - 1 = 19."""
    rng, one, two = np.random.default_rng(17), *(a_weight(np.zeros(4), dtype="float64") for _ in range(2))
    radam = keras_adaptive.RAdam(1.0, beta_2=0.9, epsilon=1e-30)
    adam = keras_adaptive.Adam(1.0, beta_2=0.9, epsilon=1e-30)
    for t in range(1, 200):
        before, gradient = (value(one), value(two)), ops.convert_to_tensor(rng.normal(size=4))
        radam.apply([gradient], [one])
        adam.apply([gradient], [two])
        length = 19 - 2 * t * 0.9**t / (1 - 0.9**t)
        if length > 4:
            ratio = np.sqrt((length - 4) * (length - 2) * 19 / (15 * 17 * length))
            steps = value(one) - before[0], value(two) - before[1]
            np.testing.assert_allclose(steps[0], ratio * steps[1], rtol=1e-9, atol=1e-12)
    assert ratio == pytest.approx(1.0, abs=1e-6)


# State


@pytest.mark.parametrize(
    ("name", "arguments", "per_parameter"),
    [
        ("Adafactor", {}, 0),
        ("SM3", {"momentum": 0.0}, 0),
        ("Lion", {}, 4),
        ("Tiger", {}, 4),
        ("Novograd", {}, 4),
        ("Lars", {}, 4),
        ("Came", {}, 4),
        ("Muon", {}, 4),
        ("NorMuon", {}, 4),
        ("AdamMini", {}, 4),
        ("SM3", {}, 4),
        ("Adafactor", {"beta_1": 0.9}, 4),
        ("Lamb", {}, 8),
        ("Adam", {}, 8),
    ],
)
def test_bytes_of_state_per_parameter(name, arguments, per_parameter):
    """What is stored for rows and columns is small compared with the matrix."""
    optimizer = getattr(keras_adaptive, name)(**arguments)
    optimizer.build([a_weight(np.zeros((512, 512), "float32"))])
    assert per_parameter <= optimizer.describe().state_bytes / 512**2 < per_parameter + 0.05


def test_a_matrix_too_small_to_factor_has_the_full_average():
    optimizer = keras_adaptive.Adafactor(min_size_to_factor=3)
    optimizer.build([a_weight(np.zeros(shape, "float32")) for shape in [(3, 3), (4, 2), (2, 4, 3)]])
    assert [row.slots for row in optimizer.describe()] == [("R", "C"), ("v",), ("R", "C")]
    assert [row.state_bytes for row in optimizer.describe()] == [4 * 6, 4 * 8, 4 * (8 + 6)]


# What they are made of


def test_nan_stays_nan():
    x, y = (ops.convert_to_tensor(np.array(z, "float32")) for z in ([np.nan, 1.0, -2.0, 0.0], [1.0, np.nan, 2.0, -1.0]))
    results = numerics.maximum(x, y), numerics.minimum(x, y), numerics.sign(x), numerics.maximum(x, 0.5)
    expected = [[np.nan, np.nan, 2, 0], [np.nan, np.nan, -2, -1], [np.nan, 1, -1, 0], [np.nan, 1, 0.5, 0.5]]
    for result, numbers in zip(results, expected, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(result), np.array(numbers, "float32"))
