"""Comparisons on a MirroredStrategy of two logical CPUs: clipping, and an infinity on one of the replicas."""

import contextlib

import keras
import numpy as np
from compared_lab import LIBRARIES, OURS, THEIRS, Comparison, Difference, Row, curve, digits, finish, flat, tested
from lecture_lab import Lab, batches, cross_entropy, dense
from strategies import Devices

import keras_adaptive


class ClippingOnReplicas(Difference):
    """Keras clips each replica's gradient before they are summed."""

    title = "Clipping on 2 replicas: the numbers of one device?"
    unit = "difference from one device"
    measured = (
        "Digits, dense layers 64-64-10, SGD at 0.1 with momentum 0.9 and `global_clipnorm=0.5`. 60 steps of 64 "
        "run on a MirroredStrategy of 2 logical CPUs, and on one device. The number is the norm of the difference "
        "of all weights, divided by how far one device moved them"
    )

    def measure(self, lab):
        steps, alone = lab.few(60, 4), Lab(Devices("cpu", 1, contextlib.nullcontext()), lab.seeds, lab.quick)
        given = {"learning_rate": 0.1, "momentum": 0.9, "global_clipnorm": 0.5}
        training, _ = digits()
        numbers = {}
        for name, library in LIBRARIES.items():
            both = [each.step(lambda: dense(64, 64, 10), library.SGD, **given) for each in (lab, alone)]
            found = []
            for seed in lab.seeds:
                paths = [_path(step, seed, batches(64, steps, seed, *training)) for step in both]
                found.append(_shares(*paths))
            numbers[name] = np.transpose(found).tolist()
        return numbers

    def rows(self, numbers):
        yield Row("`global_clipnorm` on 2 replicas", numbers["keras"][-1], numbers["ours"][-1])

    def draw(self, axis, numbers):
        x = np.arange(1, len(numbers["keras"]) + 1)
        curve(axis, x, numbers["keras"], "Keras", THEIRS)
        curve(axis, x, numbers["ours"], "ours", OURS)
        finish(axis, "center right", xlabel="step", ylabel=self.unit, yscale="log", ylim=(1e-8, 10))


class InfinityOnOneReplica(Comparison):
    """One pixel is too large for float16, so the gradients of one replica are not finite in one step."""

    title = "An infinity on one of 2 replicas, in float16"
    unit = "test accuracy"
    measured = (
        "Digits, dense layers 64-64-10 with the policy mixed_float16, 8 epochs in batches of 64 on 2 logical "
        'CPUs. Adam at 0.001 in Keras\'s LossScaleOptimizer, ours with `loss_scale_factor="dynamic"`. In the first '
        "batch of epoch 4 one pixel is 100000, which float16 cannot hold"
    )

    def measure(self, lab):
        before, count = lab.few((3, 8), (1, 2))
        kinds = {
            "keras": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()),
            "ours": lambda: keras_adaptive.Adam(loss_scale_factor="dynamic"),
            "ours wrapped": lambda: keras.optimizers.LossScaleOptimizer(keras_adaptive.Adam()),
        }
        found = {name: list(self._accuracies(lab, make, before, count)) for name, make in kinds.items()}
        return {"before": before} | {name: np.transpose(values).tolist() for name, values in found.items()}

    def _accuracies(self, lab, make, before, count):
        """By seed and epoch, from that of the initial weights on."""
        training, test = digits()
        with lab.devices.scope:
            optimizer = make()

        def scaled(logits, labels):
            return optimizer.scale_loss(cross_entropy(logits, labels))

        step = lab.step(lambda: dense(64, 64, 10, dtype="mixed_float16"), lambda: optimizer, scaled)
        whole = 1408 // 64
        for seed in lab.seeds:
            step.restart(seed)
            found = [tested(step.model, *test)]
            for i, (inputs, labels) in enumerate(batches(64, count * whole, seed, *training)):
                if i == before * whole:
                    inputs[-1, 20] = 1e5
                step(inputs, labels)
                if (i + 1) % whole == 0:
                    found.append(tested(step.model, *test))
            yield found

    def rows(self, numbers):
        yield Row("an infinity on 1 of 2 replicas", numbers["keras"][-1], numbers["ours"][-1])
        where = "the same, ours in Keras's LossScaleOptimizer too"
        yield Row(where, numbers["keras"][-1], numbers["ours wrapped"][-1])

    def draw(self, axis, numbers):
        x = np.arange(len(numbers["keras"]))
        curve(axis, x, numbers["ours"], "ours, dynamic loss scale", OURS)
        curve(axis, x, numbers["keras"], "Keras, LossScaleOptimizer", THEIRS)
        axis.axvline(numbers["before"], color="black", linestyle=":", linewidth=1)
        axis.text(numbers["before"] - 0.1, 0.02, "the infinity", fontsize="small", ha="right")
        finish(axis, (0.52, 0.35), xlabel="epoch", ylabel=self.unit, ylim=(0, 1.05))


def _path(step, seed, some):
    """All weights in one vector, before the first and after every step."""
    step.restart(seed)
    return [flat(step.model), *(flat(step.model) for batch in some if step(*batch) is not None)]


def _shares(path, reference):
    """The distance from the reference after every step, as a share of how far that has moved."""
    path, reference = np.array(path), np.array(reference)
    distances = np.linalg.norm(path - reference, axis=1)
    return (distances[1:] / np.linalg.norm(reference - reference[0], axis=1)[1:]).tolist()
