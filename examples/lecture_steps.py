"""The lecture's claims about the size of a step: AdaGrad's learning rate, steps that vanish, and L-smoothness."""

import keras
import numpy as np
from lecture_lab import COLOURS, Claim, accuracy, band, batches, dense, dense_scores, legend, panels, spread, train
from sklearn import datasets

import keras_adaptive


def _digits():
    inputs, labels = datasets.load_digits(return_X_y=True)
    return (inputs / 16).astype("float32"), labels.astype("int32")


class LearningRates(Claim):
    """Three data sets whose features have very different sizes: more learning rates are good with AdaGrad."""

    says = "AdaGrad removes the manual tuning of the learning rate"
    measured = "how many decades of learning rates come within 3 points of the best training accuracy, after 150 steps"
    criterion = "more of them with AdaGrad than with SGD, on each of three data sets, in every seed"
    optimizers = (keras_adaptive.SGD, keras_adaptive.Adagrad)
    tasks = ("digits", "breast cancer, standardized", "wine, as measured")

    def _task(self, name):
        """The widths of the network, inputs and labels."""
        if name == "digits":
            return (64, 10), *_digits()
        if name.startswith("wine"):
            inputs, labels = datasets.load_wine(return_X_y=True)
            return (3,), inputs.astype("float32"), labels.astype("int32")
        inputs, labels = datasets.load_breast_cancer(return_X_y=True)
        return (32, 2), ((inputs - inputs.mean(0)) / inputs.std(0)).astype("float32"), labels.astype("int32")

    def measure(self, lab):
        rates = lab.rates(-4, 2)
        reached = [[self._reached(lab, task, rates, each) for each in self.optimizers] for task in self.tasks]
        return {"rates": rates, "accuracy": np.array(reached)}

    def _reached(self, lab, task, rates, optimizer):
        """The accuracies, by rate and seed."""
        widths, inputs, labels = self._task(task)
        step = lab.step(lambda: dense(inputs.shape[1], *widths), optimizer)

        def run(rate, seed):
            train(step, rate, seed, batches(64, lab.few(150, 20), seed, inputs, labels))
            return accuracy(dense_scores(step.model.get_weights(), inputs), labels)

        return lab.over(f"{task}, {optimizer.__name__}", rates, run)

    def judge(self, numbers):
        reached = numbers["accuracy"]
        good = reached >= reached.max(axis=(1, 2), keepdims=True) - 0.03
        each = np.log10(numbers["rates"][1] / numbers["rates"][0])
        sgd, adagrad = np.moveaxis(good.sum(axis=2) * each, 1, 0)
        text = [f"{task}: {spread(adagrad[i], 1)} (SGD {spread(sgd[i], 1)})" for i, task in enumerate(self.tasks)]
        for_all = good.all(axis=0).sum(axis=1) * each
        text.append(f"one rate good for all three: {spread(for_all[1], 1)} (SGD {spread(for_all[0], 1)})")
        return "decades: " + "; ".join(text), bool((adagrad > sgd).all())

    def draw(self, figure, numbers):
        axes = panels(figure, len(self.tasks), sharey=True)
        for axis, task, of_task in zip(axes, self.tasks, numbers["accuracy"], strict=True):
            for optimizer, values in zip(self.optimizers, of_task, strict=True):
                name = optimizer.__name__
                band(axis, numbers["rates"], values, name, color=COLOURS[name])
            axis.set(xscale="log", xlabel="learning rate", title=task)
        axes[0].set_ylabel("training accuracy")
        legend(figure, axes[0])


