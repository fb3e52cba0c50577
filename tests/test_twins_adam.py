"""The twins of Adam's family and of the algorithms with a small state: against other libraries and their equations."""

import numpy as np
import pytest
from reference import twins
from reference.exact_adam import EXACT, SCALES
from reference.exact_adam import SHAPES as SHAPES_OF
from reference.twins.adam_descendants import warmed_beta
from reference.twins.adam_family import rectification, rho
from reference.twins.common import cautious
from support import SHAPES, Problem, Ramp, difference

pytestmark = pytest.mark.on("torch")

SCALE = [1.0, 1e-4, 1e-8]
# Each with arguments under which the decay is decoupled and at the learning rate.
DECOUPLED = {
    "adabelief": {},
    "adabound": {},
    "adadelta": {},
    "adafactor": {},
    "adam_mini": {},
    "adamax": {},
    "adamw": {},
    "adan": {"proximal": False},
    "ademamix": {},
    "adopt": {},
    "amsgrad": {},
    "grams": {},
    "lion": {},
    "mars": {},
    "nadam": {},
    "radam": {},
    "sm3": {},
    "tiger": {"parameter_scale": False},
    "yogi": {},
}
ALL = {**DECOUPLED, "novograd": {}}


def one_step(twin, theta, g, rate=0.1, **arguments):
    """What the first step adds."""
    return twin(theta, lambda t, theta: g, lambda t: rate, 1, **arguments) - theta


def normal(*shape):
    return np.random.default_rng(7).normal(size=shape)


@pytest.mark.parametrize(("name", "scale"), [(name, scale) for name in EXACT for scale in SCALES.get(name, SCALE)])
def test_the_twin_matches_the_oracle(name, scale):
    twin, arguments, oracle, tolerance = EXACT[name]
    problem = Problem(3, scale, SHAPES_OF.get(name, SHAPES), steps=50)
    eta = Ramp(0.05).at
    last = problem.reference(twin, eta, **arguments)
    moved, gap = difference(last, problem.start), difference(last, problem.reference(oracle, eta))
    assert moved > 1e-9
    # Beside the rounding of the weights, by which a small gradient moves little.
    assert gap <= tolerance * min(1.0, moved) + 1e-14


def test_the_oracle_of_optax_can_fail():
    twin, _, oracle, tolerance = EXACT["adamw-optax"]
    problem = Problem(3, steps=50)
    gap = difference(problem.reference(twin, Ramp(0.05).at), problem.reference(oracle, Ramp(0.05).at))
    assert gap > 1e3 * tolerance


@pytest.mark.parametrize("name", ALL)
def test_every_shape_moves_and_keeps_its_shape(name):
    for theta in Problem(3).start:
        moved = getattr(twins, name)(theta, lambda t, theta: np.cos(theta + t), lambda t: 0.1, 5, **ALL[name])
        assert np.shape(moved) == theta.shape
        assert np.all(np.isfinite(moved))
        assert np.all(moved != theta)


@pytest.mark.parametrize("name", DECOUPLED)
def test_without_a_gradient_only_the_decay_acts(name):
    arguments = {**DECOUPLED[name], "weight_decay": 0.3}
    for theta in Problem(3).start:
        last = getattr(twins, name)(theta, lambda t, theta: 0.0 * theta, lambda t: 0.1 * t, 3, **arguments)
        np.testing.assert_allclose(last, theta * 0.97 * 0.94 * 0.91, rtol=1e-14)


def test_novograd_averages_the_decay():
    theta = normal(4)
    last = twins.novograd(theta, lambda t, theta: 0 * theta, lambda t: 0.1, 2, beta_1=0.5, weight_decay=0.3)
    first = theta - 0.1 * 0.3 * theta
    np.testing.assert_allclose(last, first - 0.1 * (0.5 * 0.3 * theta + 0.3 * first), rtol=1e-14)


def test_the_proximal_decay_divides():
    theta = normal(4)
    last = twins.adan(theta, lambda t, theta: 0 * theta, lambda t: 0.1, 2, weight_decay=0.3)
    np.testing.assert_allclose(last, theta / 1.03**2, rtol=1e-14)


# ALGORITHMS: Rosenbrock from (-2, 2), 400 steps; the loss of the last weights.
GOLDEN = [
    ("adam", 1.0, {"epsilon": 1e-16}, 3.903676e-3),
    ("amsgrad", 1.0, {"variant": "raw"}, 5.824521e-3),
    ("nadam", 0.3, {}, 0.275769),
    ("radam", 1e-3, {"threshold": 5.0}, 2.034697),
    ("adabelief", 1.0, {}, 2.764498e-3),
    ("yogi", 1.0, {"use_bias_correction": True, "initial_momentum_value": 1e-6}, 6.006097e-3),
    ("lion", 0.1, {}, 0.2),
    ("adan", 1.0, {"weight_decay": 0.0}, 3.464769e-3),
    ("ademamix", 1.0, {}, 9.426429e-5),
    ("adamw", 1.0, {"weight_decay": 0.0, "cautious": True}, 1.374593e-2),
    ("adopt", 1.0, {}, 2.897847),
    ("grams", 1.0, {}, 2.249578),
]


