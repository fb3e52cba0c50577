"""The tables of a comparison."""

import math
from collections.abc import Sequence

import numpy as np

from keras_adaptive.compare import score
from keras_adaptive.compare.results import WAYS, Results
from keras_adaptive.core import tables

REFERENCE = "AdamW"
# The workload on which bytes of state are shown: a model whose matrices are of common shapes.
OF_BYTES = "text"
# A loss counts as at most so many times that of AdamW: a run that diverged has no number.
MOST = 10.0
# Those that the README shows: the best known ones, whatever their score.
WELL_KNOWN = ("Shampoo", "Soap", "ScheduleFreeAdamW", "Muon", "AdamW", "Adam", "Lion", "SGD, momentum")
# With fewer seeds the permutation test cannot tell any difference from chance.
SEEDS_FOR_SIGNS = 6

Table = tuple[list[str], list[list[str]]]


def main(results: Results) -> Table:
    """The head and the lines of the table of scores, the best first."""
    names, trials = results.names, results.how.points
    scores, limits, ranks = results.scores()
    columns = {
        "optimizer": names,
        f"score, {trials} trials": [_with_limits(*pair) for pair in zip(scores, limits, strict=True)],
        "rank": [_span(*pair) for pair in ranks],
    }
    if results.how.studies > 1:
        columns[f"score, {trials * results.how.studies} trials"] = [f"{value:.2f}" for value in results.best_scores()]
    costs = results.step_costs()
    measured = ~np.isnan(costs).any(axis=1)
    if measured.any():
        columns["score in seconds"] = _in_seconds(results, costs, measured)
    if carried := results.carried_over():
        columns["score, held out"] = [f"{carried[name]:.2f}" if name in carried else "" for name in names]
    for way in _ways(results):
        columns[f"loss, {_amount(results, way)}"] = _relative(results, way)
    if results.how.rates:
        columns["good rates"] = [f"{np.mean(results.widths(name)):.1f}" for name in names]
    if measured.any():
        middles = np.median(costs, axis=1)
        columns["step time"] = [f"{value:.2f}" if one else "" for value, one in zip(middles, measured, strict=True)]
    shown = OF_BYTES if OF_BYTES in results.workloads else results.workloads[0]
    columns["bytes"] = [f"{results.bytes_per_parameter(name, shown):.2g}" for name in names]
    return list(columns), [list(line) for line in zip(*columns.values(), strict=True)]


def _ways(results):
    return [way for way in WAYS if way != "rate" or results.how.rates]


def _amount(results, way):
    trials = results.how.points * results.how.studies
    return {"defaults": "defaults", "rate": f"{results.how.rates} rates", "trials": f"{trials} trials"}[way]


def _with_limits(value, limits):
    return f"{value:.2f} ({limits[0]:.2f} to {limits[1]:.2f})"


def _span(low, high):
    return f"{low}" if low == high else f"{low} to {high}"


def _in_seconds(results, costs, measured):
    """The scores in seconds, among those whose steps were timed."""
    shares, costs = results.shares[measured], costs[measured]
    found = score.profile_score(score.time_to_target(shares) * costs)
    limits, _ = score.intervals(shares, costs)
    texts = iter([_with_limits(*pair) for pair in zip(found, limits, strict=True)])
    return [next(texts) if one else "" for one in measured]


def _relative(results, way):
    """The losses of the test, AdamW's after all trials being 1: the geometric mean over workloads of the medians."""
    if REFERENCE not in results.names:
        return [""] * len(results.names)
    signs = _signs(results, way, results.workloads)
    units = [np.median(results.losses(REFERENCE, each, "trials")) for each in results.workloads]
    cells = []
    for name in results.names:
        medians = [np.median(results.losses(name, each, way)) for each in results.workloads]
        value = np.exp(np.mean(np.log(np.minimum(np.divide(medians, units), MOST))))
        cells.append(f"{value:.2f}{signs[name]}")
    return cells


