"""The figures that are computed from the results. Nothing here trains."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

# The range of ratios over which AlgoPerf integrates a performance profile.
MOST = 4.0
Curve = Sequence[float | None]


def lowest(curve: Curve) -> float:
    """The smallest validation loss of a run; infinite if none is a number."""
    return min((value for value in curve if value is not None), default=math.inf)


def last(curve: Curve) -> float:
    """The validation loss at the end of a run; infinite if it is not a number."""
    return math.inf if curve[-1] is None else curve[-1]


def reached(curve: Curve, target: float) -> float:
    """The share of the budget after which a loss is at the target; infinite if it never is."""
    for place, value in enumerate(curve, start=1):
        if value is not None and value <= target:
            return place / len(curve)
    return math.inf


def merit(curve: Curve, target: float) -> tuple[float, float]:
    """The smaller, the better: how soon the target is reached, then the smallest loss."""
    return reached(curve, target), lowest(curve)


def profile_score(times: np.ndarray) -> np.ndarray:
    """AlgoPerf's score of each contender: the integral of its performance profile over ratios from 1 to 4, over 3.

    The profile of a contender is the share of workloads on which its time is at most so many times the best one.

    Args:
        times: one row for each contender and one column for each workload; infinite where the target is missed.
    """
    with np.errstate(invalid="ignore"):
        ratios = times / times.min(axis=0, keepdims=True)
    ratios = np.where(np.isfinite(times), ratios, np.inf)
    # A workload adds a step to the profile at its ratio.
    return np.clip((MOST - ratios) / (MOST - 1), 0.0, 1.0).mean(axis=1)


def time_to_target(shares: np.ndarray) -> np.ndarray:
    """The median over seeds, then over studies, of arrays (..., studies, seeds)."""
    return middle(middle(shares, -1), -1)


def middle(values: np.ndarray, axis: int) -> np.ndarray:
    """The median; of an even number of values the larger of the two in the middle, so that most runs are as good."""
    return np.sort(values, axis=axis).take(values.shape[axis] // 2, axis=axis)


def intervals(shares: np.ndarray, costs: np.ndarray, rounds: int = 1000, seed: int = 0):
    """Bootstrap of the scores: the 2.5 and 97.5 percentiles, and the best and the worst rank.

    Studies are drawn for each contender and workload, seeds once for all contenders, which share them.

    Args:
        shares: times to the target: contenders, workloads, studies, seeds.
        costs: what one unit of time costs: contenders, workloads.
    """
    random = np.random.default_rng(seed)
    count, workloads, studies, seeds = shares.shape
    scores = []
    for _ in range(rounds):
        of_studies = random.integers(studies, size=(count, workloads, studies, 1))
        of_seeds = random.integers(seeds, size=(1, workloads, 1, seeds))
        drawn = np.take_along_axis(shares, np.broadcast_to(of_studies, (count, workloads, studies, seeds)), 2)
        drawn = np.take_along_axis(drawn, np.broadcast_to(of_seeds, drawn.shape), 3)
        scores.append(profile_score(time_to_target(drawn) * costs))
    drawn_scores = np.array(scores)
    better = (drawn_scores[:, np.newaxis] > drawn_scores[..., np.newaxis] + 1e-12).sum(-1)
    as_good = (drawn_scores[:, np.newaxis] > drawn_scores[..., np.newaxis] - 1e-12).sum(-1)
    ranks = np.stack([np.percentile(better + 1, 2.5, axis=0), np.percentile(as_good, 97.5, axis=0)], axis=1)
    return np.percentile(drawn_scores, (2.5, 97.5), axis=0).T, ranks.round().astype(int)


def best_of(losses: Sequence[float]) -> np.ndarray:
    """The expected smallest loss of k trials, for k from 1 to all of them, if any k were as likely."""
    ordered = np.sort(np.asarray(losses, float))
    count = len(ordered)
    chances = [
        [math.comb(count - place - 1, k - 1) / math.comb(count, k) for place in range(count)]
        for k in range(1, count + 1)
    ]
    with np.errstate(invalid="ignore"):
        products = np.where(np.array(chances) > 0, np.array(chances) * ordered, 0.0)
    return products.sum(1)


def width(losses: Mapping[float, float], slack: float = 0.05) -> float:
    """How many decades of learning rates end within 5 % of the smallest loss.

    Between two learning rates the loss is a straight line over the logarithm of the learning rate.
    """
    rates = np.log10(sorted(losses))
    values = np.array([losses[rate] for rate in sorted(losses)])
    if not np.isfinite(values).any():
        return 0.0
    limit = values.min() + slack * abs(values.min())
    values = np.minimum(values, 1e6 * max(abs(limit), 1.0))
    fine = np.linspace(rates[0], rates[-1], 2001)
    return float((np.interp(fine, rates, values) <= limit).mean() * (rates[-1] - rates[0]))


def p_value(differences: np.ndarray) -> float:
    """How often the mean of paired differences would be as far from 0 if the sign of each seed were chance.

    The exact permutation test, of two sides: over all signs of up to ten seeds. With five seeds or fewer it is never
    below 0.05.
    """
    count = len(differences)
    signs = 1 - 2 * ((np.arange(2**count)[:, np.newaxis] >> np.arange(count)) & 1)
    means = np.abs(signs @ differences)
    return float((means >= means[0] * (1 - 1e-9)).mean())


def significant(p_values: Mapping[str, float], level: float = 0.05) -> set[str]:
    """Those that are below the level after Holm's correction for their number."""
    found: set[str] = set()
    for place, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        if p_values[name] > level / (len(p_values) - place):
            break
        found.add(name)
    return found
