"""Comparisons on layers whose variables are not plain matrices: attention with Muon, an embedding with Adam."""

import functools

import keras
import numpy as np
import text
from compared_lab import LIBRARIES, OURS, THEIRS, Comparison, Row, curve, digits, epochs, finish
from lecture_lab import batches, best, train


class MuonOnAttention(Comparison):
    """Keras's Muon leaves the kernels of attention, which have three axes, to AdamW."""

    title = "Muon on attention, by learning rate"
    unit = "test accuracy"
    measured = (
        "Digits as 8 rows of 8 pixels, two blocks of attention with 4 heads, 5 epochs in batches of 64, no decay. "
        'Ours has `scale="moonlight"`, which is Keras\'s scale. The best rate is that of the highest mean test '
        "accuracy"
    )

    def measure(self, lab):
        rates, count = lab.rates(-3.5, -1.5), lab.few(5, 1)
        given = {"keras": {"weight_decay": None}, "ours": {"scale": "moonlight"}}
        numbers = {"rates": rates.tolist()}
        for name, library in LIBRARIES.items():
            step = lab.step(_attention, library.Muon, **given[name])
            run = functools.partial(epochs, step, size=64, count=count, data=digits(8, 8))
            numbers[name] = [[run(seed=seed, rate=rate)[-1] for seed in lab.seeds] for rate in rates]
        return numbers

    def rows(self, numbers):
        rates = numbers["rates"]
        chosen = {name: best(numbers[name]) for name in LIBRARIES}
        where = ", ".join(f"{'Keras' if name == 'keras' else name} {rates[i]:.2g}" for name, i in chosen.items())
        yield Row(f"Muon on attention, each at its best rate ({where})", *(numbers[n][i] for n, i in chosen.items()))
        for i, rate in enumerate(rates):
            if np.isclose(rate, (1e-3, 1e-2)).any():
                yield Row(f"Muon on attention at {rate:g}", numbers["keras"][i], numbers["ours"][i])

    def draw(self, axis, numbers):
        curve(axis, numbers["rates"], numbers["ours"], "ours", OURS)
        curve(axis, numbers["rates"], numbers["keras"], "Keras", THEIRS)
        finish(axis, "lower right", xlabel="learning rate", ylabel=self.unit, xscale="log", ylim=(0.4, 1))


class RepeatedWords(Comparison):
    """On TensorFlow an id that occurs often in a batch gets the root of the sum of squares in Keras."""

    title = "Words that occur often in a batch"
    unit = "loss in nats"
    measured = (
        "Python's help texts: the first letter of the next word is predicted from an embedding of each of 2000 "
        "words. Adam, on TensorFlow, where gradients of an embedding are rows. The loss is the mean of the last "
        "50 of 300 batches of 512"
    )
    higher_is_better, least, drawn = False, 0.005, False

    def measure(self, lab):
        ids, words = text.load_words(most=2000)
        letters = np.array([max(0, ord(word[0]) - ord("a")) for word in words], "int32")[ids]
        steps, numbers = lab.few(300, 10), {}
        for name, library in LIBRARIES.items():
            step = lab.step(_words, library.Adam)
            numbers[name] = []
            for seed in lab.seeds:
                some = batches(512, steps, seed, ids[:-1].astype("int32"), letters[1:])
                numbers[name].append(float(train(step, 0.01, seed, some)[-steps // 6 :].mean()))
        return numbers

    def rows(self, numbers):
        yield Row("repeated words, Adam at 0.01", numbers["keras"], numbers["ours"])


def _attention():
    """Two blocks of attention and a dense layer for each row of the image, and a classifier."""
    inputs = keras.Input((8, 8))
    x = keras.layers.Dense(32)(inputs)
    for _ in range(2):
        normed = keras.layers.LayerNormalization()(x)
        x += keras.layers.MultiHeadAttention(4, 8)(normed, normed)
        x += keras.layers.Dense(32, "relu")(keras.layers.LayerNormalization()(x))
    return keras.Model(inputs, keras.layers.Dense(10)(keras.layers.Flatten()(x)))


def _words():
    table = keras.layers.Embedding(2000, 16)
    return keras.Sequential([keras.Input((), dtype="int32"), table, keras.layers.Dense(26)])
