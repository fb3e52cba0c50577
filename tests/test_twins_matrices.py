"""Properties of the twins for matrices that follow from the equations."""

import numpy as np
import pytest
from reference import twins
from reference.given import Given
from support import Problem, Ramp, difference

pytestmark = pytest.mark.on("torch")

SQUARE_AND_NOT = [(4, 4), (5, 3), (3, 5)]
ADAM = {"companion_learning_rate_multiplier": 1.0, "companion_beta_2": 0.999, "companion_epsilon": 1e-8}
BLOCKS = [
    (slice(0, 3), slice(0, 3)),
    (slice(0, 3), slice(3, 5)),
    (slice(3, 4), slice(0, 3)),
    (slice(3, 4), slice(3, 5)),
]


def polar(g):
    u, _, v = np.linalg.svd(g, full_matrices=False)
    return u @ v


def inverse_root(matrix, power):
    values, vectors = np.linalg.eigh(matrix)
    return vectors @ np.diag(values**-power) @ vectors.T


def lengths(moves, cut=...):
    return [np.linalg.norm(move[cut]) for move in moves]


@pytest.mark.parametrize("twin", [twins.shampoo, twins.shampoo_original])
def test_first_step_of_shampoo_is_the_polar_factor(twin):
    given = Given((4, 4))
    distributed = {"graft": None, "start": 1} if twin is twins.shampoo else {}
    (move,) = given.moves(twin, 1, epsilon=1e-30, **distributed)
    np.testing.assert_allclose(move, -0.1 * polar(given.pushes[1]), atol=1e-13)


@pytest.mark.parametrize("shape", [(), (1,), (7,), (4, 3), (3, 0), (2, 1, 3, 2, 2)])
def test_distributed_shampoo_reaches_the_original(shape):
    problem = Problem(seed=51, shapes=[shape], steps=30)
    plain = {"graft": None, "beta_1": 0.0, "beta_2": 1.0, "frequency": 1, "epsilon": 1e-4, "weight_decay": 0.1}
    ours = problem.reference(twins.shampoo, Ramp(0.05).at, **plain)
    assert (
        difference([*ours, 0], [*problem.reference(twins.shampoo_original, Ramp(0.05).at, weight_decay=0.1), 0]) < 1e-12
    )


def test_shampoo_is_the_graft_before_its_start():
    problem = Problem(seed=52, steps=9)
    adam = problem.reference(twins.companion, Ramp(0.05).at, **ADAM)
    assert difference(problem.reference(twins.shampoo, Ramp(0.05).at, start=10), adam) <= 1e-15
    assert difference(problem.reference(twins.shampoo, Ramp(0.05).at, frequency=10), adam) <= 1e-15
    assert difference(problem.reference(twins.shampoo, Ramp(0.05).at, start=9), adam) > 1e-6


def test_shampoo_of_the_nesterov_form_is_the_simple_nadam_before_its_start():
    """The first moment of beta_1 squared and what is left of the sum of its weights."""
    given = Given((4, 3))
    moves = given.moves(twins.shampoo, 8, nesterov=True, graft="sgd")
    for t, move in enumerate(moves, start=1):
        weights = [0.9**2 * 0.1 * 0.9 ** (t - 1 - i) for i in range(1, t)] + [1 - 0.9**2]
        assert sum(weights) == pytest.approx(1 - 0.9**2 * 0.9 ** (t - 1))
        direction = np.tensordot(weights, given.pushes[1 : t + 1], axes=1) / sum(weights)
        np.testing.assert_allclose(move, -0.1 * direction, atol=1e-14)


@pytest.mark.parametrize("graft", ["adam", "sgd"])
@pytest.mark.parametrize("beta_2", [0.9, 1.0])
def test_each_block_of_shampoo_has_the_norm_of_its_graft(graft, beta_2):
    given = Given((4, 5))
    arguments = {"graft": graft, "beta_2": beta_2, "block_size": 3, "frequency": 4}
    moves = given.moves(twins.shampoo, 15, start=2, **arguments)
    grafts = given.moves(twins.shampoo, 15, start=99, **arguments)
    for cut in BLOCKS:
        np.testing.assert_allclose(lengths(moves, cut), lengths(grafts, cut), rtol=1e-12)
    assert difference(moves[2:], grafts[2:]) > 1e-3


@pytest.mark.parametrize("graft", ["adam", None])
def test_a_block_of_shampoo_is_updated_like_a_separate_variable(graft):
    given = Given((4, 5))
    end = given.path(twins.shampoo, 15, block_size=3, frequency=4, graft=graft)[-1]
    for cut in BLOCKS:
        alone = Given((4, 5))
        alone.start, alone.pushes = given.start[cut], given.pushes[(slice(None), *cut)]
        np.testing.assert_array_equal(alone.path(twins.shampoo, 15, frequency=4, graft=graft)[-1], end[cut])


