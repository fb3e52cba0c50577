"""Callbacks for long trainings: checkpoints after every epoch, to resume bit for bit, and timing."""

import json
import os
import time

import keras
from options import refuse


class Checkpoint(keras.callbacks.Callback):
    """Saves weights, the optimizer's state and the history of all epochs in a folder; without one, only the history.

    `training.json` is written last and in one piece, and names its file of weights. So a run that is killed at any time
    leaves either the last epoch or the one before. `settings` are saved too; a resumed run with others is refused.
    """

    def __init__(self, folder, settings, is_chief=True):
        super().__init__()
        self.folder, self.settings, self.is_chief, self.history = folder, settings, is_chief, {}

    def restore(self, model):
        """Restores the last saved epoch into the model; returns the number of epochs."""
        if self.folder is None:
            return 0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self.is_chief and not os.access(self.folder, os.W_OK):
                refuse(f"--checkpoint must be a folder that can be written. Received: {self.folder}")
            if not (self.folder / "training.json").exists():
                return 0
            text = (self.folder / "training.json").read_text()
        except OSError as error:
            refuse(f"--checkpoint must be a folder that can be written: {error}")
        kept = json.loads(text)
        for name, value in self.settings.items():
            if kept["settings"].get(name) != value:
                option = "--" + name.replace("_", "-")
                refuse(f"{self.folder} has a training with {option} {kept['settings'].get(name)}. Received: {value}")
        model.optimizer.build(model.trainable_variables)
        model.load_weights(self.folder / kept["weights"])
        if not model.optimizer.restored.complete:
            raise RuntimeError(f"{self.folder / kept['weights']} lacks state: {model.optimizer.restored}")
        self.history = kept["history"]
        return len(self.history["loss"])

    def on_epoch_end(self, epoch, logs=None):
        for name, value in logs.items():
            self.history.setdefault(name, []).append(float(value))
        if self.folder is None or not self.is_chief:
            return
        weights = self.folder / f"epoch-{epoch + 1}.weights.h5"
        self.model.save_weights(weights)
        new = self.folder / "training.json.new"
        new.write_text(json.dumps({"weights": weights.name, "history": self.history, "settings": self.settings}))
        os.replace(new, self.folder / "training.json")
        for old in self.folder.glob("epoch-*.weights.h5"):
            if old != weights:
                old.unlink()


class SameOnReplicas(keras.callbacks.Callback):
    """Sets variables that are not trained to their mean over all replicas, before they are tested and saved.

    On TensorFlow each replica has moving averages of its part of the batches (BatchNormalization), and a file holds
    those of only one replica. So a resumed training would continue with other values.
    """

    def on_test_begin(self, logs=None):
        if keras.backend.backend() != "tensorflow" or self.model.distribute_strategy.num_replicas_in_sync == 1:
            return
        import tensorflow as tf

        strategy = self.model.distribute_strategy
        averages = [each.value for each in self.model.non_trainable_variables if each.value.dtype.is_floating]

        @tf.function
        def on_replicas():
            return strategy.run(lambda: [variable.read_value() for variable in averages])

        with strategy.scope():
            for variable, values in zip(averages, on_replicas(), strict=True):
                variable.assign(strategy.reduce(tf.distribute.ReduceOp.MEAN, values, axis=None))


class Speed(keras.callbacks.Callback):
    """Adds the examples per second to the logs of an epoch.

    The time does not include the test, nor the first step, which is compiled, unless it is the only one.
    """

    def __init__(self, batch_size, steps):
        super().__init__()
        self.batch_size, self.steps = batch_size, steps

    def on_epoch_begin(self, epoch, logs=None):
        self.first = self.last = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        if batch in (0, self.steps - 1):
            float(logs["loss"])  # which waits for the device
            self.last = time.perf_counter()
        if batch == 0 and self.steps > 1:
            self.first = self.last

    def on_epoch_end(self, epoch, logs=None):
        logs["images_per_second"] = max(1, self.steps - 1) * self.batch_size / (self.last - self.first)


class Clock(keras.callbacks.Callback):
    """The seconds of each step, in `seconds`; the first one is compiled."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_train_batch_begin(self, batch, logs=None):
        self.begin = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        float(logs["loss"])  # which waits for the device
        self.seconds.append(time.perf_counter() - self.begin)
