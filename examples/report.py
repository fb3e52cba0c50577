"""What the examples leave behind: one line in the terminal and a picture of the learning curves."""

import contextlib

import keras
import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.ticker import MaxNLocator


def print_result(optimizer, devices, seconds, **facts):
    """One line of name=value: with what, where and how long it was trained, and what came of it."""
    found = where(devices) | {"steps": int(optimizer.iterations.numpy()), "seconds": f"{seconds:.1f}"}
    print_facts({"optimizer": type(optimizer).__name__} | found | facts)


def where(devices):
    """The backend, and the devices that `strategies.start` found."""
    return {"backend": keras.backend.backend(), "strategy": devices.strategy, "replicas": devices.replicas}


def print_facts(facts):
    """One line of name=value."""
    print(" ".join(f"{name}={value}" for name, value in facts.items()))


@contextlib.contextmanager
def picture(path, title, panels=1, size=(10, 4)):
    """A figure of some panels in a row, to draw in; it is saved at the end."""
    figure, axes = pyplot.subplots(1, panels, figsize=size, layout="constrained", squeeze=False)
    yield axes[0]
    for axis in axes[0]:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(which="both", alpha=0.25)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def draw_curves(path, history, title):
    """Loss and accuracy by epoch, in training and in the test, from what `fit` returns."""
    with picture(path, title, panels=2) as axes:
        for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
            for key, label, colour in ((name, "training", "tab:blue"), (f"val_{name}", "test", "tab:orange")):
                epochs = range(1, len(history[key]) + 1)
                axis.plot(epochs, history[key], color=colour, label=label, marker="o", markersize=3)
            axis.set(xlabel="epoch", title=name)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes[0].set_yscale("log")
        axes[1].legend(loc="lower right", frameon=False)
