"""What the comparisons of keras_compared.py share: the data, a training, the verdict, and the colours."""

from typing import NamedTuple

import keras
import numpy as np
from lecture_lab import band, batches
from sklearn.datasets import load_digits

import keras_adaptive

LIBRARIES = {"keras": keras.optimizers, "ours": keras_adaptive}
# Keras, a second line of Keras's, ours, and a second line of ours.
THEIRS, THEIRS_TOO, OURS, OURS_TOO = "tab:orange", "tab:gray", "tab:blue", "lightskyblue"
AHEAD, BEHIND, EQUAL = "keras_adaptive ahead", "Keras ahead", "no difference seen"


class Row(NamedTuple):
    """One line of the table: a setting, and a number for each seed."""

    setting: str
    keras: np.ndarray
    ours: np.ndarray


class Comparison:
    """The same training with Keras's optimizer and with ours.

    `title` heads the panel, or the row of a comparison that is in the table alone. `unit` is what the numbers are and
    `measured` how they come about. A difference counts if the worst seed of the one is better than the best seed of
    the other by more than `least`. `measure(lab)` returns arrays by name; `rows` and `draw` use only these.
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
        return f"{mean:.2g} ± {deviation:.1g}" if mean >= 1e-5 else "<1e-5"


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


def curve(axis, x, values, label, colour, at, above, dashed=False):
    """The mean over the seeds with the range of all seeds, and its name beside the point number `at`.

    `above` is how far the name stands above that point, in points of the font.
    """
    values = np.asarray(values)
    at = min(max(at, -len(x)), len(x) - 1)
    band(axis, x, values, label, color=colour, linestyle="--" if dashed else "-", marker="o", markersize=2.5)
    place = {"ha": "right" if at < 0 else "left", "va": "bottom" if above > 0 else "top"}
    how = {"xytext": (0, above), "textcoords": "offset points", "color": colour, "fontsize": "small"}
    axis.annotate(label, (x[at], values[at].mean()), **how, **place)
