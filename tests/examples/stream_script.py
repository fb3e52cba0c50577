"""Trains by `fit` on numbered examples, and prints which of them each replica of this process took in each step.

    python stream_script.py CASES [options of an example]

A case is SOURCE:EPOCH, which begins with that epoch. The sources: "index" and "records" of examples/crops.py, "images"
for the data of train_image.py, "text" for those of train_text.py; "generator" for a Python generator, which `fit` must
not be given under a strategy.
"""

import json
import sys
import types
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

import strategies
from options import Parser

# ruff: noqa: E402 (Keras takes its backend when it is imported)
CASES = sys.argv.pop(1).split(",")
arguments = Parser("A test.").parse()
strategies.choose_backend(arguments.strategy, arguments.replicas)

import crops
import data
import keras
import numpy as np
import streams
import text
from keras import ops

EXAMPLES, TESTS, BATCH, STEPS, EPOCHS = 22, 6, 4, 5, 3


class Numbered:
    """Examples whose label is their number."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return {"image": np.full((8, 9, 1), index, np.uint8), "label": index}


class Builder:
    """The same as a builder of tensorflow-datasets has them, whose examples cannot be read by index."""

    SPLITS = {"train": EXAMPLES, "test": TESTS}
    info = types.SimpleNamespace(
        file_format=None,
        splits={name: types.SimpleNamespace(num_examples=count) for name, count in SPLITS.items()},
        features={"image": types.SimpleNamespace(decode_example=lambda image: image)},
    )

    def as_dataset(self, split, decoders):
        import tensorflow as tf

        labels = np.arange(self.SPLITS[split])
        images = np.broadcast_to(labels[:, None, None, None].astype("uint8"), (len(labels), 8, 9, 1))
        return tf.data.Dataset.from_tensor_slices({"image": images, "label": labels})


class Windows(text.Windows):
    """Windows of one byte, whose labels are where they begin."""

    def __init__(self):
        super().__init__(np.arange(EXAMPLES + 1), 1, BATCH, STEPS, 3)

    def __getitem__(self, index):
        inputs, _ = super().__getitem__(index)
        return inputs, np.eye(EXAMPLES, dtype="float32")[inputs[:, 0]]


class Counter(keras.Model):
    """Its weights are how often it was trained on each example. On TensorFlow it notes when and where."""

    def __init__(self):
        super().__init__()
        self.counts = self.add_weight(shape=(EXAMPLES,), initializer="zeros", name="counts")
        self.taken = {"train": {}, "test": {}}

    def call(self, inputs):
        return ops.broadcast_to(self.counts, (ops.shape(inputs)[0], EXAMPLES))

    def train_step(self, *state):
        """What `fit` calls for a batch."""
        self.note("train", state[-1][1])
        return super().train_step(*state)

    def test_step(self, *state):
        """What `fit` calls for a batch of validation data: no test of pytest. test_streams.py reads what it notes."""
        self.note("test", state[-1][1])
        return super().test_step(*state)

    def note(self, which, labels):
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            def write(replica, labels):
                self.taken[which].setdefault(int(replica), []).append(labels.argmax(-1).tolist())

            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            tf.numpy_function(write, (replica, labels), ())


def data_of(source, epoch):
    """What `fit` takes as data."""
    plan = crops.Plan(("image", "label"), EXAMPLES, BATCH, 6, crops.AUGMENTATIONS["imagenet"], seed=3)
    if source == "records":
        labelled = data.Labelled(Builder(), plan.keys, EXAMPLES, "train", "test")
        return crops.streams(labelled, plan, epoch, EPOCHS, STEPS)
    if source == "index":
        return crops.read_by_index(Numbered(EXAMPLES), Numbered(TESTS), plan, epoch, EPOCHS, STEPS)
    if source == "images":
        return {"x": data.Batches(np.zeros((EXAMPLES, 1)), np.eye(EXAMPLES, dtype="float32"), BATCH, 3)}
    if source == "text":
        return {"x": Windows()}
    assert source == "generator"
    train = crops.Crops(Numbered(EXAMPLES), plan)

    def read(number, part, parts):
        return train.batch(*divmod(number, STEPS), part, parts)

    return {"x": streams.in_order(read, range(epoch * STEPS, EPOCHS * STEPS)), "steps_per_epoch": STEPS}


def loss(labels, outputs):
    return -ops.sum(labels * outputs, axis=-1)


devices, ends = strategies.start(arguments), {}
for case in CASES:
    source, epoch = case.split(":")
    with devices.scope:
        model = Counter()
        model.compile(keras.optimizers.SGD(float(BATCH)), loss, jit_compile=False)  # XLA calls no Python
        given = data_of(source, int(epoch))
    model.fit(**given, epochs=EPOCHS, initial_epoch=int(epoch), shuffle=False, verbose=0)
    ends[case] = {"taken": model.taken, "counts": ops.convert_to_numpy(model.counts).tolist()}
print(json.dumps(ends))
