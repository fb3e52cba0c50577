"""Comparisons on dense layers: weights in bfloat16, what a schedule counts, and the weight decay of LAMB."""

import keras
import numpy as np
from compared_lab import LIBRARIES, OURS, OURS_TOO, THEIRS, THEIRS_TOO, Comparison, Row, curve, digits, epochs, finish
from lecture_lab import dense


class Bfloat16Weights(Comparison):
    """Weights, gradients and slots in bfloat16, not only the arithmetic: half of the memory."""

    title = "Adam on weights in bfloat16"
    unit = "test accuracy"
    measured = (
        "Digits, dense layers 64-64-10, 10 epochs in batches of 32. The dtype policy is bfloat16, so weights are "
        "bfloat16; with mixed_bfloat16 they would be float32"
    )
    rates = (1e-4, 3e-4, 1e-3, 3e-3)
    runs = {
        "keras": ("bfloat16", {}),
        "ours": ("bfloat16", {}),
        "rounded": ("bfloat16", {"stochastic_rounding": True}),
        "keras float32": ("float32", {}),
    }

    def measure(self, lab):
        rates, count = lab.few(self.rates, self.rates[::2]), lab.few(10, 1)
        return {"rates": rates} | {name: self._reached(lab, name, rates, count) for name in self.runs}

    def _reached(self, lab, name, rates, count):
        """The accuracies by rate and seed."""
        dtype, given = self.runs[name]
        adam = LIBRARIES["keras" if name.startswith("keras") else "ours"].Adam
        step, data = lab.step(lambda: dense(64, 64, 10, dtype=dtype), adam, **given), digits()
        return [[epochs(step, seed, 32, count, data, rate)[-1] for seed in lab.seeds] for rate in rates]

    def rows(self, numbers):
        for i, rate in enumerate(numbers["rates"]):
            if rate in (1e-4, 1e-3):
                theirs, ours, rounded = (numbers[name][i] for name in ("keras", "ours", "rounded"))
                yield Row(f"bfloat16 weights, Adam at {rate:g}", theirs, ours)
                yield Row(f"the same at {rate:g}, ours with `stochastic_rounding=True`", theirs, rounded)

    def draw(self, axis, numbers):
        lines = {
            "rounded": ("ours, stochastic rounding", OURS_TOO, "-"),
            "ours": ("ours", OURS, "-"),
            "keras": ("Keras", THEIRS, "-"),
            "keras float32": ("Keras, weights in float32", THEIRS_TOO, "--"),
        }
        for name, line in lines.items():
            curve(axis, numbers["rates"], numbers[name], *line)
        finish(axis, (0.45, 0.2), xlabel="learning rate", ylabel=self.unit, xscale="log", ylim=(0, 1.05))


class Accumulation(Comparison):
    """Four micro-batches for an update; Keras's schedule counts micro-batches."""

    title = "A schedule, with gradient_accumulation_steps=4"
    unit = "test accuracy"
    measured = (
        "Digits, dense layers 64-64-10, micro-batches of 32, Adam. The learning rate has a cosine decay from 0.01 "
        "to 0 at the end of 10 epochs"
    )

    def measure(self, lab):
        count = lab.few(10, 1)
        micro = count * 1408 // 32
        numbers = {}
        for counted, steps in (("updates", micro // 4), ("micro", micro)):
            for name, library in LIBRARIES.items():
                decay = keras.optimizers.schedules.CosineDecay(1e-2, steps)
                given = {"learning_rate": decay, "gradient_accumulation_steps": 4}
                step = lab.step(lambda: dense(64, 64, 10), library.Adam, **given)
                found = [epochs(step, seed, 32, count, digits()) for seed in lab.seeds]
                numbers[f"{name} {counted}"] = np.transpose(found).tolist()
        return numbers

    def rows(self, numbers):
        of = {name: np.asarray(values)[-1] for name, values in numbers.items()}
        what = "4 micro-batches for an update, decay counted in "
        yield Row(what + "updates", of["keras updates"], of["ours updates"])
        yield Row(what + "micro-batches", of["keras micro"], of["ours micro"])
        yield Row(what + "what each counts (Keras: micro-batches)", of["keras micro"], of["ours updates"])

    def draw(self, axis, numbers):
        x = np.arange(1, len(numbers["keras updates"]) + 1)
        curve(axis, x, numbers["ours updates"], "ours, decay counted in updates", OURS)
        curve(axis, x, numbers["keras updates"], "Keras, decay counted in updates", THEIRS)
        curve(axis, x, numbers["keras micro"], "Keras, decay counted in micro-batches", THEIRS_TOO, "--")
        finish(axis, "lower right", xlabel="epoch", ylabel=self.unit, ylim=(0.7, 1))


class LambWithDecay(Comparison):
    """Keras's LAMB has the decay outside of the trust ratio, and decays vectors too."""

    title = "LAMB with weight decay"
    unit = "test accuracy"
    measured = "Digits, dense layers 64-64-10, LAMB with `weight_decay=0.01`, 10 epochs in batches of 64"
    drawn = False

    def measure(self, lab):
        count, numbers = lab.few(10, 1), {}
        for name, library in LIBRARIES.items():
            step = lab.step(lambda: dense(64, 64, 10), library.Lamb, learning_rate=0.01, weight_decay=0.01)
            numbers[name] = [epochs(step, seed, 64, count, digits())[-1] for seed in lab.seeds]
        return numbers

    def rows(self, numbers):
        yield Row("LAMB at 0.01 with decay 0.01", numbers["keras"], numbers["ours"])
