"""Properties that follow from the equations, mainly of twins for which no exact implementation is installed."""

from itertools import pairwise

import numpy as np
import pytest
from reference import twins
from reference.given import Given
from support import SHAPES, Problem, Ramp, difference

pytestmark = pytest.mark.on("torch")

EACH = [
    twins.came,
    twins.lamb,
    twins.lars,
    twins.merit,
    twins.muon,
    twins.normuon,
    twins.schedule_free_adamw,
    twins.schedule_free_sgd,
    twins.shampoo,
    twins.shampoo_original,
    twins.soap,
]
COUPLED = [twins.dadapt_adam, twins.dog, twins.dowg, twins.prodigy]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("twin", EACH)
def test_every_shape_stays_finite(twin, shape):
    (end,) = Problem(seed=42, shapes=[shape], steps=12).reference(twin, Ramp(0.05).at, weight_decay=0.1)
    assert np.shape(end) == shape
    assert np.all(np.isfinite(end))


@pytest.mark.parametrize("twin", [*EACH, *COUPLED])
def test_gradients_of_zero_leave_a_finite_variable(twin):
    """No step without decay."""
    start = np.random.default_rng(43).normal(size=(4, 3))
    if twin in COUPLED:
        (end,) = twin([start], lambda t, thetas: [0 * thetas[0]], lambda t: 0.1, 12)
    else:
        end = twin(start, lambda t, theta: 0 * theta, lambda t: 0.1, 12, weight_decay=0.0)
    np.testing.assert_allclose(end, start, rtol=1e-14)


@pytest.mark.parametrize("twin", COUPLED)
def test_coupled_twin_sees_one_long_vector(twin):
    problem = Problem(seed=44, shapes=[(4, 3), (), (3, 0), (7,)], steps=30)
    parts = [np.size(theta) for theta in problem.start]

    def split(long):
        pieces = np.split(long, np.cumsum(parts)[:-1])
        return [piece.reshape(theta.shape) for piece, theta in zip(pieces, problem.start, strict=True)]

    def join(pieces):
        return np.concatenate([np.ravel(piece) for piece in pieces])

    ends = twin(problem.start, problem.gradients, Ramp(1.0).at, 30, weight_decay=0.1)
    (long,) = twin(
        [join(problem.start)],
        lambda t, thetas: [join(problem.gradients(t, split(thetas[0])))],
        Ramp(1.0).at,
        30,
        weight_decay=0.1,
    )
    assert difference([join(ends)], [long]) <= 1e-12
    alone = twin(problem.start[:1], lambda t, thetas: problem.gradients(t, thetas)[:1], Ramp(1.0).at, 30)
    assert difference(alone, ends[:1]) > 1e-9


@pytest.mark.parametrize("twin", [twins.dog, twins.dowg])
def test_average_of_power_zero_is_the_mean_of_the_path(twin):
    problem = Problem(seed=45, shapes=[(4, 3)], steps=20)
    path = [twin(problem.start, problem.gradients, lambda t: 1.0, n)[0] for n in range(1, 21)]
    (mean,) = twin(problem.start, problem.gradients, lambda t: 1.0, 20, average_power=0.0, return_average=True)
    np.testing.assert_allclose(mean, np.mean(path, axis=0), atol=1e-14)


@pytest.mark.parametrize("beta", [0.0, 0.9])
def test_schedule_free_average_is_the_mean_of_the_plain_path(beta):
    given = Given((4, 3))
    plain = given.start - 0.1 * np.cumsum(given.pushes[1:], axis=0)
    mean = twins.schedule_free_sgd(given.start, given, lambda t: 0.1, 20, beta=beta, return_average=True)
    np.testing.assert_allclose(mean, np.mean(plain, axis=0), atol=1e-14)
    y = twins.schedule_free_sgd(given.start, given, lambda t: 0.1, 20, beta=beta)
    np.testing.assert_allclose(y, (1 - beta) * plain[-1] + beta * mean, atol=1e-14)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e3])
def test_lars_steps_by_a_share_of_the_variable(scale):
    given = Given((4, 3), scale=scale)
    path = given.path(twins.lars, 9, momentum=0.0, weight_decay=0.0)
    for before, after in pairwise(path):
        np.testing.assert_allclose(np.linalg.norm(after - before), 1e-4 * np.linalg.norm(before), rtol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e3])
@pytest.mark.parametrize("arguments", [{"weight_decay": 0.0}, {"weight_decay": 0.1}, {"use_bias_correction": False}])
def test_lamb_steps_by_a_share_of_the_variable(arguments, scale):
    path = Given((4, 3), scale=scale).path(twins.lamb, 9, **arguments)
    for before, after in pairwise(path):
        np.testing.assert_allclose(np.linalg.norm(after - before), 0.1 * np.linalg.norm(before), rtol=1e-12)


def test_lamb_bounds_the_norm_of_the_variable():
    given = Given((4, 3))
    for bounds, size in [({"phi_lower": 50.0}, 50.0), ({"phi_upper": 0.5}, 0.5)]:
        moves = given.moves(twins.lamb, 9, **bounds)
        np.testing.assert_allclose([np.linalg.norm(move) for move in moves], 0.1 * size, rtol=1e-12)


def test_lamb_without_debias_differs_only_through_epsilon_without_decay():
    """Both corrections are numbers, which the ratio cancels."""
    given = Given((4, 3))
    options = {"weight_decay": 0.0, "epsilon": 0.0}
    ends = [given.path(twins.lamb, 9, use_bias_correction=flag, **options)[-1] for flag in (True, False)]
    assert difference(ends[:1], ends[1:]) <= 1e-13


