"""Comparisons about state: a run resumed from a file, and the weights at which a model is validated."""

import functools
import tempfile
import warnings
from pathlib import Path

import keras
import numpy as np
from compared_lab import (
    LIBRARIES,
    OURS,
    OURS_TOO,
    THEIRS,
    Comparison,
    Difference,
    Row,
    curve,
    digits,
    finish,
    flat,
    outputs,
)
from lecture_lab import batches, dense

import keras_adaptive


class ResumedAfterUnfreezing(Difference):
    """The saved state lacks the layer that was frozen; Keras then loads none of it, the count of updates neither."""

    title = "Resumed from a file after a layer was unfrozen"
    unit = "difference from a run never stopped"
    measured = (
        "Digits, dense layers 64-64-64-10, SGD with momentum 0.9 and a rate that falls from 0.1 to 0. The first "
        "layer is frozen for 88 of 176 steps of 64. Then the model is saved, loaded where no layer is frozen "
        "(with a warning by Keras), and trained to the end. In the run that never stops, the first layer has no "
        "gradient for the first 88 steps. The number is the norm of the difference of all weights at the end, "
        "divided by how far that run moved them in the last 88 steps"
    )

    def measure(self, lab):
        half, numbers = lab.few(88, 3), {}
        for name, library in LIBRARIES.items():
            make = functools.partial(_step, lab, library.SGD, 2 * half)
            first, whole = make(frozen=True), make()
            runs = [self._run(seed, half, make, first, whole) for seed in lab.seeds]
            for part, found in zip(("resumed", "never stopped", "difference"), zip(*runs, strict=True), strict=True):
                numbers[f"{name} {part}"] = np.transpose(found).tolist()
        return numbers

    def _run(self, seed, half, make, first, whole):
        """The test losses after each step, resumed and never stopped, and the difference of the weights at the end."""
        training, test = digits()
        everything = list(batches(64, 2 * half, seed, *training))
        for step in (first, whole):
            step.restart(seed)
        gate = whole.model.get_layer("gate").open
        gate.assign(0.0)
        for batch in everything[:half]:
            first(*batch)
            whole(*batch)
        gate.assign(1.0)
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
            file = str(Path(folder) / "saved.weights.h5")
            first.model.save_weights(file)
            # As in a new process, the optimizer that loads has never trained.
            second = make(file=file)
        start, losses = flat(whole.model), ([], [])
        for batch in everything[half:]:
            for step, found in zip((second, whole), losses, strict=True):
                step(*batch)
                found.append(_loss(step.model, *test))
        moved = np.linalg.norm(flat(whole.model) - start)
        return *losses, [np.linalg.norm(flat(second.model) - flat(whole.model)) / moved]

    def rows(self, numbers):
        of = (numbers[f"{name} difference"][0] for name in LIBRARIES)
        yield Row("SGD resumed after a layer was unfrozen", *of)

    def draw(self, axis, numbers):
        x = np.arange(1, len(numbers["keras resumed"]) + 1)
        curve(axis, x, numbers["keras resumed"], "Keras", THEIRS)
        curve(axis, x, numbers["ours resumed"], "ours", OURS)
        never = np.mean(numbers["ours never stopped"], axis=-1)
        axis.plot(x, never, color="black", linestyle=":", linewidth=1.2, label="never stopped")
        finish(axis, "upper right", xlabel="step after the file was loaded", ylabel="test loss", yscale="log")


class ScheduleFree(Comparison):
    """Schedule-Free trains one set of weights and is to be evaluated at another; Keras cannot do the latter.

    On TensorFlow and torch its update is another one too: its old z is a reference, which holds the new z when it is
    used. The line of ours at the weights that are trained tells the two apart.
    """

    title = "Schedule-Free AdamW: validation during training"
    unit = "validation accuracy"
    measured = (
        "Digits, dense layers 64-64-10, ScheduleFreeAdamW at 0.03, 15 epochs of `fit` with `validation_data` in "
        "batches of 64. Ours has the callback EvaluationWeights. The rows are the mean over the epochs, and the "
        "end. Keras has only the weights that are trained; on TensorFlow and torch its update is not the paper's"
    )

    def measure(self, lab):
        training, test = digits()
        numbers = {}
        for name in ("keras", "ours", "ours trained"):
            found, library = [], LIBRARIES[name.split()[0]]
            for seed in lab.seeds:
                keras.utils.set_random_seed(seed)
                model = dense(64, 64, 10)
                loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
                model.compile(optimizer=library.ScheduleFreeAdamW(0.03), loss=loss, metrics=["accuracy"])
                callbacks = [keras_adaptive.EvaluationWeights()] if name == "ours" else []
                history = model.fit(
                    *training,
                    batch_size=64,
                    epochs=lab.few(15, 1),
                    validation_data=test,
                    validation_batch_size=384,
                    callbacks=callbacks,
                    verbose=0,
                ).history
                found.append(history["val_accuracy"])
            numbers[name] = np.transpose(found).tolist()
        return numbers

    def rows(self, numbers):
        theirs, ours, trained = (np.asarray(numbers[name]) for name in ("keras", "ours", "ours trained"))
        yield Row("Schedule-Free, validation during training", theirs.mean(axis=0), ours.mean(axis=0))
        yield Row("the same, ours at the weights that are trained too", theirs.mean(axis=0), trained.mean(axis=0))
        yield Row("Schedule-Free at the end", theirs[-1], ours[-1])

    def draw(self, axis, numbers):
        x = np.arange(1, len(numbers["keras"]) + 1)
        curve(axis, x, numbers["ours"], "ours, at the average of the weights", OURS)
        curve(axis, x, numbers["ours trained"], "ours, at the weights that are trained", OURS_TOO)
        curve(axis, x, numbers["keras"], "Keras, at the weights that are trained", THEIRS)
        finish(axis, "lower right", xlabel="epoch", ylabel=self.unit)


class Gate(keras.layers.Layer):
    """Hands its input on; no gradient comes back while `open` is 0."""

    def build(self, shape):
        self.open = self.add_weight(shape=(), initializer="ones", trainable=False, name="open")

    def call(self, inputs):
        return self.open * inputs + (1 - self.open) * keras.ops.stop_gradient(inputs)


def _step(lab, sgd, steps, frozen=False, file=None):
    """A step from the weights and the state in that file, if any; names are those of any other process."""
    body = keras.layers.Dense(64, "relu", trainable=not frozen, name="body")
    head = [keras.layers.Dense(64, "relu", name="hidden"), keras.layers.Dense(10, name="head")]
    model = keras.Sequential([keras.Input((64,)), body, Gate(name="gate"), *head], name="net")
    optimizer = sgd(keras.optimizers.schedules.PolynomialDecay(0.1, steps, 0.0), momentum=0.9)
    model.compile(optimizer=optimizer)  # files of the model then hold its state
    optimizer.build(model.trainable_variables)
    if file:
        model.load_weights(file)
    return lab.step(lambda: model, lambda: optimizer)


def _loss(model, inputs, labels):
    """The mean cross-entropy."""
    logits = outputs(model, inputs).astype("float64")
    logits -= logits.max(axis=-1, keepdims=True)
    return float(np.mean(np.log(np.exp(logits).sum(axis=-1)) - logits[np.arange(len(labels)), labels]))
