"""What the comparisons of keras_compared.py share: the data, a training, the verdict, and the colours."""

from typing import NamedTuple

import keras
import numpy as np
from lecture_lab import band, batches
from sklearn.datasets import load_digits

import keras_adaptive

LIBRARIES = {"keras": keras.optimizers, "ours": keras_adaptive}
# Keras, a second line of Keras's, ours, and a second line of ours.
THEIRS, THEIRS_TOO, OURS, OURS_TOO = "tab:orange", "tab:gray", "tab:blue", "deepskyblue"
AHEAD, BEHIND, EQUAL = "keras_adaptive ahead", "Keras ahead", "no difference seen"


class Row(NamedTuple):
    """One line of the table: a setting, and a number for each seed."""

    setting: str
    keras: np.ndarray
    ours: np.ndarray


class Comparison:
    """The same training with Keras's optimizer and with ours.

    `title` heads the panel, or stands for a comparison that is in the table alone. `unit` is what the numbers are, and
    `measured` how they come about. A seed gives both the same initial weights and batches; one is ahead if its worst
    seed is better than the other's best by more than `least`: better in each pair alone came out otherwise on another
    backend. `measure(lab)` returns arrays by name; `rows` and `draw` use only these.
    """

    title = unit = measured = ""
    higher_is_better, least, drawn = True, 0.005, True

    def measure(self, lab):
        """The numbers, by name."""
        raise NotImplementedError

    def rows(self, numbers):
        """The lines of the table."""
        raise NotImplementedError

    def draw(self, axis, numbers):
        """The panel of this comparison."""
        raise NotImplementedError

    def judge(self, row):
        """Which of the two is ahead in that row, if any."""
        return verdict(row.keras, row.ours, self.least, self.higher_is_better)

    def printed(self, values):
        """Mean and standard deviation over the seeds."""
        return f"{np.mean(values):.3f} ± {np.std(values):.3f}"


class Difference(Comparison):
    """A comparison in which each optimizer is held to a reference of its own, and 0 is right."""

    higher_is_better, least = False, 1e-3

    def printed(self, values):
        mean, deviation = np.mean(values), np.std(values)
        return "<1e-5" if mean < 1e-5 else f"{mean:.2g} ± {deviation:.2g}"


def verdict(theirs, ours, least, higher_is_better=True):
    """AHEAD, BEHIND or EQUAL, by the worst seed of the one and the best of the other; NaN is worse than any number."""
    sign = 1 if higher_is_better else -1
    theirs, ours = (
        np.nan_to_num(sign * np.asarray(each, "float64"), nan=-1e30, neginf=-1e30) for each in (theirs, ours)
    )
    if ours.min() - theirs.max() > least:
        return AHEAD
    return BEHIND if theirs.min() - ours.max() > least else EQUAL


def digits(*shape):
    """The digits in that shape, as 1408 to learn from and 384 to test."""
    images, labels = load_digits(return_X_y=True)
    images, labels = (images / 16).astype("float32").reshape(-1, *(shape or (64,))), labels.astype("int32")
    order = np.random.default_rng(0).permutation(1792)
    return [(images[some], labels[some]) for some in np.split(order, [1408])]


def outputs(model, inputs):
    """What the model says of these inputs, in float32."""
    return keras.ops.convert_to_numpy(model(inputs, training=False)).astype("float32")


def tested(model, inputs, labels):
    """The test accuracy; that of outputs that are not a number is chance."""
    return float(np.mean(np.argmax(outputs(model, inputs), axis=-1) == labels))


def epochs(step, seed, size, count, data, rate=None):
    """Trains from the initial weights of that seed; returns the test accuracy after each of the epochs."""
    step.restart(seed)
    if rate is not None:
        step.optimizer.learning_rate = rate
    training, test = data
    whole, found = len(training[0]) // size, []
    for i, batch in enumerate(batches(size, count * whole, seed, *training), start=1):
        step(*batch)
        if i % whole == 0:
            found.append(tested(step.model, *test))
    return found


def flat(model):
    """The weights in one float64 vector."""
    return np.concatenate([weights.astype("float64").ravel() for weights in model.get_weights()])


def curve(axis, x, values, label, colour, line="-"):
    """The mean over the seeds as a line, and the range of all seeds as a band."""
    style = {"marker": "o", "markersize": 3} if len(x) < 20 else {"linewidth": 1.2}
    band(axis, x, np.asarray(values), label, color=colour, linestyle=line, **style)


def finish(axis, corner, **labels):
    """The names of the curves in their colours, in an empty corner of the panel, and the labels of the axes."""
    axis.legend(loc=corner, labelcolor="linecolor", frameon=False, fontsize="small", handlelength=1.5)
    axis.set(**labels)