def test_vectors_of_lars_and_lamb_take_the_plain_step():
    given = Given((7,))
    heavy = given.start.copy()
    b = np.zeros(7)
    for t in range(1, 10):
        b = 0.9 * b + 0.1 * given.pushes[t]
        heavy = heavy - b
    assert difference([twins.lars(given.start, given, lambda t: 0.1, 9)], [heavy]) <= 1e-14
    adam = {"companion_learning_rate_multiplier": 1.0, "companion_beta_2": 0.999, "companion_epsilon": 1e-6}
    plain = twins.companion(given.start, given, lambda t: 0.1, 9, **adam)
    assert difference([twins.lamb(given.start, given, lambda t: 0.1, 9)], [plain]) <= 1e-14


def test_a_matrix_of_zeros_takes_the_plain_step():
    """Its ratio is 1, for any bounds of LAMB's ratio."""
    zeros, ones = np.zeros((4, 3)), np.ones((4, 3))
    push = Given((4, 3)).pushes[1]
    for form in ("sum", "norm"):
        end = twins.lars(zeros, lambda t, theta: push, lambda t: 0.1, 1, form=form)
        np.testing.assert_allclose(end, -0.1 * push, rtol=1e-15)
    end = twins.lamb(zeros, lambda t, theta: push, lambda t: 0.1, 1, phi_lower=3.0)
    np.testing.assert_allclose(end, -0.1 * np.sign(push), rtol=1e-3)
    end = twins.lamb(ones, lambda t, theta: zeros, lambda t: 0.1, 1)
    np.testing.assert_allclose(end, 0.9 * ones, err_msg="the decay alone is the direction")


def test_popular_lars_of_the_sum_form_by_hand():
    theta, g = np.array([[3.0, 4.0]]), np.array([[0.0, 2.0]])
    arguments = {"momentum_form": "popular", "trust_coefficient": 0.1, "weight_decay": 0.5, "momentum": 0.5}
    first = theta - 1.0 * 0.1 * 5 / (np.hypot(1.5, 4.0) + 2.5) * np.array([[1.5, 4.0]])
    end = twins.lars(theta, lambda t, x: g, lambda t: 1.0, 1, **arguments)
    np.testing.assert_allclose(end, first, rtol=1e-15)


def test_merit_by_hand():
    """Without memory and with epsilon 1 the direction is g / (|g| + 1)."""
    theta = np.array([[0.01, -0.04, 0.0], [0.2, 0.3, 0.5]])
    u = np.array([[0.5, -0.2, 0.1], [-0.8, 0.4, 0.0]])
    g = u / (1 - np.abs(u))
    row = np.array([[0.04 / 0.5], [0.5 / 0.8]])
    column = np.array([[0.2 / 0.8, 0.3 / 0.4, 0.5 / 0.1]])
    step = np.clip(np.maximum(np.maximum(row, column), 0.5 / 0.8) * u, -1, 1)
    arguments = {"beta_1": 0.0, "beta_2": 0.0, "epsilon": 1.0}
    end = twins.merit(theta, lambda t, x: g, lambda t: 0.1, 1, **arguments)
    np.testing.assert_allclose(end, theta - 0.1 * step, rtol=1e-14)
    vector = twins.merit(theta[1], lambda t, x: g[1], lambda t: 0.1, 1, **arguments)
    np.testing.assert_allclose(vector, theta[1] - 0.1 * 0.5 / 0.8 * u[1], rtol=1e-14)
    theta[:, 0], u[1] = 0.0, 0.0
    g = u / (1 - np.abs(u))
    step = np.array([[0.5, -0.3 / 0.2 * 0.2, 0.5 / 0.1 * 0.1], [0.0, 0.0, 0.0]])
    end = twins.merit(theta, lambda t, x: g, lambda t: 0.1, 1, **arguments)
    np.testing.assert_allclose(end, theta - 0.1 * step, rtol=1e-14)


def test_merit_is_the_same_transposed_and_flattened():
    given, turned, cube = Given((6, 4)), Given((6, 4)), Given((6, 4))
    turned.start, turned.pushes = turned.start.T, turned.pushes.transpose(0, 2, 1)
    cube.start, cube.pushes = cube.start.reshape(2, 3, 4), cube.pushes.reshape(-1, 2, 3, 4)
    end = twins.merit(given.start, given, lambda t: 0.1, 9, weight_decay=0.1)
    np.testing.assert_array_equal(twins.merit(turned.start, turned, lambda t: 0.1, 9, weight_decay=0.1).T, end)
    flat = twins.merit(cube.start, cube, lambda t: 0.1, 9, weight_decay=0.1).reshape(6, 4)
    np.testing.assert_array_equal(flat, end)


def test_cowclip_bounds_each_row():
    rng = np.random.default_rng(46)
    theta, g, counts = rng.normal(size=(6, 4)), 3 * rng.normal(size=(6, 4)), np.array([1, 2, 0, 1, 5, 1])
    theta[3], g[4], g[5] = 0.0, 0.01 * g[4], 0.0
    clipped = twins.cowclip(g, theta, counts, ratio=0.5, zeta=0.1)
    lengths = np.linalg.norm(clipped, axis=1)
    bound = 0.5 * np.maximum(np.linalg.norm(theta, axis=1), 2 * 0.1 * 0.5) * counts
    np.testing.assert_allclose(lengths[:4], bound[:4], rtol=1e-14)
    np.testing.assert_array_equal(clipped[4:], g[4:])
    np.testing.assert_allclose(clipped[:2] * np.linalg.norm(g[:2], axis=1)[:, None], g[:2] * lengths[:2, None])
