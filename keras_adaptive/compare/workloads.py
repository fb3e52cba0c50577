"""The workloads: six that optimizers are tuned on, and two that show how settings carry over."""

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers, ops

from keras_adaptive.compare import data, schedule


@dataclass(frozen=True)
class Workload:
    """A model, its data and its budget.

    Attributes:
        name: its name on the command line and in the results.
        what: a description.
        data: returns the data.
        model: makes the model, with weights drawn from Keras's seed.
        loss: the loss of outputs and labels, a scalar.
        batch: examples in a batch.
        steps: updates of a run, a multiple of 50.
        settings_of: for a held-out workload, the name of the workload that its settings were tuned on; else None.
    """

    name: str
    what: str
    data: data.Source
    model: Callable[[], keras.Model]
    loss: Callable[[Any, Any], Any]
    batch: int
    steps: int
    settings_of: str | None = None

    @functools.cached_property
    def setup(self) -> str:
        """A digest of the budget, the batches, the schedule, the loss and the shapes of the model's weights."""
        shapes = [tuple(variable.shape) for variable in self.model().trainable_variables]
        rates = schedule.rates({"learning_rate": 1.0, "horizon": 0.75}, self.steps).round(4).tolist()
        batches = schedule.batches(0, 2 * self.batch, self.batch, 4).tolist()
        parts = (self.steps, self.batch, self.loss.__name__, shapes, rates, batches)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def cross_entropy(outputs, labels):
    return ops.mean(ops.sparse_categorical_crossentropy(labels, outputs, from_logits=True))


def squares(outputs, labels):
    return ops.mean(ops.square(outputs - labels))


def negative_sampling(outputs, labels):
    """The sum over a word and its negatives of the binary cross-entropy."""
    return ops.mean(ops.sum(ops.softplus(outputs) - labels * outputs, axis=-1))


def digits_net(normalized=False):
    x = inputs = keras.Input((8, 8, 1))
    for filters, strides in ((16, 1), (32, 2)):
        x = layers.Conv2D(filters, 3, strides, padding="same")(x)
        x = layers.Activation("relu")(layers.LayerNormalization()(x) if normalized else x)
    x = layers.Dense(64, "relu")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(10)(x))


def mnist1d_net():
    convolutions = [layers.Conv1D(25, width, 2, padding="same", activation="relu") for width in (5, 3, 3)]
    return keras.Sequential([keras.Input((40, 1)), *convolutions, layers.Flatten(), layers.Dense(10)])


class Positions(layers.Layer):
    """Adds a vector for each place."""

    def build(self, shape):
        self.embeddings = self.add_weight(shape=shape[1:], initializer=keras.initializers.RandomNormal(stddev=0.02))

    def call(self, x):
        return x + self.embeddings


def transformer(width=64, blocks=2, heads=4):
    inputs = keras.Input((data.CONTEXT,), dtype="int32")
    x = Positions()(layers.Embedding(256, width)(inputs))
    for _ in range(blocks):
        normal = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(heads, width // heads)(normal, normal, use_causal_mask=True)
        hidden = layers.Dense(4 * width, "gelu")(layers.LayerNormalization()(x))
        x = x + layers.Dense(width)(hidden)
    return keras.Model(inputs, layers.Dense(256)(layers.LayerNormalization()(x)))


def prices_net():
    inputs = keras.Input((9,))
    classes = [
        layers.Flatten()(layers.Embedding(number, 8)(ops.cast(inputs[:, place : place + 1], "int32")))
        for place, number in enumerate((5, 7, 8))
    ]
    x = layers.Concatenate()([*classes, inputs[:, 3:]])
    for _ in range(2):
        x = layers.Dense(128, "relu")(x)
    return keras.Model(inputs, layers.Dense(1)(x))


def word_vectors(width=32):
    """Scores of words as neighbours of the first one: products of vectors from two tables."""
    inputs = keras.Input((2 + data.NEGATIVES,), dtype="int32")
    of_word = layers.Embedding(data.WORDS, width, "glorot_uniform", name="words")(inputs[:, :1])
    of_neighbours = layers.Embedding(data.WORDS, width, "glorot_uniform", name="neighbours")(inputs[:, 1:])
    return keras.Model(inputs, ops.sum(of_word * of_neighbours, axis=-1))


class Waves(layers.Layer):
    """Sines and cosines of the coordinates, with fixed random frequencies."""

    def build(self, shape):
        normal = keras.initializers.RandomNormal(stddev=8.0, seed=1)
        self.frequencies = self.add_weight(shape=(shape[-1], 32), initializer=normal, trainable=False)

    def call(self, x):
        angles = ops.matmul(x, self.frequencies)
        return ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)


def coordinate_net():
    hidden = [layers.Dense(64, "relu") for _ in range(3)]
    return keras.Sequential([keras.Input((2,)), Waves(), *hidden, layers.Dense(3)])


_ALL = (
    Workload("digits", "convolution, images of digits", data.digits, digits_net, cross_entropy, 64, 450),
    Workload("mnist1d", "convolution, MNIST-1D", data.mnist1d, mnist1d_net, cross_entropy, 100, 1200),
    Workload("text", "transformer, bytes of text", data.texts, transformer, cross_entropy, 16, 400),
    Workload("diamonds", "dense layers and embeddings, prices", data.diamonds, prices_net, squares, 512, 1000),
    Workload("words", "embeddings of words", data.words, word_vectors, negative_sampling, 256, 1000),
    Workload("picture", "dense layers, pixels by coordinates", data.picture, coordinate_net, squares, 2048, 1500),
    Workload(
        "digits-large-batch",
        "digits in batches of 1,024, with LayerNormalization",
        data.digits,
        lambda: digits_net(normalized=True),
        cross_entropy,
        1024,
        450,
        "digits",
    ),
    Workload("text-wide", "text, twice as wide", data.texts, lambda: transformer(128), cross_entropy, 16, 400, "text"),
)
WORKLOADS = {workload.name: workload for workload in _ALL}
TUNED = tuple(workload.name for workload in _ALL if workload.settings_of is None)
