"""The tables of a comparison."""

import numpy as np

from keras_adaptive.compare import score
from keras_adaptive.compare.results import Results
from keras_adaptive.core import tables

REFERENCE = "AdamW"


def table(results: Results) -> tuple[list[str], list[list[str]]]:
    """The head and the lines of the main table, the best score first."""
    scores, limits, ranks = results.scores()
    costs = results.step_costs()
    in_seconds = None if costs is None else results.scores(costs)
    carried = results.carried_over()
    losses = {name: _losses(results, name) for name in results.names}
    head = ["optimizer", "score (steps)", "rank"]
    head += ["score (seconds)", "step time"] if costs is not None else []
    head += ["held out"] if carried is not None else []
    head += [*results.workloads, "good rates", "bytes"]
    lines = []
    for place, name in enumerate(results.names):
        line = [name, _with_limits(scores[place], limits[place]), _span(ranks[place])]
        if costs is not None and in_seconds is not None:
            line += [_with_limits(in_seconds[0][place], in_seconds[1][place]), f"{np.median(costs[place]):.2f}"]
        if carried is not None:
            line.append(f"{carried[place]:.2f}")
        width = np.mean(results.widths(name))
        line += [*losses[name], "" if np.isnan(width) else f"{width:.1f}", f"{results.bytes_per_parameter(name):.2g}"]
        lines.append(line)
    return head, lines


def _with_limits(value, limits):
    return f"{value:.2f} ({limits[0]:.2f} to {limits[1]:.2f})"


def _span(limits):
    low, high = limits
    return f"{low}" if low == high else f"{low} to {high}"


def _losses(results, name):
    """The mean loss of the test on each workload, and whether that is better or worse than AdamW's."""
    found = []
    for workload in results.workloads:
        ours = results.test_losses(name, workload)
        sign = _compared(ours, results.test_losses(REFERENCE, workload)) if REFERENCE in results.names else ""
        found.append(f"{np.median(ours):.3g}{sign}")
    return found


def _compared(ours, theirs):
    """ " -" for a smaller loss than the reference's, " +" for a larger one, " =" for a tie.

    The mean over studies, paired by seed.
    """
    with np.errstate(invalid="ignore"):
        _, low, high = score.difference(np.minimum(ours, 1e6).mean(0), np.minimum(theirs, 1e6).mean(0))
    return " -" if high < 0 else " +" if low > 0 else " ="


def defaults(results: Results) -> tuple[list[str], list[list[str]]]:
    """What each class reaches without any tuning: its own learning rate, constant."""
    head = ["optimizer", *results.workloads]
    lines = [
        [name, *(f"{np.median(results.test_losses(name, each, 'defaults')):.3g}" for each in results.workloads)]
        for name in results.names
    ]
    return head, lines


def notes(results: Results) -> list[str]:
    """What the tables say, and from which runs."""
    lines = results.lines
    dates = sorted({line["date"] for line in lines})
    devices = sorted({line["device"] for line in lines if line["track"] != "time"})
    versions = sorted({" ".join(f"{name} {v}" for name, v in line["versions"].items()) for line in lines})
    seeds, studies = results.shares.shape[-1], results.shares.shape[-2]
    return [
        f"{len(lines):,} runs from {dates[0]} to {dates[-1]} on {', '.join(devices)}; {'; '.join(versions)}.",
        f"Each optimizer was tuned {studies} times with {results.how.points} trials; the results are those of the "
        f"chosen settings on {seeds} fresh seeds. "
        "Score: 1 for the optimizer that is first at the target on every workload, 0 "
        "for one that always needs 4 times as long or misses it; 95 % intervals by bootstrap over seeds and studies.",
        f"Columns of workloads: median loss of the test; -, = and +: smaller than that of {REFERENCE}, a tie, larger "
        "(95 % interval of paired seeds).",
    ]


def text(results: Results, markdown: bool = False) -> str:
    """All tables."""
    parts = []
    for head, lines in (table(results), defaults(results)):
        made = tables.markdown(head, lines) if markdown else tables.columns([head, *lines])
        parts.append("\n".join(made))
    main, untuned = parts
    return "\n".join([main, "", *notes(results), "", "Without tuning (defaults, constant learning rate):", "", untuned])
