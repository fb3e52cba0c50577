"""The results as a picture."""

from pathlib import Path

import numpy as np

from keras_adaptive.compare import score
from keras_adaptive.compare.results import Results

# Which optimizers have a line in the panels of workloads; others would hide them.
DRAWN = ("SGD, Nesterov", "AdamW", "Lion", "ScheduleFreeAdamW", "Muon", "Soap")


def draw(path: Path, results: Results) -> None:
    """Draws the scores with their intervals, and for each workload the loss over the number of trials."""
    # A figure without pyplot neither needs nor changes a display.
    from matplotlib.figure import Figure

    rows = -(-len(results.workloads) // 2)
    height = max(1.2 + 2.3 * rows, 1.0 + 0.25 * len(results.names))
    figure = Figure(figsize=(11, height), layout="constrained")
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(1, 1.5))[0]
    _scores(left.subplots(), results)
    panels = right.subplots(rows, 2, squeeze=False).ravel()
    for panel, workload in zip(panels, results.workloads, strict=False):
        _trials(panel, results, workload)
    for panel in panels[len(results.workloads) :]:
        panel.set_visible(False)
    handles = {label: line for panel in panels for line, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    right.legend(handles.values(), handles, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    figure.savefig(path, dpi=110)


def _scores(panel, results):
    found, limits, _ = results.scores()
    places = np.arange(len(results.names))
    panel.barh(places, found, 0.6, color="tab:blue", alpha=0.4)
    panel.hlines(places, limits[:, 0], limits[:, 1], color="tab:blue")
    panel.set_yticks(places, results.names, fontsize=8)
    panel.invert_yaxis()
    panel.set(xlim=(0, 1), xlabel="score on steps, with its 95 % interval")
    panel.set_title("How soon the target is reached", fontsize=9)
    _plain(panel)


def _trials(panel, results, workload):
    """The validation loss that so many trials are expected to find."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for number, name in enumerate(name for name in DRAWN if name in results.names):
        losses = [score.lowest(line["curve"]) for line in results.of(name, workload, "search")]
        expected = score.best_of([min(loss, 1e3) for loss in losses])
        panel.plot(range(1, len(expected) + 1), expected, label=name, color=f"C{number}", linewidth=1.2)
    target = results.targets[workload]
    panel.axhline(target, color="black", linestyle=":", linewidth=1, label="target")
    _, high = panel.get_ylim()
    panel.set(yscale="log", ylim=(None, min(high, 10 * target)))
    # Two or three plain numbers in the place of powers of ten.
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.yaxis.set_minor_formatter(NullFormatter())
    panel.set_title(workload, fontsize=9, loc="left")
    panel.set_xticks([1, *range(5, results.how.points * results.how.studies + 1, 5)])
    panel.set_xlabel("trials of tuning", fontsize=8)
    panel.set_ylabel("validation loss", fontsize=8)
    _plain(panel)


def _plain(panel):
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=8)
