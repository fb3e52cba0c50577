"""Learning rates and warm-ups for large batches: the scaling rules, and published recipes."""

import math
from typing import Any, NamedTuple

from keras_adaptive.core import checks
from keras_adaptive.core.backends import running as backends

_MLPERF_RESNET50_LARS = {
    # batch: learning rate, warm-up epochs, momentum, weight decay
    1632: (7.4, 2, 0.9, 5e-5),
    3264: (10.5, 2, 0.9, 5e-5),
    4096: (10.0, 5, 0.9, 2e-4),
    8192: (17.0, 5, 0.9, 2e-4),
    13056: (12.8, 9, 0.9, 2.5e-5),
    32768: (21.2, 16, 0.94, 2.5e-5),
    49152: (19.405, 24, 0.951807, 1e-4),
    58880: (23.246, 29, 0.951807, 1e-4),
    65536: (24.699, 31, 0.951807, 1e-4),
}
_MLPERF_BERT_LAMB = {
    # batch: learning rate, training steps, beta_1, beta_2, weight decay
    256: (3.5e-4, 13700, 0.9, 0.999, 0.01),
    448: (4.25e-4, 6700, 0.9, 0.999, 0.01),
    1536: (2e-3, 2254, 0.66, 0.996, 0.01),
    4096: (2.4e-3, 855, 0.66, 0.998, 0.01),
    4608: (3.5e-3, 700, 0.62, 0.9, 0.01),
}


def _lars_on_tpu(batch):
    if 16384 < batch < 32768:
        return None
    peak, epochs = (25.0, 5) if batch <= 16384 else (34.0, 12) if batch == 32768 else (41.0, 16)
    return {"learning_rate": peak, "warmup_epochs": epochs, "power": 2.0}


def _rows(table, *names):
    return lambda batch: dict(zip(names, table[batch], strict=True)) if batch in table else None


# The batches that each recipe is published for, and a function that returns the recipe of a batch.
_RECIPES = {
    "resnet50-lars-tpu": ("up to 16384, 32768 and above", _lars_on_tpu),
    "resnet50-lars-mlperf": (
        str(list(_MLPERF_RESNET50_LARS)),
        _rows(_MLPERF_RESNET50_LARS, "learning_rate", "warmup_epochs", "momentum", "weight_decay"),
    ),
    "bert-lamb-mlperf": (
        str(list(_MLPERF_BERT_LAMB)),
        _rows(_MLPERF_BERT_LAMB, "learning_rate", "training_steps", "beta_1", "beta_2", "weight_decay"),
    ),
    "albert-lamb": (
        "[4096]",
        _rows({4096: (0.00176, 3125, 125000)}, "learning_rate", "warmup_steps", "training_steps"),
    ),
}
_NAME = checks.one_of(*_RECIPES)


@backends.opaque
def recipe(name: str, batch: int) -> dict[str, Any]:
    """The published hyperparameters of a large-batch training, by name.

    Args:
        name: one of

            "resnet50-lars-tpu": TensorFlow's ResNet-50 for TPU, LARS. Decay with power 2.
            "resnet50-lars-mlperf": MLPerf's reference points for ResNet-50 and LARS. Decay with power 2.
            "bert-lamb-mlperf": MLPerf's reference points for BERT-Large and LAMB, starting from a checkpoint and
                without warm-up. Linear decay, epsilon 1e-6.
            "albert-lamb": ALBERT's pretraining.

        batch: the number of examples per update, one that there is a recipe for.

    Returns:
        A dictionary with "learning_rate" (the peak), "warmup_epochs" or "warmup_steps" if there is a warm-up, and the
        other published hyperparameters.

    Raises:
        ValueError, TypeError: for an unknown name, or a batch that the recipe is not published for.

    Source: tensorflow/tpu, models/official/resnet/lars_util.py; mlcommons/logging, reference convergence points of
    training 2.0 and 2.1; Lan et al., ICLR 2020.

    Example:

    >>> recipe("resnet50-lars-tpu", 32768)
    {'learning_rate': 34.0, 'warmup_epochs': 12, 'power': 2.0}
    >>> recipe("resnet50-lars-mlperf", 8192)
    {'learning_rate': 17.0, 'warmup_epochs': 5, 'momentum': 0.9, 'weight_decay': 0.0002}
    >>> recipe("bert-lamb-mlperf", 1536)["beta_1"]
    0.66
    """
    published, row = _RECIPES[_NAME("name", name)]
    found = row(checks.count("batch", batch))
    if found is None:
        raise ValueError(f"`batch` must be what {name!r} is published for: {published}. Received: batch={batch!r}")
    return found


