"""Trains with examples/loop.py, restarts with two seeds, and prints the final weights of each training."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

import strategies
from options import Parser

# ruff: noqa: E402 (Keras takes its backend when it is imported)
arguments = Parser("A test.").parse()
strategies.choose_backend(arguments.strategy, arguments.replicas)

import keras
import loop
import numpy as np
from keras import layers, ops

import keras_adaptive

RANDOM = np.random.default_rng(3)
WORDS = RANDOM.integers(0, 5, size=(6, 8, 3))
TARGETS = RANDOM.normal(size=(6, 8, 1)).astype("float32")
RATES = [0.1, 0.1, 0.1, 0.02, 0.02, 0.02]


def losses(outputs, targets):
    return ops.mean(ops.square(outputs - targets), axis=-1)


def network():
    """With a state that is not trained: the moving averages of the normalization."""
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            layers.Input((3,), dtype="int32"),
            layers.Embedding(5, 4),
            layers.Flatten(),
            layers.BatchNormalization(synchronized=replicated),
            layers.Dense(1),
        ]
    )


def train(step, optimizer):
    for words, targets, rate in zip(WORDS, TARGETS, RATES, strict=True):
        optimizer.learning_rate = rate
        loss = step(words, targets)
    return float(loss)


def weights(model):
    return np.concatenate([np.ravel(each) for each in model.get_weights()]).tolist()


devices = strategies.start(arguments)
# On JAX the batch is one array, and its statistics are of all devices in any case.
replicated = keras.backend.backend() == "tensorflow" and devices.replicas > 1
with devices.scope:
    model, optimizer = network(), keras_adaptive.Adam(0.5)
    step = loop.Step(model, optimizer, losses, devices)
ends = {"loss": train(step, optimizer), "first": weights(model)}
for name, seed in (("other", 2), ("again", 1)):
    step.restart(seed)
    train(step, optimizer)
    ends[name] = weights(model)
if devices.replicas == 1:
    model = network()
    model.compile(optimizer=keras_adaptive.Adam(), loss="mse")
    train(model.train_on_batch, model.optimizer)
    ends["keras"] = weights(model)
print(json.dumps(ends))
