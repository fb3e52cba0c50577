"""Which runs there are: what tuning sees, how a point is chosen, and what is reported.

Tuning uses the validation data and the seeds in `TUNING`. Reports use the test data, the workloads that nothing was
tuned on, and the seeds in `FRESH`.
"""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from keras_adaptive.compare import lines as results
from keras_adaptive.compare import points, score
from keras_adaptive.compare.contenders import SETTERS, Contender
from keras_adaptive.compare.workloads import WORKLOADS

# The seeds of initial weights and of the order of the data.
TUNING = {"search": (1, 2, 3), "rates": (4,), "target": (5,)}
FRESH = {"target-fresh": tuple(range(100, 110)), "fresh": tuple(range(1000, 1010))}
FRESH["defaults"] = FRESH["fresh-rates"] = FRESH["fresh"]

Line = Mapping[str, Any]


class Incomplete(Exception):
    """Results are missing on which a choice depends."""


@dataclass(frozen=True)
class Protocol:
    """How many runs of each kind there are.

    Attributes:
        studies: independent searches.
        points: trials of a study.
        rates: learning rates, half a decade apart, with the other settings at their defaults.
        fresh: fresh seeds.
        held_out: fresh seeds of a held-out workload.
        targets: trials of each optimizer that sets the targets.
    """

    studies: int = 3
    points: int = 5
    rates: int = 7
    fresh: int = 10
    held_out: int = 5
    targets: int = 60


