"""The results of the examples: one line in the terminal and a picture of the learning curves."""

import contextlib

import keras
import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.ticker import MaxNLocator


def print_result(optimizer, devices, seconds, **facts):
    """One line of name=value: the optimizer, the devices, the time and the results of a training."""
    found = where(devices) | {"steps": int(optimizer.iterations.numpy()), "seconds": f"{seconds:.1f}"}
    print_facts({"optimizer": type(optimizer).__name__} | found | facts)


def where(devices):
    """The backend, and the devices that `strategies.start` found."""
    return {"backend": keras.backend.backend(), "strategy": devices.strategy, "replicas": devices.replicas}


def print_facts(facts):
    """One line of name=value."""
    print(" ".join(f"{name}={value}" for name, value in facts.items()))


@contextlib.contextmanager
def picture(path, title, panels=1, size=None):
    """A figure with a row of panels to draw in; it is saved at the end."""
    size = size or (5 * panels, 4)
    figure, axes = pyplot.subplots(1, panels, figsize=size, layout="constrained", squeeze=False)
    yield axes[0]
    for axis in axes[0]:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(which="both", alpha=0.25)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def draw_curves(path, history, title, names=("loss", "accuracy")):
    """Draws each metric of a history of `fit` by epoch, in training and, if it was measured, in the test."""
    lines = {}
    for name in names:
        test = {"test": history[f"val_{name}"]} if f"val_{name}" in history else {}
        lines[name.replace("_", " ")] = {"training": history[name], **test}
    draw_lines(path, lines, title)


def draw_lines(path, lines, title):
    """A panel for each name, with its lines by epoch; a loss on a logarithmic scale."""
    with picture(path, title, panels=len(lines)) as axes:
        for axis, (name, labelled) in zip(axes, lines.items(), strict=True):
            for (label, values), colour in zip(labelled.items(), ("tab:blue", "tab:orange", "tab:green"), strict=False):
                axis.plot(range(1, len(values) + 1), values, color=colour, label=label, marker="o", markersize=3)
            axis.set(xlabel="epoch", title=name)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            if "loss" in name:
                axis.set_yscale("log")
            if "per second" in name:
                axis.set_ylim(bottom=0)
        axes[1].legend(loc="lower right", frameon=False)
