"""Measures for tests/defects.py: what Keras's optimizers lose when they are saved, loaded or given other variables."""

import contextlib
import tempfile
import warnings
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops
from support import difference, is_ours, value, values

X, Y = np.random.default_rng(5).normal(size=(2, 4, 3)).astype("float32")


def model_with(optimizer, frozen=False):
    """Compiled, and built for the variables that it trains. With names, which are those of any other process."""
    keras.utils.set_random_seed(6)
    body = layers.Dense(3, activation="tanh", trainable=not frozen, name="body")
    model = keras.Sequential([keras.Input((3,)), body, layers.Dense(3, name="head")], name="net")
    model.compile(optimizer=optimizer, loss="mse")
    optimizer.build(model.trainable_variables)
    return model


def train(model, steps=3):
    for _ in range(steps):
        model.train_on_batch(X, Y)


@contextlib.contextmanager
def file(name):
    with tempfile.TemporaryDirectory() as folder:
        yield str(Path(folder) / name)


def reloaded(model):
    with file("model.keras") as path:
        model.save(path)
        return keras.models.load_model(path)


def excluded_bias(cls, pattern="bias", after=lambda model: model):
    """How far an update without gradients moves a bias of 1 that is excluded from weight decay."""
    optimizer = cls(learning_rate=0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=[pattern])
    model = model_with(optimizer)
    model.layers[0].bias.assign(np.ones(3))
    model = after(model)
    weights = model.trainable_variables
    model.optimizer.apply([ops.zeros(weight.shape) for weight in weights], weights)
    return float(np.max(np.abs(value(model.layers[0].bias) - 1.0)))


def bias_by_its_end(cls):
    return excluded_bias(cls, "bias$")


def reloaded_exclusion(cls):
    return excluded_bias(cls, after=reloaded)


def excluded_after_a_traced_step(cls):
    """Keras takes it, and it holds for steps that are traced afterwards or not at all."""
    import tensorflow as tf

    optimizer = cls(learning_rate=0.1, weight_decay=0.5)
    model = model_with(optimizer)
    weights, bias = model.trainable_variables, model.layers[0].bias
    step = tf.function(
        lambda: optimizer.apply([tf.zeros(weight.shape) for weight in weights], weights), autograph=False
    )
    step()
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    bias.assign(np.ones(3))
    step()
    return float(np.max(np.abs(value(bias) - 1.0)))


def kernels_ten_times_slower(cls):
    if is_ours(cls):
        from keras_adaptive import Group

        return cls(learning_rate=0.1, groups=[Group("net/.*kernel", learning_rate_multiplier=0.1)])
    slow = keras.optimizers.OptimizerMap(cls(learning_rate=0.1), {"net/.*kernel": cls(learning_rate=0.01)})
    return keras.optimizers.MultiOptimizer(slow)


def reloaded_groups(cls):
    """Trained, reloaded and trained on, against one that went on."""
    model = model_with(kernels_ten_times_slower(cls))
    train(model)
    with warnings.catch_warnings(action="ignore"):
        other = reloaded(model)
    for each in (model, other):
        train(each)
    return difference(values(other.trainable_variables), values(model.trainable_variables))


def pattern_without_a_match(cls):
    if is_ours(cls):
        from keras_adaptive import Group

        optimizer = cls(groups=[Group("kernal")])
    else:
        optimizer = keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(cls(), {".*kernal": cls()}))
    model_with(optimizer)
    return "accepted"


def unfrozen_and_loaded(cls):
    """The layer that was trained before, after three more steps, against one whose state was not saved and loaded."""
    model = model_with(cls(learning_rate=0.1), frozen=True)
    train(model)
    other = model_with(cls(learning_rate=0.1))
    with file("trained.weights.h5") as path, warnings.catch_warnings(action="ignore"):
        model.save_weights(path)
        other.load_weights(path)
    gradients = np.random.default_rng(7).normal(size=(3, 3, 3)).astype("float32")
    for each in (model, other):
        for gradient in gradients:
            bias = ops.convert_to_tensor(gradient[0])
            known = [ops.convert_to_tensor(gradient), bias]
            new = [ops.zeros((3, 3)), ops.zeros(3)] if each is other else []
            each.optimizer.apply([*new, *known], each.trainable_variables)
    return difference(values(other.layers[1].variables), values(model.layers[1].variables))


def unfrozen_and_trained_on(cls):
    model = model_with(cls(), frozen=True)
    train(model)
    model.layers[0].trainable = True
    if is_ours(cls):
        model.optimizer.extend(model.trainable_variables)
    model.compile(optimizer=model.optimizer, loss="mse")
    train(model)
    return "trained"


def truncated_weights(cls):
    optimizer = model_with(cls()).optimizer
    optimizer.set_weights(values(optimizer.variables)[:-1])
    return "accepted"


def truncated_file(cls):
    """A saved state whose last array is missing."""
    optimizer, store = model_with(cls()).optimizer, {}
    optimizer.save_own_variables(store)
    store.popitem()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        optimizer.load_own_variables(store)
    return "left out with a warning" if caught else "accepted"