def _signs(results, way, workloads: Sequence[str]) -> dict[str, str]:
    """ " -" for a smaller loss than AdamW's, " +" for a larger one, " =" for a tie, "" for AdamW itself.

    By the permutation test of paired seeds, with Holm's correction for the number of optimizers.
    """
    if REFERENCE not in results.names or results.how.fresh < SEEDS_FOR_SIGNS:
        return dict.fromkeys(results.names, "")
    differences = {
        name: np.mean([_logarithms(results, name, each, way) for each in workloads], axis=0)
        for name in results.names
        if name != REFERENCE
    }
    sure = score.significant({name: score.p_value(found) for name, found in differences.items()})
    ways = {name: " -" if found.mean() < 0 else " +" for name, found in differences.items()}
    return {REFERENCE: "", **{name: way if name in sure else " =" for name, way in ways.items()}}


def _logarithms(results, name, workload, way):
    """The logarithm of the loss relative to AdamW's from the same seed."""
    ratios = results.losses(name, workload, way) / np.median(results.losses(REFERENCE, workload, way))
    peers = results.losses(REFERENCE, workload, way) / np.median(results.losses(REFERENCE, workload, way))
    return np.log(np.minimum(ratios, MOST)) - np.log(np.minimum(peers, MOST))


def by_workload(results: Results, way: str) -> Table:
    """The median loss of the test on each workload after a way of tuning, and how many runs diverged."""
    columns = {"optimizer": results.names}
    for workload in results.workloads:
        signs = _signs(results, way, [workload])
        columns[workload] = [_loss(results.losses(name, workload, way)) + signs[name] for name in results.names]
    return list(columns), [list(line) for line in zip(*columns.values(), strict=True)]


def _loss(losses):
    lost = int(np.isinf(losses).sum())
    text = f"{np.median(losses):.3g}" if np.isfinite(np.median(losses)) else "none"
    return text + (f" ({lost} diverged)" if lost else "")


def times(results: Results) -> Table:
    """The percentage of the budget until the target with the best of all trials, and how many trials reach it."""
    best = results.best_times()
    lines = []
    for name, row in zip(results.names, best, strict=True):
        cells = [
            _percent(value, *_hits(results, name, each)) for value, each in zip(row, results.workloads, strict=True)
        ]
        lines.append([name, *cells])
    return ["optimizer", *results.workloads], lines


def _hits(results, name, workload):
    reached = [score.reached(line["curve"], results.targets[workload]) for line in results.of(name, workload, "search")]
    return int(np.isfinite(reached).sum()), len(reached)


def _percent(share, hits, trials):
    return (f"{100 * share:.0f} %" if math.isfinite(share) else "never") + f" ({hits} of {trials})"


def by_trials(results: Results) -> Table:
    """The smallest validation loss that so many trials are expected to find, AdamW's after all of them being 1."""
    counts = [count for count in (1, 2, 5, 10, 15) if count <= results.how.points * results.how.studies]
    lines = []
    for name in results.names:
        expected = [expected_best(results, name, workload) for workload in results.workloads]
        means = np.exp(np.mean(np.log(expected), axis=0))
        lines.append([name, *(f"{means[count - 1]:.2f}" for count in counts)])
    return ["optimizer", *(f"{count} trials" if count > 1 else "1 trial" for count in counts)], lines


def expected_best(results: Results, name: str, workload: str) -> np.ndarray:
    """The expected smallest validation loss of k trials, for every k, in units of AdamW's smallest."""
    unit = min(score.lowest(line["curve"]) for line in results.of(REFERENCE, workload, "search"))
    losses = [score.lowest(line["curve"]) / unit for line in results.of(name, workload, "search")]
    return score.best_of([min(loss, MOST) for loss in losses])


def _shown(results):
    """The lines that the tables are from."""
    places = {*results.workloads, *results.held_out}
    setters = ("target", "target-fresh")
    return [
        line
        for line in results.lines
        if line["workload"] in places and (line["contender"] in results.names or line["track"] in setters)
    ]


