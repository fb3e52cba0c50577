"""How the lecture's claims are measured: networks are trained repeatedly, over learning rates and seeds."""

import time

import keras
import loop
import numpy as np

COLOURS = {
    "SGD": "tab:gray",
    "Adagrad": "tab:orange",
    "RMSprop": "tab:green",
    "Adam": "tab:blue",
    "Lars": "tab:red",
    "Lamb": "tab:purple",
}


class Claim:
    """A claim of the lecture, and how it is tested.

    `says` is the claim, `measured` what is measured, and `criterion` when it counts as reproduced. `measure(lab)`
    returns arrays whose last axis is the seeds; `judge` and `draw` use only these arrays.
    """

    says = measured = criterion = ""

    def measure(self, lab):
        """The numbers, by name."""
        raise NotImplementedError

    def judge(self, numbers):
        """A summary of the numbers, and whether the criterion holds."""
        raise NotImplementedError

    def draw(self, figure, numbers):
        """The panels of this claim."""
        raise NotImplementedError


class Lab:
    """Where and how often to train.

    Args:
        devices: the result of `strategies.start`.
        seeds: seeds of the initial weights and the order of the data, one for each repetition.
        quick: only try whether everything runs, with fewer steps and learning rates.
    """

    def __init__(self, devices, seeds, quick=False):
        self.devices, self.seeds, self.quick = devices, list(seeds), quick

    def few(self, many, few):
        """`many`, or `few` if this is only a try."""
        return few if self.quick else many

    def rates(self, low, high):
        """Two learning rates to the decade, from 10^low to 10^high; in a try, every sixth of them."""
        return (10.0 ** np.linspace(low, high, round(2 * (high - low)) + 1))[:: self.few(1, 6)]

    def step(self, make_model, optimizer_class, losses=None, **arguments):
        """A step that is compiled once and serves all learning rates and seeds."""
        with self.devices.scope:
            return loop.Step(make_model(), optimizer_class(**arguments), losses or cross_entropy, self.devices)

    def over(self, what, rates, run):
        """`run(rate, seed)` for all rates and seeds: an array with the rates as first axis and the seeds as last."""
        begin = time.perf_counter()
        results = np.array([[run(rate, seed) for seed in self.seeds] for rate in rates])
        if self.devices.is_chief:
            seconds = time.perf_counter() - begin
            print(f"  {what}: learning rates {len(rates)}, seeds {len(self.seeds)}, {seconds:.1f} s", flush=True)
        return np.moveaxis(results, 1, -1)


def train(step, rate, seed, batches):
    """Trains from the initial weights of that seed; returns the loss before every step."""
    step.restart(seed)
    step.optimizer.learning_rate = rate
    return np.array([float(loss) for loss in [step(*batch) for batch in batches]])


def accuracy(scores, labels):
    """The fraction of examples whose class has the highest score."""
    return np.mean(np.argmax(scores, axis=-1) == labels)


def cross_entropy(logits, labels):
    """The cross-entropy of every example, in nats."""
    return keras.ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)


def dense(inputs, *widths, activation="relu", dtype=None):
    """A network of dense layers; the last one is linear."""
    *hidden, last = widths
    layers = [keras.layers.Dense(width, activation, dtype=dtype) for width in hidden]
    return keras.Sequential([keras.Input((inputs,)), *layers, keras.layers.Dense(last, dtype=dtype)])


def dense_scores(weights, inputs):
    """The output of that network, in NumPy: `predict` takes longer to start than this takes in total."""
    for kernel, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        inputs = np.maximum(inputs @ kernel + bias, 0)
    return inputs @ weights[-2] + weights[-1]


def batches(size, steps, seed, *arrays):
    """`steps` batches, in a new order in every pass over the data."""
    random = np.random.default_rng(seed)
    whole = len(arrays[0]) // size
    passes = [random.permutation(len(arrays[0]))[: whole * size] for _ in range(-(-steps // whole))]
    for chosen in np.concatenate(passes).reshape(-1, size)[:steps]:
        yield tuple(array[chosen] for array in arrays)


def best(values, highest=True):
    """The index of the learning rate (first axis) with the best mean over the seeds; divergence counts as worst."""
    means = np.asarray(values).mean(-1)
    means = np.where(np.isfinite(means), means, -np.inf if highest else np.inf)
    return int(means.argmax() if highest else means.argmin())


def rate_of(rates, index):
    """The chosen learning rate, and the range of all."""
    chosen, first, last = (f"{float(f'{rate:.2g}'):g}" for rate in (rates[index], rates[0], rates[-1]))
    return f"(η = {chosen}, of {first} to {last})"


def spread(values, digits=2):
    """Mean and standard deviation over the seeds."""
    return f"{np.mean(values):.{digits}f} ± {np.std(values):.{digits}f}"


def band(axis, x, values, label, **style):
    """The mean over the seeds as a line, and the range of all seeds as a band."""
    (line,) = axis.plot(x, values.mean(-1), label=label, **style)
    axis.fill_between(x, values.min(-1), values.max(-1), color=line.get_color(), alpha=0.2, linewidth=0)


def panels(figure, count, **how):
    """`count` axes side by side."""
    axes = figure.subplots(1, count, squeeze=False, **how)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
    return axes


def legend(figure, *axes):
    """The names of the curves of these panels, beside all panels."""
    curves = {}
    for axis in axes:
        handles, labels = axis.get_legend_handles_labels()
        curves |= dict(zip(labels, handles, strict=True))
    figure.legend(curves.values(), curves, loc="outside right center", frameon=False, fontsize="small")
