"""The lecture's claims about data: rare and frequent words, text and reinforcement learning."""

import re
from pydoc_data.topics import topics

import keras
import numpy as np
import text
import train_cartpole
import train_text
from lecture_lab import COLOURS, Claim, band, batches, best, legend, panels, rate_of, spread, train

import keras_adaptive


class RareWords(Claim):
    """Predicts the first letter of the next word from an embedding of this word; a row moves when its word occurs."""

    says = "Rare features get larger updates and move faster with AdaGrad and RMSprop"
    measured = (
        "the embeddings of words in a text, each optimizer at its best learning rate. Two numbers: how far the "
        "rows of words that occur once move, divided by how far those move that occur 1000 times or more; and the "
        "loss after words that occur once"
    )
    criterion = "AdaGrad, RMSprop and Adam have a larger share and a smaller loss than SGD, in every seed"
    grids = {"SGD": (0, 1.5), "Adagrad": (-1.5, 0), "RMSprop": (-2.5, -1), "Adam": (-2.5, -1)}
    edges = (1, 2, 4, 10, 30, 100, 300, 1000)  # a word belongs to the last edge that its count reaches

    def measure(self, lab):
        words = re.findall("[a-z]+", " ".join(topics[name] for name in sorted(topics)).lower())
        _, ids, counts = np.unique(words, return_inverse=True, return_counts=True)
        letters = np.array([ord(word[0]) - ord("a") for word in words], "int32")
        groups = np.digitize(counts, self.edges) - 1
        found = [self._moved(lab, name, ids[:-1].astype("int32"), letters[1:], groups) for name in self.grids]
        numbers = {f"{name} rates": each["rates"] for name, each in zip(self.grids, found, strict=True)}
        return numbers | {key: np.array([each[key] for each in found]) for key in ("chosen", "distance", "loss")}

    def _moved(self, lab, name, ids, letters, groups):
        """For the learning rate with the smallest loss: how far the rows of each group moved, and the final losses."""
        rates, steps = lab.rates(*self.grids[name]), lab.few(2 * len(ids) // 512, 10)
        count = len(self.edges)
        occurrences = np.bincount(groups[ids], minlength=count)

        def model():
            table = keras.layers.Embedding(len(groups), 16)
            return keras.Sequential([keras.Input((), dtype="int32"), table, keras.layers.Dense(26)])

        step = lab.step(model, getattr(keras_adaptive, name))

        def run(rate, seed):
            step.restart(seed)
            before = step.model.get_weights()[0]
            train(step, rate, seed, batches(512, steps, seed, ids, letters))
            table, kernel, bias = (each.astype("float64") for each in step.model.get_weights())
            distance = np.bincount(groups, np.linalg.norm(table - before, axis=1), count) / np.bincount(groups)
            logits = table @ kernel + bias
            logits -= logits.max(axis=1, keepdims=True)
            losses = (np.log(np.exp(logits).sum(axis=1, keepdims=True)) - logits)[ids, letters]
            return [distance, np.bincount(groups[ids], losses, count) / occurrences]

        found = lab.over(name, rates, run)
        chosen = best(np.einsum("rgs,g->rs", found[:, 1], occurrences), highest=False)
        return {"rates": rates, "chosen": chosen, "distance": found[chosen, 0], "loss": found[chosen, 1]}

    def judge(self, numbers):
        share = numbers["distance"][:, 0] / numbers["distance"][:, -1]
        loss = numbers["loss"][:, 0]
        text = []
        for i, name in enumerate(self.grids):
            rate = rate_of(numbers[f"{name} rates"], numbers["chosen"][i])
            text.append(f"{name}: share {spread(share[i])}, loss {spread(loss[i])} {rate}")
        return "; ".join(text), bool((share[1:] > share[0]).all() and (loss[1:] < loss[0]).all())

    def draw(self, figure, numbers):
        left, right = panels(figure, 2)
        for i, name in enumerate(self.grids):
            band(left, self.edges, numbers["distance"][i], name, color=COLOURS[name], marker="o", markersize=3)
            band(right, self.edges, numbers["loss"][i], name, color=COLOURS[name], marker="o", markersize=3)
        for axis in (left, right):
            axis.set(xscale="log", xlabel="occurrences of the word, at least")
        left.set(yscale="log", title="how far the row of a word moves")
        right.set_title("loss after the word")
        legend(figure, right)


class TextAndControl(Claim):
    """A small version of train_text.py's transformer, and the policy gradient of train_cartpole.py."""

    says = "Adam works well for text and for reinforcement learning"
    measured = "bits per byte of a small transformer's last 30 of 150 batches, and CartPole's mean return over the "
    measured += "last 7 of 30 updates, each optimizer at its best learning rate"
    criterion = "Adam: fewer bits and a higher return than SGD, in every seed"
    optimizers = ("SGD", "Adam")
    text_grids, control_grids = ((-1.5, 0.5), (-3, -1.5)), ((-0.5, 1.5), (-2.5, -0.5))
    context = 32

    def measure(self, lab):
        numbers = {}
        for name, *grids in zip(self.optimizers, self.text_grids, self.control_grids, strict=True):
            optimizer = getattr(keras_adaptive, name)
            text_rates, control_rates = (lab.rates(*grid) for grid in grids)
            numbers |= {f"{name} text rates": text_rates, f"{name} control rates": control_rates}
            numbers[f"{name} bits"] = self._bits(lab, optimizer, text_rates)
            numbers[f"{name} returns"] = self._returns(lab, optimizer, control_rates)
        return numbers

    def _bits(self, lab, optimizer, rates):
        """By rate and seed."""
        everything, steps = text.load_text(), lab.few(150, 10)

        def losses(logits, targets):
            return keras.ops.mean(train_text.bits_per_byte(targets, logits), axis=-1)

        step = lab.step(lambda: train_text.network(self.context, width=32, blocks=2, heads=2), optimizer, losses)

        def run(rate, seed):
            windows = text.Windows(everything, self.context, 32, steps, seed)
            return train(step, rate, seed, (windows[i] for i in range(steps)))[-steps // 5 :].mean()

        return lab.over(f"text, {optimizer.__name__}", rates, run)

    def _returns(self, lab, optimizer, rates):
        """By rate and seed."""
        updates = lab.few(30, 3)
        step = lab.step(train_cartpole.network, optimizer, train_cartpole.losses)

        def run(rate, seed):
            step.restart(seed)
            step.optimizer.learning_rate = rate
            return train_cartpole.train(step, 16, updates, seed)[-updates // 4 :].mean()

        return lab.over(f"CartPole, {optimizer.__name__}", rates, run)

    def judge(self, numbers):
        bits, returns, of_bits, of_returns = {}, {}, [], []
        for name in self.optimizers:
            of_text, of_control = numbers[f"{name} bits"], numbers[f"{name} returns"]
            first, second = best(of_text, highest=False), best(of_control)
            bits[name], returns[name] = of_text[first], of_control[second]
            of_bits.append(f"{name} {spread(bits[name])} {rate_of(numbers[f'{name} text rates'], first)}")
            of_returns.append(f"{name} {spread(returns[name], 0)} {rate_of(numbers[f'{name} control rates'], second)}")
        better = (bits["Adam"] < bits["SGD"]).all() and (returns["Adam"] > returns["SGD"]).all()
        return f"bits: {', '.join(of_bits)}; return: {', '.join(of_returns)}", bool(better)

    def draw(self, figure, numbers):
        left, right = panels(figure, 2)
        for name in self.optimizers:
            style = {"color": COLOURS[name], "marker": "o", "markersize": 3}
            band(left, numbers[f"{name} text rates"], numbers[f"{name} bits"], name, **style)
            band(right, numbers[f"{name} control rates"], numbers[f"{name} returns"], name, **style)
        # A byte about which nothing is known takes eight bits; with a learning rate that is too large it may take more.
        least = min(np.nanmin(numbers[f"{name} bits"]) for name in self.optimizers)
        left.set(xscale="log", xlabel="learning rate", title="text: bits per byte", ylim=(0.95 * least, 8))
        right.set(xscale="log", xlabel="learning rate", title="CartPole: mean return")
        legend(figure, left)
