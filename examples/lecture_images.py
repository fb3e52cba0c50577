"""The lecture's claim about images: Adam against SGD with momentum, and in large batches against Lars and Lamb."""

import keras
import numpy as np
from keras import layers
from lecture_lab import COLOURS, Claim, Lab, accuracy, batches, best, legend, panels, rate_of, spread
from mnist1d.data import get_dataset_args, make_dataset

from keras_adaptive import SGD, Adam, Lamb, Lars, no_decay_on_vectors

TRAINING, VALIDATION, TEST = 4096, 2048, 4096
SMALL, LARGE = 128, 512
EPOCHS = 20


class Images(Claim):
    """All optimizers have equally many trials; the best by validation error is repeated with other seeds."""

    says = "Adam misses the accuracy that images should reach; in large batches Lars and Lamb reach it"
    measured = (
        f"test error of a residual network with batch normalization on MNIST-1D: {TRAINING} images to train, "
        f"{VALIDATION} to tune, {TEST} to test. {EPOCHS} epochs in batches of {SMALL} "
        f"({EPOCHS * TRAINING // SMALL} steps) and of {LARGE} ({EPOCHS * TRAINING // LARGE} steps), with a linear "
        "warm-up in a tenth of the steps and a cosine decay to 0. SGD has momentum 0.9. Each optimizer has the "
        "best of 12 settings (three η, four weight decays λ) by the validation error of another seed"
    )
    criterion = (
        f"the target is SGD's error in batches of {SMALL} plus one point. In batches of {SMALL} Adam's error is "
        f"above SGD's. In batches of {LARGE} Adam misses the target, and Lars or Lamb reaches it. In every seed"
    )
    optimizers = {
        "SGD": (SGD, {"momentum": 0.9, "groups": [no_decay_on_vectors()]}),
        "Adam": (Adam, {"groups": [no_decay_on_vectors()]}),
        # Vectors take η without a trust ratio. With the default, 0.001, an η for matrices is too large for them.
        "Lars": (Lars, {"trust_coefficient": 0.01}),
        "Lamb": (Lamb, {}),
    }
    # By batch size and optimizer: the powers of ten from which and to which η goes, and the weight decays. Both are
    # around the best of a wider search with one more seed.
    grids = {
        (SMALL, "SGD"): ((-1.5, -0.5), (0, 0.1, 0.3, 1)),
        (SMALL, "Adam"): ((-1.5, -0.5), (0, 0.1, 0.3, 1)),
        (LARGE, "SGD"): ((-1, 0), (0, 0.03, 0.1, 0.3)),
        (LARGE, "Adam"): ((-2, -1), (0, 0.3, 1, 3)),
        (LARGE, "Lars"): ((0, 1), (0, 0.001, 0.01, 0.1)),
        (LARGE, "Lamb"): ((-2, -1), (0, 0.3, 1, 3)),
    }

    def measure(self, lab):
        numbers, data = {}, _data()
        with lab.devices.scope:
            scorer = _network()  # one for all, as `predict` takes seconds to compile
        for size, name in self.grids:
            numbers |= self._tuned(lab, size, name, scorer, data)
        return numbers

    def _tuned(self, lab, size, name, scorer, data):
        """The validation errors of all settings, and the test errors of the best one, by seed."""
        key, (powers, decays) = f"{size} {name}", self.grids[size, name]
        rates, decays = lab.rates(*powers), np.array(lab.few(decays, decays[-1:]), "float64")
        trials = [self._trial(lab, size, name, decay, scorer, data) for decay in decays]
        tuning = Lab(lab.devices, [(lab.seeds[-1] + 1) % 2**32], lab.quick)  # none of the seeds that are reported
        found = [tuning.over(f"{key}, λ {decay:g}", rates, run) for decay, run in zip(decays, trials, strict=True)]
        validation = np.array(found)[:, :, 0]  # decays, rates, seeds
        chosen = best(validation.reshape(-1, 1), highest=False)
        decay, rate = divmod(chosen, len(rates))
        (reported,) = lab.over(f"{key}, chosen", rates[[rate]], trials[decay])
        numbers = {"rates": rates, "decays": decays, "chosen": np.array(chosen)}
        numbers |= {"validation": validation, "test": reported[1]}
        return {f"{key} {what}": values for what, values in numbers.items()}

    def _trial(self, lab, size, name, decay, scorer, data):
        """`run(rate, seed)`: the errors on the validation and the test data, in percent."""
        training, *held_out = data
        optimizer, arguments = self.optimizers[name]
        step = lab.step(_network, optimizer, weight_decay=decay, **arguments)
        steps = lab.few(EPOCHS, 1) * TRAINING // size
        shares = _warmup_and_cosine(steps)

        def run(rate, seed):
            step.restart(seed)
            for share, batch in zip(shares, batches(size, steps, seed, *training), strict=True):
                step.optimizer.learning_rate = rate * share
                step(*batch)
            scorer.set_weights(step.model.get_weights())
            scores = [scorer.predict(inputs, batch_size=VALIDATION, verbose=0) for inputs, _ in held_out]
            return [100 - 100 * accuracy(each, labels) for each, (_, labels) in zip(scores, held_out, strict=True)]

        return run

    def judge(self, numbers):
        parts, error = {SMALL: [], LARGE: []}, {}
        for size, name in self.grids:
            rates, decays, chosen, error[size, name] = (
                numbers[f"{size} {name} {what}"] for what in ("rates", "decays", "chosen", "test")
            )
            decay, rate = divmod(int(chosen), len(rates))
            tried = ", ".join(f"{each:g}" for each in decays)
            text = f"{name} {spread(error[size, name])} % {rate_of(rates, rate)[:-1]}; "
            parts[size].append(f"{text}λ = {decays[decay]:g}, of {tried})")
        sgd, target = error[SMALL, "SGD"], error[SMALL, "SGD"] + 1
        worse = error[SMALL, "Adam"] > sgd
        misses = {name: error[LARGE, name] > target for name in ("Adam", "Lars", "Lamb")}
        text = [f"batches of {size}: {', '.join(of_size)}" for size, of_size in parts.items()]
        counts = ", ".join(f"{name} in {missed.sum()}" for name, missed in misses.items())
        text.append(
            f"of {len(sgd)} seeds Adam is worse than SGD in {worse.sum()}, and the target is missed by {counts}"
        )
        others = not misses["Lars"].any() or not misses["Lamb"].any()
        return "; ".join(text), bool(worse.all() and misses["Adam"].all() and others)

    def draw(self, figure, numbers):
        from matplotlib.ticker import LogLocator, NullLocator

        small, large, right = panels(figure, 3)
        for position, (size, name) in enumerate(self.grids):
            rates, validation, test = (numbers[f"{size} {name} {what}"] for what in ("rates", "validation", "test"))
            axis, style = small if size == SMALL else large, {"color": COLOURS[name], "marker": "o", "markersize": 3}
            axis.plot(rates, validation.mean(-1).min(axis=0), label=name, **style)
            right.plot(np.full(len(test), position), test, linestyle="", alpha=0.5, **style)
            right.plot(position, test.mean(), color=COLOURS[name], marker="_", markersize=20)
        for axis, size in ((small, SMALL), (large, LARGE)):
            axis.set(xscale="log", yscale="log", xlabel="learning rate, best weight decay", title=f"batches of {size}")
            for line, ticks in ((axis.xaxis, (1, 3)), (axis.yaxis, (1, 2, 3, 5))):
                line.set(major_locator=LogLocator(subs=ticks), major_formatter="{x:g}", minor_locator=NullLocator())
        small.set_ylabel("validation error in %")
        target = numbers[f"{SMALL} SGD test"].mean() + 1
        right.axhline(target, color="black", linestyle="--", linewidth=1, label="target")
        right.set_xticks(range(len(self.grids)), [f"{name}\n{size}" for size, name in self.grids], fontsize="small")
        right.set(title="test error in %, every seed", ylim=(0, None))
        legend(figure, large, right)