FULL = Protocol()
# One study. The targets are those of the full protocol.
MINI = Protocol(studies=1, rates=0, fresh=3, held_out=0)


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        workload, contender: their names.
        track: "search", "rates" or "target" for tuning; "defaults", "fresh", "fresh-rates" or "target-fresh" for the
            results of what was chosen.
        number: of the point on its track, or of the point that was chosen there.
        seed: of the initial weights and the order of the data.
    """

    workload: str
    contender: str
    track: str
    number: int
    seed: int

    @property
    def reads_test(self) -> bool:
        return self.track in ("fresh", "fresh-rates", "defaults")


def settings(contender: Contender, track: str, number: int) -> dict[str, float]:
    """The learning rate and the other tuned settings of a run, and `horizon` (see `schedule.rates`)."""
    names = ("learning_rate", *contender.axes)
    if track == "defaults":
        return {name: contender.default(name) for name in names}
    steady = {"horizon": 0.0} if contender.constant else {}
    if track.endswith("rates"):
        middle = contender.learning_rate or contender.default("learning_rate")
        peak = float(f"{middle * 10 ** ((number - 3) / 2):.4g}")
        others = {name: contender.default(name) for name in contender.axes}
        return {"learning_rate": peak, **others, "horizon": 0.0 if contender.constant else 1.0}
    sequence = "targets of " if track.startswith("target") else ""
    count = FULL.targets if sequence else FULL.studies * FULL.points
    place = points.of(sequence + contender.name, count)[number]
    return {name: axis.at(x) for (name, axis), x in zip(contender.space.items(), place, strict=False)} | steady


def search(protocol: Protocol, workload: str, contender: Contender) -> list[Run]:
    """The runs that tune a contender. No other run influences the choice of its settings."""
    name = contender.name
    studies = range(protocol.studies)
    trials = [
        Run(workload, name, "search", FULL.points * study + point, TUNING["search"][study])
        for study in studies
        for point in range(protocol.points)
    ]
    return trials + [Run(workload, name, "rates", number, TUNING["rates"][0]) for number in range(protocol.rates)]


def next_runs(protocol: Protocol, lines: Iterable[Line], workload: str, contender: Contender) -> list[Run]:
    """What a contender has yet to run on a workload, as far as the results so far decide it.

    Raises:
        Incomplete: results are missing on which it depends: the target, or for a held-out workload the trials.
    """
    lines = list(lines)
    done = {results.key(line) for line in lines}
    if WORKLOADS[workload].settings_of is None:
        defaults = [Run(workload, contender.name, "defaults", 0, seed) for seed in FRESH["fresh"][: protocol.fresh]]
        first = [*search(protocol, workload, contender), *defaults]
        if missing := [run for run in first if results.key(run) not in done]:
            return missing
    return [run for run in chosen_runs(protocol, lines, workload, contender.name) if results.key(run) not in done]


def chosen_runs(protocol: Protocol, lines: Iterable[Line], workload: str, contender: str) -> list[Run]:
    """The runs of the chosen settings from fresh seeds.

    Raises:
        Incomplete: results are missing on which the choice depends.
    """
    lines = list(lines)
    source = WORKLOADS[workload].settings_of
    chosen = winners(protocol, lines, source or workload, contender)
    if source:
        # Each seed with the settings of one study, in turn.
        seeds = FRESH["fresh"][: protocol.held_out]
        return [Run(workload, contender, "fresh", chosen[n % len(chosen)], seed) for n, seed in enumerate(seeds)]
    seeds = FRESH["fresh"][: protocol.fresh]
    runs = [Run(workload, contender, "fresh", number, seed) for number in chosen for seed in seeds]
    if protocol.rates:
        number = best_rate(protocol, lines, workload, contender)
        runs += [Run(workload, contender, "fresh-rates", number, seed) for seed in seeds]
    return runs


def winners(protocol: Protocol, lines: Iterable[Line], workload: str, contender: str) -> list[int]:
    """The chosen point of each study: the first to reach the target, or else the one with the smallest loss.

    Raises:
        Incomplete: trials are missing, or the runs that set the target.
    """
    lines = list(lines)
    limit = target(lines, workload)
    trials = {line["number"]: line for line in lines if _is(line, workload, contender, "search")}
    chosen = []
    for study in range(protocol.studies):
        numbers = range(FULL.points * study, FULL.points * study + protocol.points)
        if not trials.keys() >= set(numbers):
            raise Incomplete(f"{contender!r} has trials on {workload!r} to run")
        chosen.append(min(numbers, key=lambda number: score.merit(trials[number]["curve"], limit)))
    return chosen


def best_rate(protocol: Protocol, lines: Iterable[Line], workload: str, contender: str) -> int:
    """The learning rate whose run ends with the smallest loss.

    Raises:
        Incomplete: runs of learning rates are missing.
    """
    trials = {line["number"]: line for line in lines if _is(line, workload, contender, "rates")}
    if not trials.keys() >= set(range(protocol.rates)):
        raise Incomplete(f"{contender!r} has learning rates on {workload!r} to run")
    return min(range(protocol.rates), key=lambda number: score.last(trials[number]["curve"]))


def next_target_runs(protocol: Protocol, lines: Iterable[Line], workload: str, contender: Contender) -> list[Run]:
    """What an optimizer that sets targets has yet to run on a workload."""
    lines = list(lines)
    done = {results.key(line) for line in lines}
    source = WORKLOADS[workload].settings_of or workload
    name, seed = contender.name, TUNING["target"][0]
    trials = [Run(source, name, "target", number, seed) for number in range(protocol.targets)]
    if missing := [run for run in trials if results.key(run) not in done]:
        return missing
    best = min(
        (line for line in lines if _is(line, source, name, "target")), key=lambda line: score.lowest(line["curve"])
    )
    runs = [Run(workload, name, "target-fresh", best["number"], seed) for seed in FRESH["target-fresh"]]
    return [run for run in runs if results.key(run) not in done]


def target(lines: Iterable[Line], workload: str) -> float:
    """The validation loss to reach: nine of ten fresh runs of the best optimizer of `SETTERS` reach it.

    Raises:
        Incomplete: runs that set it are missing.
    """
    lowest = []
    lines = list(lines)
    for name in SETTERS:
        values = [score.lowest(line["curve"]) for line in lines if _is(line, workload, name, "target-fresh")]
        if len(values) < len(FRESH["target-fresh"]):
            raise Incomplete(f"the target of {workload!r} needs the runs of {name!r}")
        lowest.append(sorted(values))
    return min(lowest, key=statistics.median)[8]


def _is(line, workload, contender, track):
    return (line["workload"], line["contender"], line["track"]) == (workload, contender, track)
