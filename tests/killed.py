"""Training for 24 steps in epochs of 8. As a script it can kill itself, and resumes from what it saved.

    python killed.py FOLDER HOW KILL_AT OUTPUT      KILL_AT 0: to the end

HOW is "batches" or "epoch" for BackupAndRestore(save_freq=3 or "epoch"), "checkpoint" for ModelCheckpoint of a full
model. Keras begins the epoch again from which it resumes, so where a backup may come from within one, all is one epoch
whose data begin at the step that the optimizer has reached.
"""

import os
import signal
import sys
from pathlib import Path

import keras
import numpy as np
from cases import CASES
from support import Ramp, values

keras.saving.register_keras_serializable(package="tests")(Ramp)
STEPS, EPOCH = 24, 8
# Windows of two micro-batches: a backup after three falls into the middle of one.
OPTIONS = {"use_ema": True, "gradient_accumulation_steps": 2, "weight_decay": 0.01, "global_clipnorm": 0.5}


class Data(keras.utils.PyDataset):
    """Batch number i of an epoch, the same in every run, from batch `start` on."""

    def __init__(self, length):
        super().__init__()
        self.start, self.length = 0, length

    def __len__(self):
        return self.length

    def __getitem__(self, i):
        rng = np.random.default_rng((i + self.start) % EPOCH)
        return rng.normal(size=(4, 3)).astype("float32"), rng.normal(size=(4, 1)).astype("float32")


class Steps(keras.callbacks.Callback):
    """Begins the data where the optimizer is, ends after all steps, and kills the process after `kill_at` of them."""

    def __init__(self, data, kill_at):
        super().__init__()
        self.data, self.kill_at = data, kill_at

    def done(self):
        optimizer = self.model.optimizer
        return int(values([optimizer.iterations])[0]) * 2 + int(values([optimizer.window_position])[0])

    def on_train_begin(self, logs=None):
        print(f"begins after {self.done()} steps")
        if self.data.length == STEPS:
            self.data.start = self.done()

    def on_train_batch_end(self, batch, logs=None):
        if self.kill_at and self.done() == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.done() == STEPS:
            self.model.stop_training = True


def model_of(case):
    keras.utils.set_random_seed(91)
    layers = [keras.Input((3,)), keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(optimizer=case.make(Ramp(0.1), **OPTIONS), loss="mse")
    model.optimizer.build(model.trainable_variables)
    return model


def train(case, folder, how, kill_at):
    """All variables at the end."""
    folder = Path(folder) / case.name
    folder.mkdir(exist_ok=True)
    model, epochs = model_of(case), STEPS // EPOCH
    data = Data(EPOCH if how == "epoch" else STEPS)
    if how == "checkpoint":
        saved = folder / "model.keras"
        if saved.exists():
            model = keras.models.load_model(saved)
            assert model.optimizer.restored.complete
        keeps = keras.callbacks.ModelCheckpoint(str(saved), save_freq=5)
    else:
        keeps = keras.callbacks.BackupAndRestore(str(folder / "backup"), save_freq=3 if how == "batches" else "epoch")
    callbacks = [keeps, Steps(data, kill_at)]
    model.fit(data, epochs=epochs if how == "epoch" else 1, callbacks=callbacks, verbose=0, shuffle=False)
    assert callbacks[1].done() == STEPS
    return values([*model.variables, *model.optimizer.variables])


if __name__ == "__main__":
    folder, how, kill_at, output = sys.argv[1:]
    for case in CASES[-1:]:
        np.savez(output, *train(case, folder, how, int(kill_at)))