@backends.opaque
def scale_learning_rate(base, base_batch, batch, rule="linear"):
    """The learning rate for another batch size.

        "linear":  eta = base batch / base_batch              momentum SGD (Goyal et al., 2017)
        "sqrt":    eta = base sqrt(batch / base_batch)        Adam's family, LAMB (You et al., ICLR 2020)

    Args:
        base: the learning rate that was tuned: a finite real number above 0.
        base_batch: the number of examples per update that it was tuned for, at least 1.
        batch: the number of examples per update now, at least 1.
        rule: "linear" or "sqrt". Default "linear".

    Returns:
        The learning rate, a Python number.

    Raises:
        ValueError, TypeError: for an argument out of range or of the wrong kind.

    Example: CowClip's DeepFM from 1k to 128k examples, whose published rate is 90.5e-4.

    >>> round(scale_learning_rate(8e-4, 1024, 128 * 1024, rule="sqrt"), 5)
    0.00905
    >>> scale_learning_rate(0.1, 256, 8192)
    3.2
    """
    base = checks.positive("base", base)
    ratio = checks.count("batch", batch) / checks.count("base_batch", base_batch)
    return base * (ratio if checks.one_of("linear", "sqrt")("rule", rule) == "linear" else math.sqrt(ratio))


class Warmup(NamedTuple):
    """The result of `legw`: the peak, and the warm-up in updates and in epochs."""

    learning_rate: float
    warmup_steps: int
    warmup_epochs: float


@backends.opaque
def legw(learning_rate, warmup_epochs, base_batch, batch, examples):
    """Linear-epoch gradual warm-up: the hyperparameters of a larger batch from those of a small, tuned batch.

    With s = batch / base_batch:

        learning rate = learning_rate sqrt(s),   warm-up epochs = warmup_epochs s

    An epoch has s times fewer updates, so the warm-up has as many updates as before. The decay stays that of the small
    batch, counted in epochs.

    Args:
        learning_rate: the peak that was tuned: a finite real number above 0.
        warmup_epochs: the warm-up that was tuned, in epochs, at least 0.
        base_batch: the number of examples per update that they were tuned for, at least 1.
        batch: the number of examples per update now, at least 1.
        examples: the number of examples per epoch, at least 1.

    Returns:
        A named tuple: learning_rate, warmup_steps, warmup_epochs.

    Raises:
        ValueError, TypeError: for an argument out of range or of the wrong kind.

    Source: You, Hseu, Ying, Demmel, Keutzer and Hsieh, 2019.

    Example:

    >>> from keras_adaptive import SGD, PolynomialDecay, WarmupSchedule
    >>> warmup = legw(0.1, 0.5, base_batch=128, batch=2048, examples=51200)
    >>> print(warmup)
    Warmup(learning_rate=0.4, warmup_steps=200, warmup_epochs=8.0)
    >>> decay = PolynomialDecay(warmup.learning_rate, decay_steps=2050, power=2.0)
    >>> optimizer = SGD(WarmupSchedule(decay, warmup.warmup_steps), momentum=0.9)
    """
    peak = scale_learning_rate(checks.positive("learning_rate", learning_rate), base_batch, batch, "sqrt")
    epochs = checks.nonnegative("warmup_epochs", warmup_epochs) * scale_learning_rate(1.0, base_batch, batch)
    updates = checks.count("examples", examples) / batch
    return Warmup(peak, round(epochs * updates), epochs)
