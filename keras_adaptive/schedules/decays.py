"""Learning rate schedules, for `learning_rate` and for `weight_decay`; `OneCycle` has its own file.

In the equations, k is the number of updates before this one: 0 for the first update.
"""

import keras
from keras import ops

from keras_adaptive.core import checks
from keras_adaptive.core.schedule import Schedule, floating, passed, warmed_up


@keras.saving.register_keras_serializable(package="keras_adaptive")
class WarmupSchedule(Schedule):
    """A linear warm-up in front of any schedule.

    With w = warmup_steps, s = start and k from 0:

        k < w:                   eta = s + (schedule(0) - s) k / w
        k >= w, counts "after":  eta = schedule(k - w)
        k >= w, counts "with":   eta = schedule(k)

    "after" is the form of the TensorFlow implementations of LARS: the schedule starts from its peak after the warm-up.
    "with" is the form of BERT, and of LAMB for BERT: the schedule counts the warm-up too, so after the warm-up the rate
    falls at once to schedule(w).

    Args:
        schedule: the schedule after the warm-up: a real number of at least 0 or a LearningRateSchedule.
        warmup_steps: w, a whole number of updates of at least 0; with 0 there is no warm-up.
        start: s, the rate of the first update, at least 0. Default 0.0.
        counts: "after" or "with": whether the schedule counts updates after the warm-up, or with it. Default "after".

    Raises:
        ValueError, TypeError: for an argument out of range or of the wrong kind.

    Source: Goyal et al., 2017 (gradual warm-up); You, Gitman and Ginsburg, 2017; Devlin et al., NAACL 2019.

    Example:

    >>> schedule = WarmupSchedule(PolynomialDecay(0.8, decay_steps=4, power=2.0), warmup_steps=4)
    >>> [round(float(schedule(k)), 4) for k in range(9)]
    [0.0, 0.2, 0.4, 0.6, 0.8, 0.45, 0.2, 0.05, 0.0]
    """

    arguments = {
        "schedule": checks.number_or_schedule,
        "warmup_steps": checks.natural,
        "start": checks.nonnegative,
        "counts": checks.one_of("after", "with"),
    }

    def __init__(self, schedule, warmup_steps, start=0.0, counts="after"):
        super().__init__(schedule=schedule, warmup_steps=warmup_steps, start=start, counts=counts)

    def _scheduled(self, k):
        return floating(self.schedule(k) if checks.is_schedule(self.schedule) else self.schedule)

    def at(self, k):
        zero, w = ops.zeros_like(k), self.warmup_steps
        if self.counts == "with":
            return warmed_up(k, w, self.start, self._scheduled(zero), self._scheduled(k))
        then = self._scheduled(ops.where(k > w, k - w, zero))
        # Until the warm-up is over, this is schedule(0), its peak.
        return warmed_up(k, w, self.start, then, then)


@keras.saving.register_keras_serializable(package="keras_adaptive")
class PolynomialDecay(Schedule):
    """From a learning rate to another in `decay_steps` updates, along a polynomial.

        eta = end + (learning_rate - end) (1 - min(k, decay_steps) / decay_steps)^power

    LARS decays with power 2 until the end of training, LAMB and BERT with power 1, all after a `WarmupSchedule`. For
    BERT, decay_steps is the number of all updates, with `counts="with"`. TensorFlow's LARS has one decay step more than
    there are updates after the warm-up, and ends at 0.0001.

    Args:
        learning_rate: the rate at k = 0: a real number of at least 0.
        decay_steps: a whole number of updates of at least 1, after which the rate is `end`.
        end: the last rate, at least 0. Default 0.0.
        power: the exponent, above 0. Default 1.0.

    Raises:
        ValueError, TypeError: for an argument out of range or of the wrong kind.

    Source: You, Gitman and Ginsburg, 2017; You et al., ICLR 2020.

    Example:

    >>> schedule = WarmupSchedule(PolynomialDecay(0.8, decay_steps=8), warmup_steps=4, counts="with")
    >>> [round(float(schedule(k)), 4) for k in range(9)]
    [0.0, 0.2, 0.4, 0.6, 0.4, 0.3, 0.2, 0.1, 0.0]
    """

    arguments = {
        "learning_rate": checks.nonnegative,
        "decay_steps": checks.count,
        "end": checks.nonnegative,
        "power": checks.positive,
    }

    def __init__(self, learning_rate, decay_steps, end=0.0, power=1.0):
        super().__init__(learning_rate=learning_rate, decay_steps=decay_steps, end=end, power=power)

    def at(self, k):
        left = 1.0 - passed(k, 0, self.decay_steps)
        return self.end + (self.learning_rate - self.end) * left**self.power


