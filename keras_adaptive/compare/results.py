"""The lines of all runs as arrays: who reached what, and when."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from keras_adaptive.compare import lines as files
from keras_adaptive.compare import protocol, rules, score
from keras_adaptive.compare.contenders import find
from keras_adaptive.compare.workloads import WORKLOADS

Line = dict[str, Any]


def current(
    lines: Iterable[Line], rule: Callable[[str], list[float]] | None = None
) -> tuple[list[Line], dict[str, str]]:
    """The lines that still hold, and for each contender with other lines why these do not.

    Args:
        lines: all lines.
        rule: returns the numbers of a contender's rule as it is now. Default None: `rules.now`.
    """
    lines = list(lines)
    data = {name: _most([line["data"] for line in lines if line["workload"] == name]) for name in WORKLOADS}
    valid, stale = [], {}
    for line in lines:
        reason = _why_stale(line, data, rule or rules.now)
        if reason:
            stale[line["contender"]] = reason
        else:
            valid.append(line)
    return valid, stale


def _why_stale(line, data, rule):
    name, workload = line["contender"], line["workload"]
    try:
        contender = find(name)
    except ValueError:
        return "there is no such optimizer"
    if workload not in WORKLOADS:
        return f"there is no workload {workload!r}"
    if line["track"] != "time" and line["settings"] != protocol.settings(contender, line["track"], line["number"]):
        return "its search space has changed"
    if line["setup"] != WORKLOADS[workload].setup:
        return f"the model, the batches or the budget of {workload!r} have changed"
    if line["data"] != data[workload]:
        return f"the data of {workload!r} is not that of the other results"
    if not rules.same(line["rule"], rule(name)):
        return "its rule has changed"
    return None


def _most(values):
    return max(set(values), key=values.count) if values else None


# How settings were found: not at all; the learning rate alone, the others being defaults; all of them.
WAYS = ("defaults", "rate", "trials")


class Results:
    """The figures of every contender whose runs are complete.

    Args:
        lines: lines that hold.
        how: the protocol.
        workloads: names of workloads; those on which half of the contenders are complete count.

    Attributes:
        names: the contenders that are complete on all workloads that count, those with the best score first.
        left_out: for each other contender the workloads on which it is not complete.
        workloads, held_out: names of the workloads that were tuned on, and of the others.
        targets: the validation loss to reach on each workload, None if it is not known.
        shares: the share of the budget until the target, by contender, workload, study and seed; infinite if missed.
    """

    def __init__(self, lines: Iterable[Line], how: protocol.Protocol, workloads: Sequence[str]):
        self.how = how
        self.lines = list(lines)
        self._by_key = {files.key(line): line for line in self.lines}
        self._by_track: dict[tuple, list[Line]] = {}
        for line in self.lines:
            self._by_track.setdefault((line["contender"], line["workload"], line["track"]), []).append(line)
        self.targets = {name: self._target(name) for name in workloads}
        usable = [name for name in workloads if self.targets[name] is not None]
        names = [*dict.fromkeys(line["contender"] for line in self.lines if line["track"] == "search")]
        self._done = {each: {name for name in names if self._complete(name, each)} for each in usable}
        # One new contender that is not complete does not take a workload from the others.
        counted = [each for each in usable if names and len(self._done[each]) >= len(names) / 2]
        self.workloads = [each for each in counted if WORKLOADS[each].settings_of is None]
        missing = {name: [each for each in self.workloads if name not in self._done[each]] for name in names}
        self.left_out = {name: where for name, where in missing.items() if where}
        self.names = [name for name in names if self.workloads and not missing[name]]
        self.held_out = [each for each in counted if each not in self.workloads] if self.names else []
        self.shares = self._shares(self.names, self.workloads)
        if self.names:
            scores = list(zip(self.scores()[0], self.best_scores(), strict=True))
            order = sorted(range(len(self.names)), key=lambda place: scores[place], reverse=True)
            self.names = [self.names[place] for place in order]
            self.shares = self.shares[order]

    def _target(self, workload):
        try:
            return protocol.target(self.lines, workload)
        except protocol.Incomplete:
            return None

    def of(self, name: str, workload: str, track: str) -> list[Line]:
        """The lines of a track, by their number and seed."""
        found = self._by_track.get((name, workload, track), [])
        return sorted(found, key=lambda line: (line["number"], line["seed"]))

    def _decisive(self, name, workload):
        """All lines on which the choice of a contender's settings depends, and its own."""
        source = WORKLOADS[workload].settings_of or workload
        targets = [line for setter in protocol.SETTERS for line in self.of(setter, source, "target-fresh")]
        tracks = ("search", "rates", "defaults", "fresh", "fresh-rates")
        return targets + [
            line for each in {workload, source} for track in tracks for line in self.of(name, each, track)
        ]

    def _complete(self, name, workload):
        try:
            return not protocol.next_runs(self.how, self._decisive(name, workload), workload, find(name))
        except protocol.Incomplete:
            return False

    def chosen(self, name: str, workload: str, track: str = "fresh") -> list[Line]:
        """The lines of the chosen settings from fresh seeds, study after study."""
        runs = protocol.chosen_runs(self.how, self._decisive(name, workload), workload, name)
        return [self._by_key[files.key(run)] for run in runs if run.track == track]

    def studies(self, name: str, workload: str) -> list[list[Line]]:
        """For each study the lines of all seeds; on a held-out workload one list, as seeds have the studies in turn."""
        lines = self.chosen(name, workload)
        size = len(lines) if WORKLOADS[workload].settings_of else self.how.fresh
        return [lines[start : start + size] for start in range(0, len(lines), size)]

    def tuned(self, name: str, workload: str, way: str) -> list[Line]:
        """The runs from fresh seeds after a way of tuning, one of `WAYS`.

        After all trials it is, of the studies' chosen points, the one with the smallest validation loss at the end.
        """
        if way == "defaults":
            return self.of(name, workload, "defaults")
        if way == "rate":
            return self.chosen(name, workload, "fresh-rates")
        trials = {line["number"]: line for line in self.of(name, workload, "search")}
        return min(self.studies(name, workload), key=lambda study: score.last(trials[study[0]["number"]]["curve"]))

    def _shares(self, names, workloads) -> np.ndarray:
        return np.array(
            [[self._reached(self.studies(name, each), each) for each in workloads] for name in names], float
        )

    def _reached(self, studies, workload):
        return [[score.reached(line["curve"], self.targets[workload]) for line in study] for study in studies]

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

    def best_times(self) -> np.ndarray:
        """The share of the budget until the target, of the best study: contenders, workloads."""
        return np.sort(score.middle(self.shares, -1), axis=-1)[..., 0]

    def best_scores(self) -> np.ndarray:
        """The score of each contender with the best of all its trials."""
        return score.profile_score(self.best_times())

    def step_costs(self) -> np.ndarray:
        """The time of a step, AdamW's being 1: contenders, workloads. NaN where it was not measured."""
        lines = [[self.of(name, each, "time") for each in self.workloads] for name in self.names]
        costs = [[_cost(line[-1]) if line else math.nan for line in row] for row in lines]
        return np.array(costs, float).reshape(len(self.names), len(self.workloads))

    def carried_over(self) -> dict[str, float]:
        """The scores on the held-out workloads alone, with the settings of the workloads that they are like."""
        names = [name for name in self.names if all(name in self._done[each] for each in self.held_out)]
        if not (names and self.held_out):
            return {}
        found = score.profile_score(score.time_to_target(self._shares(names, self.held_out)))
        return dict(zip(names, found, strict=True))

    def widths(self, name: str) -> list[float]:
        """For each workload how many decades of learning rates are good."""
        found = []
        for workload in self.workloads:
            lines = self.of(name, workload, "rates")
            found.append(score.width({line["settings"]["learning_rate"]: score.last(line["curve"]) for line in lines}))
        return found

    def bytes_per_parameter(self, name: str, workload: str) -> float:
        """The bytes of state on a workload."""
        line = self.chosen(name, workload)[0]
        return line["state_bytes"] / line["parameters"]


def _cost(line):
    return line["seconds"] / line["seconds_of_adamw"]