@pytest.mark.parametrize(("name", "rate", "arguments", "loss"), GOLDEN, ids=[row[0] for row in GOLDEN])
def test_rosenbrock_ends_at_the_recorded_loss(name, rate, arguments, loss):
    def gradient(t, theta):
        x, y = theta
        return np.array([-2 * (1 - x) - 400 * x * (y - x**2), 200 * (y - x**2)])

    x, y = getattr(twins, name)(np.array([-2.0, 2.0]), gradient, lambda t: rate, 400, **arguments)
    assert (1 - x) ** 2 + 100 * (y - x**2) ** 2 == pytest.approx(loss, rel=4e-7)


def test_radam_matches_the_table_of_rectifications():
    assert rho(0.999, np.inf) == pytest.approx(1999)
    lengths = [1, 1.9995, 2.99867, 3.9975, 4.996, 5.99416]
    assert [rho(0.999, t) for t in range(1, 7)] == pytest.approx(lengths, abs=5e-6)
    table = {6: 0.025821, 7: 0.032739, 10: 0.048998, 20: 0.084809, 50: 0.148152, 100: 0.215335, 500: 0.476493}
    table |= {1000: 0.645326, 5000: 0.982878}
    assert {t: rectification(0.999, t) for t in table} == pytest.approx(table, abs=5e-7)
    table = {5: 0.156111, 6: 0.255177, 20: 0.774857, 50: 0.980959}
    assert {t: rectification(0.9, t) for t in table} == pytest.approx(table, abs=5e-7)


@pytest.mark.parametrize("beta_2", [0.9, 0.99, 0.999, 0.9999])
def test_radam_rectifies_from_the_fifth_or_the_sixth_step(beta_2):
    assert [t for t in range(1, 9) if rho(beta_2, t) > 4] == [5, 6, 7, 8]
    assert [t for t in range(1, 9) if rho(beta_2, t) > 5] == [6, 7, 8]


@pytest.mark.parametrize("scale", SCALE)
@pytest.mark.parametrize("name", ["adamw", "amsgrad", "adan", "grams", "mars", "ademamix"])
def test_the_first_step_is_the_sign_of_the_gradient(name, scale):
    theta, g = normal(4, 3), scale * normal(3, 4).T
    arguments = {"amsgrad": {"variant": "raw"}, "ademamix": {"alpha": 0.0}}.get(name, {})
    step = one_step(getattr(twins, name), theta, g, epsilon=0.0, weight_decay=0.0, **arguments)
    np.testing.assert_allclose(step, -0.1 * np.sign(g), rtol=1e-13)


def test_mars_of_small_gradients_without_correction_is_adamw():
    problem = Problem(3, 1e-8, [(4, 3)], steps=50)
    ours = problem.reference(twins.mars, Ramp(0.05).at, gamma=0.0, weight_decay=0.1)
    adamw = problem.reference(twins.adamw, Ramp(0.05).at, beta_1=0.95, beta_2=0.99, weight_decay=0.1)
    assert difference(ours, adamw) <= 1e-15


def test_adam_mini_with_blocks_of_one_is_adamw():
    problem = Problem(3, steps=50)
    ours = problem.reference(twins.adam_mini, Ramp(0.05).at, weight_decay=0.1)
    assert difference(ours, problem.reference(twins.adamw, Ramp(0.05).at, weight_decay=0.1)) == 0


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
def test_adam_mini_has_one_rate_for_a_block(axes):
    theta, g = normal(4, 3), normal(3, 4).T
    spread = np.sqrt(np.mean(g**2, axis=axes, keepdims=True))
    np.testing.assert_allclose(
        one_step(twins.adam_mini, theta, g, axes=axes, epsilon=0.0), -0.1 * g / spread, rtol=1e-13
    )


def test_adabound_ends_within_its_bounds():
    """At gamma t = 100 the rate is within a hundredth of the last one."""
    run = [
        twins.adabound(np.array(0.0), lambda t, theta: np.array(3.0), lambda t: 0.1, n, gamma=1.0) for n in (99, 100)
    ]
    rate = (run[0] - run[1]) / (3 * (1 - 0.9**100)) / (0.1 / 1e-3)
    assert 0.1 * 100 / 101 - 1e-12 <= rate <= 0.1 * 1.01 + 1e-12


def test_adopt_takes_no_first_step():
    theta = normal(4)
    assert np.all(one_step(twins.adopt, theta, normal(4)) == 0)


