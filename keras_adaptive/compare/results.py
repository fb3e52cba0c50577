"""The lines of all runs as arrays: who reached what, and when."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from keras_adaptive.compare import protocol, rules, score
from keras_adaptive.compare.contenders import find
from keras_adaptive.compare.workloads import WORKLOADS

Line = dict[str, Any]


def current(lines: Iterable[Line], rule: Callable[[str], list[float]] = rules.now) -> tuple[list[Line], dict[str, str]]:
    """The lines that still hold, and for each other contender why its lines do not.

    Args:
        lines: all lines.
        rule: returns the numbers of a contender's rule as it is now.
    """
    lines = list(lines)
    texts = {name: _most([line["data"] for line in lines if line["workload"] == name]) for name in WORKLOADS}
    valid, stale = [], {}
    for line in lines:
        reason = _why_stale(line, texts, rule)
        if reason:
            stale[line["contender"]] = reason
        else:
            valid.append(line)
    return valid, stale


def _why_stale(line, texts, rule):
    name = line["contender"]
    try:
        contender = find(name)
    except ValueError:
        return "there is no such optimizer"
    if line["workload"] not in WORKLOADS:
        return f"there is no workload {line['workload']!r}"
    if line["track"] != "time" and line["settings"] != protocol.settings(contender, line["track"], line["number"]):
        return "its search space has changed"
    if line["steps"] != WORKLOADS[line["workload"]].steps:
        return f"the budget of {line['workload']!r} has changed"
    if line["data"] != texts[line["workload"]]:
        return f"the data of {line['workload']!r} is not that of the other results"
    if not rules.same(line["rule"], rule(name)):
        return "its rule has changed"
    return None


def _most(values):
    return max(set(values), key=values.count) if values else None


class Results:
    """The figures of every contender whose runs are complete.

    Args:
        lines: lines that hold.
        how: the protocol.
        workloads: names of workloads; those on which half of the contenders are complete count.

    Attributes:
        names: the contenders, those with the best score first.
        workloads, held_out: names of the workloads that were tuned on, and of the others.
        shares: the share of the budget until the target, by contender, workload, study and seed; infinite if missed.
    """

    def __init__(self, lines: Iterable[Line], how: protocol.Protocol, workloads: Sequence[str]):
        self.how = how
        self.lines = list(lines)
        self._by: dict[tuple, list[Line]] = {}
        for line in self.lines:
            self._by.setdefault((line["contender"], line["workload"], line["track"]), []).append(line)
        self.targets = {name: self._target(name) for name in workloads}
        usable = [name for name in workloads if self.targets[name] is not None]
        names = [*dict.fromkeys(line["contender"] for line in self.lines if line["track"] == "search")]
        done = {each: [name for name in names if self.complete(name, each)] for each in usable}
        # One new contender that is not complete does not take a workload from the others.
        counted = [each for each in usable if 2 * len(done[each]) >= len(names) > 0]
        self.workloads = [each for each in counted if WORKLOADS[each].settings_of is None]
        self.names = [name for name in names if self.workloads and all(name in done[each] for each in self.workloads)]
        self.held_out = [
            each
            for each in counted
            if each not in self.workloads and how.held_out and set(self.names) <= set(done[each])
        ]
        self.shares = self._shares(self.workloads)
        if self.names:
            scores = score.profile_score(score.time_to_target(self.shares))
            self.names = [self.names[place] for place in np.argsort(-scores, kind="stable")]
            self.shares = self._shares(self.workloads)

    def _target(self, workload):
        try:
            return protocol.target(self.lines, workload)
        except KeyError:
            return None

    def of(self, name: str, workload: str, track: str) -> list[Line]:
        return self._by.get((name, workload, track), [])

    def complete(self, name: str, workload: str) -> bool:
        """Whether the protocol has nothing left to run."""
        source = WORKLOADS[workload].settings_of or workload
        lines = [line for each in {workload, source} for track in _CONTEST for line in self.of(name, each, track)]
        lines += [line for setter in protocol.SETTERS for line in self.of(setter, source, "target-fresh")]
        try:
            return not protocol.next_runs(self.how, lines, workload, find(name))
        except (KeyError, ValueError):
            # There is no target, or no search yet.
            return False

    def studies(self, name: str, workload: str) -> list[list[Line]]:
        """The runs of the chosen points: for each study the lines of all seeds, in their order.

        On a held-out workload every seed has the settings of one study: one list with all of them.
        """
        lines = self._fresh(name, workload)
        if WORKLOADS[workload].settings_of:
            return [lines]
        chosen = protocol.winners(self.how, self._decisive(name, workload), workload, name)
        return [[line for line in lines if line["number"] == number] for number in chosen]

    def tuned(self, name: str, workload: str, way: str) -> list[Line]:
        """The runs from fresh seeds after a way of tuning, one of `WAYS`.

        After all trials it is, of the studies' chosen points, the one with the smallest validation loss at the end.
        """
        if way == "trials":
            chosen = protocol.winners(self.how, self._decisive(name, workload), workload, name)
            trials = [line for line in self.of(name, workload, "search") if line["number"] in chosen]
            best = min(trials, key=lambda line: score.last(line["curve"]))["number"]
            return [line for line in self._fresh(name, workload) if line["number"] == best]
        track = {"defaults": "defaults", "rate": "fresh-rates"}[way]
        return sorted(self.of(name, workload, track), key=lambda line: line["seed"])

    def _fresh(self, name, workload):
        return sorted(self.of(name, workload, "fresh"), key=lambda line: line["seed"])

    def _decisive(self, name, workload):
        """The lines on which the choice of settings depends."""
        targets = [line for setter in protocol.SETTERS for line in self.of(setter, workload, "target-fresh")]
        return [*self.of(name, workload, "search"), *targets]

    def _shares(self, workloads) -> np.ndarray:
        return np.array([[self._reached(name, each) for each in workloads] for name in self.names], float)

    def _reached(self, name, workload):
        target = self.targets[workload]
        return [[score.reached(line["curve"], target) for line in study] for study in self.studies(name, workload)]

    def losses(self, name: str, workload: str, way: str) -> np.ndarray:
        """The losses of the test after a way of tuning, one for each fresh seed; infinite if a run diverged."""
        lines = self.tuned(name, workload, way)
        return np.array([math.inf if line["test"] is None else line["test"] for line in lines])

    def scores(self, costs: np.ndarray | None = None):
        """The score of each contender, its interval, and the interval of its rank.

        Args:
            costs: the time of a step of each contender on each workload; default None: a step costs 1.
        """
        costs = np.ones(self.shares.shape[:2]) if costs is None else costs
        found = score.profile_score(score.time_to_target(self.shares) * costs)
        return found, *score.intervals(self.shares, costs)

    def step_costs(self) -> np.ndarray | None:
        """The time of a step, AdamW's being 1: contenders, workloads. None if it was not measured for all."""
        lines = [[self.of(name, each, "time") for each in self.workloads] for name in self.names]
        if not all(line for row in lines for line in row):
            return None
        return np.array([[line[-1]["seconds"] / line[-1]["seconds_of_adamw"] for line in row] for row in lines])

    def carried_over(self) -> np.ndarray | None:
        """The scores on the held-out workloads alone, with the settings of the workloads that they are like."""
        if not self.held_out:
            return None
        return score.profile_score(score.time_to_target(self._shares(self.held_out)))

    def widths(self, name: str) -> list[float]:
        """For each workload how many decades of learning rates are good."""
        found = []
        for workload in self.workloads:
            rates = {
                line["settings"]["learning_rate"]: score.last(line["curve"])
                for line in self.of(name, workload, "rates")
            }
            found.append(score.width(rates) if rates else math.nan)
        return found

    def bytes_per_parameter(self, name: str) -> float:
        """The bytes of state, on the largest of the models."""
        lines = [self.of(name, workload, "fresh")[0] for workload in self.workloads]
        largest = max(lines, key=lambda line: line["parameters"])
        return largest["state_bytes"] / largest["parameters"]


# How settings were found: not at all; the learning rate alone, the others being defaults; all of them.
WAYS = ("defaults", "rate", "trials")
_CONTEST = ("search", "rates", "defaults", "fresh", "fresh-rates")
