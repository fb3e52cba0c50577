"""The tables of a comparison."""

import numpy as np

from keras_adaptive.compare import score
from keras_adaptive.compare.results import WAYS, Results
from keras_adaptive.core import tables

REFERENCE = "AdamW"
HEADS = {"defaults": "loss, defaults", "rate": "loss, 7 rates", "trials": "loss, 15 trials"}

Table = tuple[list[str], list[list[str]]]


def main(results: Results) -> Table:
    """The head and the lines of the table of scores, the best first."""
    scores, limits, ranks = results.scores()
    costs, carried = results.step_costs(), results.carried_over()
    in_seconds = None if costs is None else results.scores(costs)
    ways = [way for way in WAYS if way != "rate" or results.how.rates]
    columns = {
        "optimizer": results.names,
        "score in steps": [_with_limits(*pair) for pair in zip(scores, limits, strict=True)],
        "rank": [_span(*pair) for pair in ranks],
    }
    if in_seconds is not None:
        columns["score in seconds"] = [_with_limits(*pair) for pair in zip(*in_seconds[:2], strict=True)]
    if carried is not None:
        columns["score, held out"] = [f"{value:.2f}" for value in carried]
    columns |= {HEADS[way]: [_relative(results, name, way) for name in results.names] for way in ways}
    if results.how.rates:
        columns["good rates"] = [f"{np.mean(results.widths(name)):.1f}" for name in results.names]
    if costs is not None:
        columns["step time"] = [f"{value:.2f}" for value in np.median(costs, axis=1)]
    columns["bytes"] = [f"{results.bytes_per_parameter(name):.2g}" for name in results.names]
    return list(columns), [list(line) for line in zip(*columns.values(), strict=True)]


def _with_limits(value, limits):
    return f"{value:.2f} ({limits[0]:.2f} to {limits[1]:.2f})"


def _span(low, high):
    return f"{low}" if low == high else f"{low} to {high}"


def _relative(results, name, way):
    """The loss of the test, and whether it differs from AdamW's after the same tuning.

    The geometric mean over the workloads, that of AdamW after all trials being 1.
    """
    if REFERENCE not in results.names:
        return ""
    ours, peers, unit = (_logarithms(results, *of) for of in ((name, way), (REFERENCE, way), (REFERENCE, "trials")))
    value = np.exp(np.mean(ours) - np.mean(unit))
    return (f"{value:.2f}" if value < 100 else "diverges") + _sign(ours, peers)


def _logarithms(results, name, way):
    losses = [results.losses(name, workload, way) for workload in results.workloads]
    return np.log(np.minimum(losses, 1e9))


def _sign(ours, peers):
    """ "-" for a smaller loss than AdamW's, "+" for a larger one, "=" for a tie, by the interval of paired seeds."""
    if ours is peers or np.array_equal(ours, peers):
        return ""
    _, low, high = score.difference(ours, peers)
    return " -" if high < 0 else " +" if low > 0 else " ="


def by_workload(results: Results, way: str) -> Table:
    """The median loss of the test on each workload after a way of tuning."""
    lines = []
    for name in results.names:
        cells = []
        for workload in results.workloads:
            ours, peers = (results.losses(each, workload, way) for each in (name, REFERENCE))
            middle = np.median(ours)
            sign = _sign(*(np.log(np.minimum(each, 1e9))[np.newaxis] for each in (ours, peers)))
            cells.append((f"{middle:.3g}" if np.isfinite(middle) else "diverges") + sign)
        lines.append([name, *cells])
    return ["optimizer", *results.workloads], lines


def by_trials(results: Results) -> Table:
    """The smallest validation loss that so many trials are expected to find, AdamW's after all of them being 1.

    The geometric mean over the workloads. A trial counts as at most ten times AdamW's smallest loss.
    """
    counts = [count for count in (1, 2, 5, 10, 15) if count <= results.how.points * results.how.studies]
    found = {name: [_expected(results, name, workload) for workload in results.workloads] for name in results.names}
    lines = []
    for name in results.names:
        means = np.exp(np.mean(np.log(found[name]), axis=0))
        lines.append([name, *(f"{means[count - 1]:.2f}" for count in counts)])
    return ["optimizer", *(f"{count} trials" if count > 1 else "1 trial" for count in counts)], lines


def _expected(results, name, workload):
    unit = min(score.lowest(line["curve"]) for line in results.of(REFERENCE, workload, "search"))
    losses = [score.lowest(line["curve"]) / unit for line in results.of(name, workload, "search")]
    return score.best_of([min(loss, 10.0) for loss in losses])


def notes(results: Results) -> list[str]:
    """From which runs the tables are, and how to read them."""
    lines = results.lines
    dates = sorted({line["date"] for line in lines})
    devices = sorted({line["device"] for line in lines if line["track"] != "time"})
    versions = sorted({", ".join(f"{name} {v}" for name, v in line["versions"].items()) for line in lines})
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    seeds, studies = results.shares.shape[-1], results.shares.shape[-2]
    times = f", {studies} times over" if studies > 1 else ""
    return [
        f"From {len(lines):,} runs, {when}, on {' and '.join(devices)} ({'; '.join(versions)}).",
        f"Score: settings are the best of {results.how.points} trials{times}; they train from {seeds} fresh seeds. An "
        "optimizer that is the first at the target on every workload has 1. One that takes 4 times as long as the "
        "first, or misses the target, has 0. In parentheses, and for ranks: 95 % intervals by bootstrap. Optimizers "
        "whose ranks overlap are tied.",
        f"Loss: on the test data, over all workloads, relative to {REFERENCE} after all trials; smaller is better. "
        f"- is smaller than {REFERENCE} in the same column, + is larger, = is a tie (95 % interval, paired seeds).",
    ]


def text(results: Results, markdown: bool = False) -> str:
    """All tables."""
    ways = {"trials": "after all trials", "rate": "after 7 learning rates", "defaults": "with the defaults"}
    parts = [_printed(main(results), markdown), *notes(results)]
    for way, words in ways.items():
        if way != "rate" or results.how.rates:
            parts += [f"Median loss of the test {words}:", _printed(by_workload(results, way), markdown)]
    if REFERENCE in results.names:
        said = f"Expected smallest validation loss of k trials, relative to {REFERENCE} after all of them:"
        parts += [said, _printed(by_trials(results), markdown)]
    return "\n\n".join(parts)


def short(results: Results) -> str:
    """The table of scores as the README has it."""
    return "\n\n".join([_printed(main(results), markdown=True), *notes(results)])


def _printed(table, markdown):
    head, lines = table
    return "\n".join(tables.markdown(head, lines) if markdown else tables.columns([head, *lines]))
