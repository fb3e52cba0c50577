"""The figures as a bar chart."""

from pathlib import Path


def draw(path: Path, title: str, rows, quantity: str, unit: str) -> None:
    """Draws a panel for each workload, with the quantity for our optimizers and for their peers.

    Args:
        path: the file to write, in a format of matplotlib.
        title: the machine.
        rows: the measurements.
        quantity: the attribute of the rows that is drawn, where it is not None.
        unit: the label under it.
    """
    # A figure without pyplot neither needs nor changes a display.
    from matplotlib.figure import Figure

    rows = [row for row in rows if getattr(row, quantity) is not None]
    workloads = list(dict.fromkeys(row.workload for row in rows))
    optimizers = list(dict.fromkeys(row.optimizer for row in rows))
    # A variant is compared with another row of ours.
    makers = list(dict.fromkeys(row.by for row in rows if row.by not in optimizers))
    height = 1.2 + max(len(workloads), 1) * (0.7 + 0.2 * len(optimizers) * len(makers))
    figure = Figure(figsize=(9, height), layout="constrained")
    panels = figure.subplots(max(len(workloads), 1), 1, squeeze=False)[:, 0]
    for panel, workload in zip(panels, workloads, strict=False):
        for number, maker in enumerate(makers):
            found = {row.optimizer: row for row in rows if (row.workload, row.by) == (workload, maker)}
            places = [optimizers.index(name) + 0.8 * (number + 0.5) / len(makers) - 0.4 for name in found]
            lengths = [getattr(row, quantity) for row in found.values()]
            bars = panel.barh(places, lengths, 0.75 / len(makers), label=maker, color=f"C{number}")
            panel.bar_label(bars, [f"{length:.3g}" for length in lengths], padding=2, fontsize=7)
        panel.set_title(workload, loc="left", fontsize=9)
        panel.set_yticks(range(len(optimizers)), optimizers, fontsize=8)
        panel.invert_yaxis()
        panel.spines[["top", "right"]].set_visible(False)
        panel.margins(x=0.15)
        panel.tick_params(axis="x", labelsize=8)
    panels[-1].set_xlabel(unit, fontsize=8)
    pairs = [pair for panel in panels for pair in zip(*panel.get_legend_handles_labels(), strict=True)]
    by_label = {label: handle for handle, label in pairs}
    figure.legend(by_label.values(), by_label, loc="outside lower right", ncols=len(by_label) or 1, fontsize=8)
    figure.suptitle(title, fontsize=7, x=0.01, ha="left")
    figure.savefig(path, dpi=150)