class VanishingSteps(Claim):
    """The classes of the digits are renumbered every 300 steps, so that there is always something to learn."""

    says = "AdaGrad's sum makes its steps shrink towards zero until nothing more is learnt; RMSprop mends that"
    measured = (
        "digits whose classes are renumbered every 300 steps, at the default learning rates. Two numbers: the "
        "power of t by which the size of a step changes; and the losses at the end of the first and of the last "
        "period"
    )
    criterion = (
        "AdaGrad's power is below -0.25 and its last loss above twice the first; RMSprop's power is above -0.25 "
        "and its last loss below half of AdaGrad's; in every seed"
    )
    optimizers = (keras_adaptive.Adagrad, keras_adaptive.RMSprop)
    every = 10  # steps between two measurements

    def measure(self, lab):
        periods, period = lab.few((6, 300), (3, 20))
        found = [self._relearn(lab, optimizer, periods, period) for optimizer in self.optimizers]
        sizes, losses = ([each[name] for each in found] for name in ("sizes", "losses"))
        return {"sizes": np.array(sizes), "losses": np.array(losses), "period": np.array(period)}

    def _relearn(self, lab, optimizer, periods, period):
        """The sizes of some steps and the loss at the end of every period, by seed."""
        inputs, labels = _digits()
        step = lab.step(lambda: dense(64, 64, 10), optimizer)
        measured = range(0, periods * period, self.every)

        def run(rate, seed):
            step.restart(seed)
            numbers = np.random.default_rng(seed).permuted(np.tile(np.arange(10, dtype="int32"), (periods, 1)), axis=1)
            losses, sizes = [], []
            for t, (some, classes) in enumerate(batches(128, periods * period, seed, inputs, labels)):
                before = step.model.get_weights() if t in measured else None
                losses.append(step(some, numbers[t // period][classes]))
                if before:
                    sizes.append(_size(before, step.model.get_weights()))
            ends = np.reshape([float(loss) for loss in losses], (periods, period))[:, -period // 15 :]
            return np.concatenate([sizes, ends.mean(axis=1)])

        default = float(step.optimizer.learning_rate.numpy())
        (found,) = lab.over(optimizer.__name__, [default], run)
        return {"sizes": found[: len(measured)], "losses": found[len(measured) :]}

    def _powers(self, sizes):
        """The slope of log size over log t, by least squares: (optimizers, seeds)."""
        t = np.log(1 + self.every * np.arange(sizes.shape[1]))
        t -= t.mean()
        return np.einsum("t,ots->os", t, np.log(sizes)) / (t @ t)

    def judge(self, numbers):
        powers, first, last = self._powers(numbers["sizes"]), numbers["losses"][:, 0], numbers["losses"][:, -1]
        text = [
            f"{optimizer.__name__}: steps ~ t^({spread(powers[i])}), losses {spread(first[i])} and {spread(last[i])}"
            for i, optimizer in enumerate(self.optimizers)
        ]
        stalls = (powers[0] < -0.25) & (last[0] > 2 * first[0])
        goes_on = (powers[1] > -0.25) & (last[1] < last[0] / 2)
        return "; ".join(text), bool((stalls & goes_on).all())

    def draw(self, figure, numbers):
        left, right = panels(figure, 2)
        periods = np.arange(1, numbers["losses"].shape[1] + 1)
        for i, optimizer in enumerate(self.optimizers):
            name, sizes = optimizer.__name__, numbers["sizes"][i]
            band(left, 1 + self.every * np.arange(len(sizes)), sizes, name, color=COLOURS[name])
            band(right, periods, numbers["losses"][i], name, color=COLOURS[name], marker="o", markersize=3)
        left.set(xscale="log", yscale="log", xlabel="step", title="size of a step (RMS over the weights)")
        right.set(xlabel=f"period of {numbers['period']} steps", title="loss at the end of each period", ylim=(0, None))
        legend(figure, left)


def _size(before, after):
    """The root mean square of the change of all weights."""
    changes = [(new - old).ravel() for old, new in zip(before, after, strict=True)]
    return np.sqrt(np.mean(np.concatenate(changes) ** 2))


class Smoothness(Claim):
    """Gradient descent on all digits in one batch; L is estimated from the gradients at both ends of every step."""

    says = "The loss of a network is L-smooth: a step of less than 2 / L descends"
    measured = (
        "L = |change of the gradient| / |change of the weights| for every step of gradient descent on a network "
        "of tanh units. The bound is f(θ') ≤ f(θ) + <∇f(θ), θ' - θ> + L/2 |θ' - θ|² with the largest L of the "
        "path"
    )
    criterion = "the bound holds in 99 of 100 steps; the loss never rises where η L ≤ 1 all along, and "
    criterion += "rises where η is above 4 / L of the first step at the smallest η; in every seed"

    def measure(self, lab):
        rates, steps = lab.rates(-2, 1), lab.few(200, 12)
        inputs, labels = (each[:1792] for each in _digits())
        # With such a small momentum the velocity is the gradient, and it can be read as a slot.
        step = lab.step(lambda: dense(64, 32, 10, activation="tanh"), keras_adaptive.SGD, momentum=1e-30)
        weights = step.model.trainable_variables
        velocity = [each for each in step.optimizer.variables if each.path.endswith("_b")]

        def run(rate, seed):
            step.restart(seed)
            step.optimizer.learning_rate = rate
            path, gradients, losses = [], [], []
            for _ in range(steps):
                path.append(_flat(weights))
                losses.append(float(step(inputs, labels)))
                gradients.append(_flat(velocity))
            path, gradients, losses = np.array(path), np.array(gradients), np.array(losses)
            moves = np.diff(path, axis=0)
            lengths = np.linalg.norm(moves, axis=1)
            smoothness = np.linalg.norm(np.diff(gradients, axis=0), axis=1) / lengths
            bound = losses[:-1] + np.sum(gradients[:-1] * moves, axis=1) + smoothness.max() / 2 * lengths**2
            return np.array([smoothness, losses[:-1], losses[1:], bound])

        found = lab.over("SGD", rates, run)
        return {"rates": rates, "L": found[:, 0], "before": found[:, 1], "after": found[:, 2], "bound": found[:, 3]}

    def judge(self, numbers):
        """Losses are exact to 1e-6 of their size."""
        rates, smoothness, before, after = numbers["rates"][:, None], numbers["L"], numbers["before"], numbers["after"]
        slack = 1e-6 * np.maximum(before, 1)
        holds = (after <= numbers["bound"] + slack).mean(axis=(0, 1))
        rises = (after > before + slack).any(axis=1)
        small = rates * smoothness.max(axis=1) <= 1
        large = rates * smoothness[0, 0] > 4
        text = f"largest L at the smallest η {spread(smoothness[0].max(axis=0))}; the bound holds in "
        text += f"{spread(100 * holds, 1)} % of the steps; of {small.sum()} paths with η L ≤ 1 "
        text += f"{(rises & small).sum()} rise, of {large.sum()} with η above 4 / L {(rises & large).sum()} do"
        held = holds.min() >= 0.99 and small.any(axis=0).all() and large.any(axis=0).all()
        return text, bool(held and not rises[small].any() and rises[large].all())

    def draw(self, figure, numbers):
        left, right = panels(figure, 2)
        colours = _shades(len(numbers["rates"]))
        steps = np.arange(1, numbers["L"].shape[1] + 1)
        for i, (rate, colour) in enumerate(zip(numbers["rates"], colours, strict=True)):
            band(left, steps, numbers["L"][i], f"η = {rate:.2g}", color=colour)
            band(right, steps, numbers["before"][i], f"η = {rate:.2g}", color=colour)
        left.set(xscale="log", xlabel="step", yscale="log", title="L, from the gradients at both ends of a step")
        right.set(xscale="log", xlabel="step", yscale="log", title="loss")
        legend(figure, left)


def _flat(variables):
    """All variables in one float64 vector."""
    return np.concatenate([keras.ops.convert_to_numpy(each).astype("float64").ravel() for each in variables])


def _shades(count):
    from matplotlib import pyplot

    return pyplot.get_cmap("viridis")(np.linspace(0, 0.9, count))