@keras.saving.register_keras_serializable(package="keras_adaptive")
class WarmupStableDecay(Schedule):
    """Warm-up, a long stable phase that can be made longer at any time, and a short decay.

    With w = warmup_steps, b = w + stable_steps, p = (k - b) / decay_steps, limited to [0, 1], and s = start:

        k < w:   eta = s + (learning_rate - s) k / w
        k >= w:  eta = end + (learning_rate - end) (1 - p)            shape "linear"
                 eta = end + (learning_rate - end) (1 - sqrt(p))      shape "1-sqrt"

    Args:
        learning_rate: the rate of the stable phase: a real number of at least 0.
        warmup_steps: a whole number of updates of at least 0.
        stable_steps: a whole number of updates of at least 0.
        decay_steps: a whole number of updates of at least 1, after which the rate is `end`.
        shape: "linear" or "1-sqrt". Default "linear".
        start: the rate of the first update, at least 0. Default 0.0.
        end: the last rate, at least 0. Default 0.0.

    Raises:
        ValueError, TypeError: for an argument out of range or of the wrong kind.

    Source: Hu et al., 2024 (MiniCPM); the decay "1-sqrt": Hägele et al., NeurIPS 2024.

    Example:

    >>> schedule = WarmupStableDecay(0.8, warmup_steps=2, stable_steps=2, decay_steps=4, shape="1-sqrt")
    >>> [round(float(schedule(k)), 4) for k in range(9)]
    [0.0, 0.4, 0.8, 0.8, 0.8, 0.4, 0.2343, 0.1072, 0.0]
    """

    arguments = {
        "learning_rate": checks.nonnegative,
        "warmup_steps": checks.natural,
        "stable_steps": checks.natural,
        "decay_steps": checks.count,
        "shape": checks.one_of("linear", "1-sqrt"),
        "start": checks.nonnegative,
        "end": checks.nonnegative,
    }

    def __init__(self, learning_rate, warmup_steps, stable_steps, decay_steps, shape="linear", start=0.0, end=0.0):
        super().__init__(
            learning_rate=learning_rate,
            warmup_steps=warmup_steps,
            stable_steps=stable_steps,
            decay_steps=decay_steps,
            shape=shape,
            start=start,
            end=end,
        )

    def at(self, k):
        p = passed(k, self.warmup_steps + self.stable_steps, self.decay_steps)
        left = 1.0 - (p if self.shape == "linear" else ops.sqrt(p))
        then = self.end + (self.learning_rate - self.end) * left
        return warmed_up(k, self.warmup_steps, self.start, self.learning_rate, then)


@keras.saving.register_keras_serializable(package="keras_adaptive")
class InverseSquareRoot(Schedule):
    """A rate that falls with the root of the number of updates, and has no end.

    With t = k + 1, the number of the update counted from 1, and w = warmup_steps:

        t < w:   eta = learning_rate t / w           warmup "linear"
                 eta = learning_rate                 warmup "constant"
        t >= w:  eta = learning_rate sqrt(w / t)

    The Transformer's schedule is `InverseSquareRoot((d * w) ** -0.5, w)` for models of width d. T5's is
    `InverseSquareRoot(0.01, 10000, "constant")`. With w = 1 it is the alpha / sqrt(t) of the proofs for Adam and
    AMSGrad.

    Args:
        learning_rate: the largest rate, at t = w: a real number of at least 0.
        warmup_steps: w, a whole number of updates of at least 1. Default 1.
        warmup: "linear" or "constant". Default "linear".

    Raises:
        ValueError, TypeError: for an argument out of range or of the wrong kind.

    Source: Vaswani et al., NeurIPS 2017; Raffel et al., JMLR 2020 (T5).

    Example:

    >>> schedule = InverseSquareRoot(0.8, warmup_steps=4)
    >>> [round(float(schedule(k)), 4) for k in (0, 1, 2, 3, 15, 63)]
    [0.2, 0.4, 0.6, 0.8, 0.4, 0.2]
    """

    arguments = {
        "learning_rate": checks.nonnegative,
        "warmup_steps": checks.count,
        "warmup": checks.one_of("linear", "constant"),
    }

    def __init__(self, learning_rate, warmup_steps=1, warmup="linear"):
        super().__init__(learning_rate=learning_rate, warmup_steps=warmup_steps, warmup=warmup)

    def at(self, k):
        x = floating(k + 1) / self.warmup_steps
        before = x if self.warmup == "linear" else ops.ones_like(x)
        return self.learning_rate * ops.where(x < 1.0, before, 1.0 / ops.sqrt(x))
