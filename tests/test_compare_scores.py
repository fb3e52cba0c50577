"""The figures of `compare`: made-up results with known answers, and a twin that is written apart."""

import math

import compare_twin
import numpy as np
import pytest

from keras_adaptive.compare import score

pytestmark = pytest.mark.on("tensorflow")

# Steps to the target on two workloads.
TIMES = {"first": [1.0, 1.0], "twice": [2.0, 2.0], "once": [1.0, math.inf], "late": [4.0, 9.0], "never": [math.inf] * 2}
KNOWN = {"first": 1.0, "twice": 2 / 3, "once": 0.5, "late": 0.0, "never": 0.0}


def test_known_scores():
    found = score.profile_score(np.array(list(TIMES.values())))
    np.testing.assert_allclose(found, list(KNOWN.values()), atol=1e-12)


def test_scores_equal_the_twins():
    random = np.random.default_rng(1)
    times = {f"o{number}": list(random.uniform(1, 6, 3)) for number in range(5)} | {"missed": [1.5, math.inf, 2.0]}
    found = score.profile_score(np.array(list(times.values())))
    # The twin's ratios are 1e-4 apart.
    np.testing.assert_allclose(found, [compare_twin.score(times, name) for name in times], atol=2e-4)


def test_a_workload_that_nobody_finishes_counts_for_nobody():
    found = score.profile_score(np.array([[1.0, math.inf], [2.0, math.inf]]))
    np.testing.assert_allclose(found, [1 / 2, 1 / 3])


def test_the_best_of_k_trials_equals_the_twins():
    losses = [3.0, 1.0, 2.0, 2.0, 5.0, 0.5]
    expected = [compare_twin.best_of(losses, k) for k in range(1, 7)]
    np.testing.assert_allclose(score.best_of(losses), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("curve", "expected"),
    [([3.0, 2.0, 1.0, 2.0], 0.5), ([1.0], 1.0), ([3.0, None, None, None], math.inf), ([3.0, 2.5], math.inf)],
)
def test_when_a_target_is_reached(curve, expected):
    assert score.reached(curve, 2.0) == expected


def test_the_sooner_then_the_smaller_loss_wins():
    curves = {"soon": [2.0, 3.0], "late": [3.0, 1.0], "small": [4.0, 2.5], "large": [4.0, 3.5], "lost": [None, None]}
    assert sorted(curves, key=lambda name: score.merit(curves[name], 2.0)) == list(curves)


def test_most_seeds_and_most_studies_must_reach_the_target():
    reached, missed = 0.5, math.inf
    assert score.time_to_target(np.array([[reached, reached, missed]] * 3)) == reached
    assert score.time_to_target(np.array([[reached, missed]] * 3)) == missed
    assert score.time_to_target(np.array([[reached] * 3, [missed] * 3, [missed] * 3])) == missed


def test_intervals_contain_what_is_certain_and_widen_with_noise():
    """Three optimizers: always first; always twice as long; first or missing the target, by chance."""
    random = np.random.default_rng(2)
    shares = np.ones((3, 2, 3, 10))
    shares[1] = 2.0
    shares[2] = np.where(random.random(shares[2].shape) < 0.5, 1.0, math.inf)
    limits, ranks = score.intervals(shares, np.ones((3, 2)), rounds=200)
    np.testing.assert_allclose(limits[:2], [[1.0, 1.0], [2 / 3, 2 / 3]])
    assert limits[2][1] - limits[2][0] >= 0.5
    # The third is as good as the first at times, and never better.
    assert [tuple(rank) for rank in ranks] == [(1, 2), (2, 3), (1, 3)]


def test_costs_turn_steps_into_seconds():
    shares = np.ones((2, 1, 1, 1))
    costs = np.array([[3.0], [1.0]])
    limits, ranks = score.intervals(shares, costs, rounds=10)
    np.testing.assert_allclose(limits, [[1 / 3, 1 / 3], [1.0, 1.0]])
    assert [tuple(rank) for rank in ranks] == [(2, 2), (1, 1)]


def test_the_width_of_good_learning_rates():
    """The loss is a straight line over the logarithm: 1 at 0.1, 1.05 at 0.1 ± a twentieth of a decade."""
    losses = {0.001: 3.0, 0.01: 2.0, 0.1: 1.0, 1.0: 2.0, 10.0: math.inf}
    assert score.width(losses) == pytest.approx(0.1, abs=0.003)
    assert score.width({0.01: 1.0, 0.1: 1.0, 1.0: 1.0}) == pytest.approx(2.0)
    assert score.width({0.01: math.inf, 0.1: math.inf}) == 0.0


def test_the_permutation_test():
    """All signs alike: two of 2^10 are as far from 0. Five seeds never suffice."""
    assert score.p_value(np.full(10, -0.1)) == pytest.approx(2 / 1024)
    assert score.p_value(np.full(5, -0.1)) == pytest.approx(2 / 32)
    assert score.p_value(np.array([1.0, -1.0] * 5)) == 1.0
    random = np.random.default_rng(3)
    found = [score.p_value(random.normal(size=10)) for _ in range(400)]
    assert np.mean(np.array(found) < 0.05) == pytest.approx(0.05, abs=0.025)


def test_holms_correction():
    """0.01 and 0.02 of three are below 0.05 / 3 and 0.05 / 2; where the smallest is not, none is."""
    assert score.significant({"a": 0.01, "b": 0.02, "c": 0.06}) == {"a", "b"}
    assert score.significant({"a": 0.02, "b": 0.02, "c": 0.02}) == set()
    assert score.significant({}) == set()


def test_seeds_are_paired_over_optimizers():
    """Two that are equal in every seed, and differ between seeds, are both always first."""
    shares = np.where(np.arange(10) % 2, 1.0, 3.0) * np.ones((2, 2, 1, 10))
    limits, ranks = score.intervals(shares, np.ones((2, 2)), rounds=200)
    np.testing.assert_allclose(limits, 1.0)
    assert ranks.tolist() == [[1, 2], [1, 2]]


def test_studies_are_drawn_for_each_optimizer():
    """One of three studies reaches the target: the median of three draws sometimes does."""
    shares = np.full((2, 1, 3, 10), math.inf)
    shares[0] = 1.0
    shares[1, 0, 0] = 1.0
    limits, _ = score.intervals(shares, np.ones((2, 1)), rounds=200)
    np.testing.assert_allclose(limits, [[1.0, 1.0], [0.0, 1.0]])