def test_roots_of_shampoo_do_not_change_between_their_updates():
    """Of the third update, which is the start, and then of the fourth and the eighth; without memory of gradients."""
    given = Given((4, 4), steps=9)
    arguments = {"graft": None, "beta_1": 0.0, "beta_2": 0.9, "start": 3, "frequency": 4, "epsilon": 1e-3}
    moves = given.moves(twins.shampoo, 9, **arguments)
    for t, of in enumerate([0, 0, 3, 4, 4, 4, 4, 8, 8], start=1):
        g, direction = given.pushes[t], given.pushes[t]
        if of:
            shares = [0.1 * 0.9 ** (of - i) / (1 - 0.9**of) for i in range(1, of + 1)]
            past = given.pushes[1 : of + 1]
            left = sum(share * p @ p.T for share, p in zip(shares, past, strict=True)) + 1e-3 * np.eye(4)
            right = sum(share * p.T @ p for share, p in zip(shares, past, strict=True)) + 1e-3 * np.eye(4)
            direction = inverse_root(left, 0.25) @ g @ inverse_root(right, 0.25)
        np.testing.assert_allclose(moves[t - 1], -0.1 * direction, atol=1e-12)


def test_momentum_of_shampoo_sums_its_directions():
    given = Given((4, 3))
    moves = given.moves(twins.shampoo, 9, frequency=2)
    heavy = given.moves(twins.shampoo, 9, frequency=2, momentum=0.5)
    for t in range(9):
        expected = sum(0.5 ** (t - i) * moves[i] for i in range(t + 1))
        np.testing.assert_allclose(heavy[t], expected, atol=1e-14)


@pytest.mark.parametrize("shape", [(64, 32), (32, 64), (16, 64)])
def test_singular_values_of_the_iteration_are_within_its_bounds(shape):
    given = Given(shape, steps=1)
    values = np.linalg.svd(twins.newton_schulz(given.start), compute_uv=False)
    assert 0.67 < values.min() < values.max() < 1.21
    left, _, right = np.linalg.svd(given.start, full_matrices=False)
    turned = left.T @ twins.newton_schulz(given.start) @ right.T
    np.testing.assert_allclose(turned, np.diag(np.diag(turned)), atol=1e-13)


@pytest.mark.parametrize("shape", SQUARE_AND_NOT)
@pytest.mark.parametrize("twin", [twins.muon, twins.normuon])
def test_scales_of_muon(twin, shape):
    given = Given(shape)
    original, moonlight = (given.moves(twin, 9, scale=scale) for scale in ("original", "moonlight"))
    rows, columns = shape
    ratio = 0.2 * np.sqrt(max(shape)) / np.sqrt(max(1, columns / rows))
    np.testing.assert_allclose(moonlight, ratio * original, atol=1e-13)


@pytest.mark.parametrize("shape", SQUARE_AND_NOT)
def test_normuon_has_the_norm_of_muon_and_columns_of_equal_norm(shape):
    given = Given(shape)
    muon, normuon = (given.moves(twin, 9) for twin in (twins.muon, twins.normuon))
    np.testing.assert_allclose(lengths(normuon), lengths(muon), rtol=1e-7)
    of_columns = np.linalg.norm(normuon[0], axis=0)
    np.testing.assert_allclose(of_columns, of_columns[0], rtol=1e-6)


@pytest.mark.parametrize("twin", [twins.muon, twins.normuon])
def test_variables_that_are_not_matrices_go_to_the_companion(twin):
    problem = Problem(seed=53, shapes=[(), (7,), (2, 3, 4)], steps=20)
    given = {"companion_beta_1": 0.8, "weight_decay": 0.1}
    ours = problem.reference(twin, Ramp(0.05).at, **given)
    assert difference(ours, problem.reference(twins.companion, Ramp(0.05).at, **given)) == 0


def test_soap_skips_its_first_update_but_not_the_decay():
    given = Given((4, 3))
    (move,) = given.moves(twins.soap, 1, weight_decay=0.5)
    np.testing.assert_allclose(move, -0.1 * 0.5 * given.start)


@pytest.mark.parametrize("shape", [(), (7,), (4, 3), (2, 3, 2)])
def test_soap_without_bases_is_adam_from_the_second_gradient(shape):
    """Except for epsilon, which is added to the root of the uncorrected moment."""
    given, later = Given(shape), Given(shape)
    later.pushes = given.pushes[1:]
    adam = {**ADAM, "companion_beta_1": 0.95, "companion_beta_2": 0.95, "companion_epsilon": 0.0}
    ours = given.path(twins.soap, 12, max_size=1, epsilon=0.0)[-1]
    assert difference([ours], [later.path(twins.companion, 11, **adam)[-1]]) <= 1e-14


@pytest.mark.parametrize("shape", [(4, 4), (4, 3), (3, 4)])
@pytest.mark.parametrize("frequency", [3, 100])
def test_soap_rotates_with_its_variable(shape, frequency):
    given, turned = Given(shape), Given(shape)
    rng = np.random.default_rng(54)
    left, right = (np.linalg.qr(rng.normal(size=(size, size)))[0] for size in shape)
    turned.start, turned.pushes = left @ given.start @ right, left @ given.pushes @ right
    end = given.path(twins.soap, 15, frequency=frequency)[-1]
    np.testing.assert_allclose(turned.path(twins.soap, 15, frequency=frequency)[-1], left @ end @ right, atol=1e-8)


def test_roots_of_shampoo_exist_where_rounding_makes_a_factor_negative():
    (end,) = Problem(seed=55, scale=1e6, shapes=[(7,)], steps=9).reference(twins.shampoo, Ramp(0.05).at, start=1)
    assert np.all(np.isfinite(end))
