"""What the examples leave behind: one line in the terminal and a picture of the learning curves."""

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402
from matplotlib.ticker import MaxNLocator  # noqa: E402


def print_result(**facts):
    """One line of name=value."""
    print(" ".join(f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in facts.items()))


def draw_curves(path, history, title):
    """Loss and accuracy by epoch, for training and test, from what `fit` returns."""
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
        for key, label, colour in ((name, "training", "tab:blue"), (f"val_{name}", "test", "tab:orange")):
            values = history[key]
            epochs = range(1, len(values) + 1)
            axis.plot(epochs, values, color=colour, label=label, marker="o" , markersize=3)
        axis.set(xlabel="epoch", title=name)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    axes[0].set_yscale("log")
    axes[1].legend(loc="lower right")
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