def _data():
    """Inputs and labels for training, validation and test."""
    arguments = get_dataset_args()
    arguments.num_samples, arguments.train_split = TRAINING + VALIDATION + TEST, 1.0
    made = make_dataset(arguments)
    arrays = made["x"][..., np.newaxis].astype("float32"), made["y"].astype("int32")
    return list(zip(*(np.split(each, [TRAINING, TRAINING + VALIDATION]) for each in arrays), strict=True))


def _warmup_and_cosine(steps):
    """The learning rate of every step, as a share of the highest."""
    warmup, t = max(1, steps // 10), np.arange(1, steps + 1)
    cosine = (1 + np.cos(np.pi * (t - warmup) / max(1, steps - warmup))) / 2
    return np.where(t < warmup, t / warmup, cosine)


def _network():
    """Three residual blocks, of which the second and the third halve the length."""
    signals = keras.Input((40, 1))
    x = layers.ReLU()(_normalized(signals, 12, 5, stride=2))
    for block, filters in enumerate((12, 24, 48)):
        stride = 2 if block else 1
        y = layers.ReLU()(_normalized(x, filters, 3, stride))
        y = _normalized(y, filters, 3)
        x = _normalized(x, filters, 1, stride) if block else x
        x = layers.ReLU()(layers.Add()([x, y]))
    return keras.Model(signals, layers.Dense(10)(layers.GlobalAveragePooling1D()(x)))


def _normalized(x, filters, kernel, stride=1):
    """A convolution without bias, and batch normalization; its averages forget in some tens of steps."""
    convolution = layers.Conv1D(filters, kernel, stride, padding="same", use_bias=False, kernel_initializer="he_normal")
    return layers.BatchNormalization(momentum=0.9)(convolution(x))