def test_the_half_life_of_ademamix_grows_linearly():
    halves = [np.log(0.5) / np.log(warmed_beta(t, 10, 0.9, 0.9999)) for t in range(12)]
    np.testing.assert_allclose(np.diff(halves)[:10], (halves[10] - halves[0]) / 10, rtol=1e-9)
    assert warmed_beta(0, 10, 0.9, 0.9999) == pytest.approx(0.9, abs=1e-15)
    assert [warmed_beta(t, 10, 0.9, 0.9999) for t in (10, 11)] == [0.9999, 0.9999]
    assert warmed_beta(5, 10, 0.0, 0.5) == pytest.approx(0.25)
    assert warmed_beta(5, None, 0.0, 0.5) == 0.5


def test_cautious_masks_steps_against_the_gradient():
    u, g = np.array([1.0, -2.0, 3.0, 0.0]), np.array([0.5, 1.0, 2.0, 1.0])
    np.testing.assert_allclose(cautious(u, g), np.array([1.0, 0, 3.0, 0]) * 4 / 3)


@pytest.mark.parametrize("shape", [(4, 3), (2, 4, 3)])
def test_the_first_step_of_adafactor_for_squares_of_rank_one(shape):
    theta = normal(*shape)
    g = np.sign(normal(*shape)) * np.exp(normal(*shape[:-1], 1) + normal(1, shape[-1]))
    step = one_step(twins.adafactor, theta, g, relative_step=False, scale_parameter=False)
    np.testing.assert_allclose(step, -0.1 * np.sign(g), rtol=1e-14)


def test_adafactor_does_not_factor_a_small_matrix():
    theta, g = normal(4, 3), normal(3, 4).T
    for size, whole in ((3, False), (4, True)):
        step = one_step(twins.adafactor, theta, g, relative_step=False, scale_parameter=False, min_size_to_factor=size)
        assert np.allclose(np.abs(step), 0.1) == whole


def test_adafactor_moves_weights_near_zero_by_at_least_a_floor():
    step = one_step(twins.adafactor, np.full(4, 1e-5), normal(4), epsilon_2=1e-2)
    np.testing.assert_allclose(step, -0.1 * 1e-2 * np.sign(normal(4)), rtol=1e-9)


def test_yogi_begins_with_its_initial_values():
    g = np.array([1.0, 1e-4, 0.0])
    v = 1e-6 + 0.001 * np.array([1.0, -1e-8, 0.0])
    step = one_step(twins.yogi, np.zeros(3), g)
    np.testing.assert_allclose(step, -0.1 * 0.1 * g / (np.sqrt(v) + 1e-3), rtol=1e-13)


def test_sm3_of_a_vector_is_adagrad():
    problem = Problem(3, shapes=[(), (7,), (3, 0)], steps=50)
    ours = problem.reference(twins.sm3, Ramp(0.05).at, momentum=0.0)
    assert difference(ours, problem.reference(twins.adagrad, Ramp(0.05).at, epsilon=0.0)) <= 1e-15


def test_sm3_takes_the_smallest_of_the_largest():
    """A cell without a gradient has the statistics of its row and column, and moves only by the moment."""
    g = np.array([[3.0, 0.0], [0.0, 4.0]])
    first = one_step(twins.sm3, np.zeros((2, 2)), g, momentum=0.0)
    np.testing.assert_allclose(first, [[-0.1, 0], [0, -0.1]])
    gradients = {1: g, 2: np.array([[0.0, 1.0], [0.0, 0.0]])}
    last = twins.sm3(np.zeros((2, 2)), lambda t, theta: gradients[t], lambda t: 0.1, 2, momentum=0.0)
    assert last[0, 1] == pytest.approx(-0.1 / np.sqrt(9 + 1))


def test_each_coordinate_of_lion_moves_by_one_rate_and_the_decay():
    theta = normal(50)
    g = np.where(np.arange(50) < 10, 0.0, np.cos(np.arange(50)))
    step = one_step(twins.lion, theta, g, weight_decay=0.3)
    np.testing.assert_allclose(step, -0.1 * (np.sign(g) + 0.3 * theta), atol=1e-15)


def test_tiger_moves_a_matrix_by_its_size_and_a_vector_by_half():
    theta, g = normal(4, 3), normal(3, 4).T
    size = np.sqrt(np.mean(theta**2))
    np.testing.assert_allclose(one_step(twins.tiger, theta, g), -0.1 * size * (np.sign(g) + 0.01 * theta), rtol=1e-12)
    rows = np.sqrt(np.mean(theta**2, axis=1, keepdims=True))
    by_row = one_step(twins.tiger, theta, g, per_row=True)
    np.testing.assert_allclose(by_row, -0.1 * rows * (np.sign(g) + 0.01 * theta), rtol=1e-12)
    np.testing.assert_allclose(one_step(twins.tiger, theta[0], g[0]), -0.05 * np.sign(g[0]), rtol=1e-12)