def notes(results: Results) -> list[str]:
    """From which runs the tables are, and how to read them."""
    shown = _shown(results)
    runs = [line for line in shown if line["track"] != "time"]
    dates = sorted({line["date"] for line in shown})
    devices = sorted({line["device"] for line in runs})
    # Without a column of step times nothing is said about them.
    has_times = not np.isnan(results.step_costs()).any(axis=1).all()
    clocks = sorted({line["device"] for line in shown if line["track"] == "time"}) if has_times else []
    versions = sorted({", ".join(f"{name} {v}" for name, v in line["versions"].items()) for line in runs})
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    seeds, studies = results.how.fresh, results.how.studies
    times_over = f", {studies} times over" if studies > 1 else ""
    signs = (
        f" - is smaller than {REFERENCE}'s in the same column, + is larger, = is a tie, by a permutation test of "
        "paired seeds with Holm's correction. The test covers seeds, not luck in tuning."
        if seeds >= SEEDS_FOR_SIGNS
        else ""
    )
    timed_columns = f"Step time: {REFERENCE}'s is 1. " if clocks else ""
    timed = f" Step times were measured on {' and '.join(clocks)}, one core." if clocks else ""
    return [
        f"From {len(runs):,} runs, {when}, on {' and '.join(devices)} ({'; '.join(versions)}).{timed}",
        f"Score: each optimizer has {results.how.points} trials{times_over}; the best setting trains again from "
        f"{seeds} fresh seeds. 1 is the fastest to the target loss on every problem; 0 is 4 times slower than the "
        "fastest, or never. In parentheses, and for ranks: 95 % intervals by bootstrap over seeds and studies, for "
        "these problems. Optimizers whose ranks overlap are tied.",
        f"Loss: on the test data, over all problems, divided by that of {REFERENCE} after all trials; smaller is "
        f"better. The settings are those that reached the target fastest.{signs}",
        f"Good rates: decades of learning rates within 5 % of the smallest loss. {timed_columns}Bytes: of state per "
        f"parameter, on {OF_BYTES if OF_BYTES in results.workloads else results.workloads[0]}.",
    ]


def text(results: Results, markdown: bool = False) -> str:
    """All tables."""
    parts = [_printed(main(results), markdown), *notes(results)]
    parts += ["Share of the budget until the target, with the best of all trials, and how many trials reach it:"]
    parts += [_printed(times(results), markdown)]
    for way in reversed(_ways(results)):
        parts += [f"Median loss of the test, {_amount(results, way)}:", _printed(by_workload(results, way), markdown)]
    if REFERENCE in results.names:
        parts += [f"Expected smallest validation loss of k trials, {REFERENCE}'s after all of them being 1:"]
        parts += [_printed(by_trials(results), markdown)]
    return "\n\n".join(parts)


def short(results: Results) -> str:
    """The table of scores as the README has it: the well-known optimizers, fewer columns and one note."""
    head, lines = main(results)
    places = [0, 1, *(place for place, name in enumerate(head) if name.startswith(("loss", "step time", "bytes")))]
    chosen = [line for line in lines if line[0] in WELL_KNOWN]
    table = [head[place] for place in places], [[line[place] for place in places] for line in chosen]
    runs = sum(line["track"] != "time" for line in _shown(results))
    time = f"Step time: {REFERENCE}'s is 1. " if "step time" in head else ""
    how = (
        f"From {runs:,} runs. Score: the best of {results.how.points} trials trains again from {results.how.fresh} new "
        "seeds; 1 is the fastest to the target loss on every problem, 0 is four times slower or never; in parentheses "
        f"a 95 % interval. Loss: on the test data, divided by {REFERENCE}'s after all trials, so smaller is better; - "
        f"is smaller than {REFERENCE}'s in the same column, + is larger, = differs by no more than chance. "
        f"{time}Bytes: of state per parameter."
    )
    return f"{_printed(table, markdown=True)}\n\n{how}"


def _printed(table, markdown):
    head, lines = table
    return "\n".join(tables.markdown(head, lines) if markdown else tables.columns([head, *lines]))
