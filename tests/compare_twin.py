"""The scores of `compare` written a second time, from their definitions and without its code."""

import itertools

import numpy as np


def profile(times, name, ratio):
    """The share of workloads on which an optimizer takes at most so many times as long as the fastest one."""
    within = []
    for workload in range(len(times[name])):
        fastest = min(of_one[workload] for of_one in times.values())
        within.append(times[name][workload] <= ratio * fastest and times[name][workload] < np.inf)
    return sum(within) / len(within)


def score(times, name):
    """The mean height of the profile over ratios from 1 to 4, from many ratios between."""
    ratios = 1 + 3 * (np.arange(30000) + 0.5) / 30000
    return float(np.mean([profile(times, name, ratio) for ratio in ratios]))


def best_of(losses, k):
    """The mean over all sets of k trials of their smallest loss."""
    return float(np.mean([min(chosen) for chosen in itertools.combinations(losses, k)]))
