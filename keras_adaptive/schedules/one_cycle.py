"""The schedule with one cycle over the full training."""

import itertools
import math

import keras
from keras import ops

from keras_adaptive.core import checks
from keras_adaptive.core.math import numerics
from keras_adaptive.core.schedule import Schedule, floating, passed


@keras.saving.register_keras_serializable(package="keras_adaptive")
class OneCycle(Schedule):
    """One cycle over the whole training: up to a large rate, down again, and far below the first rate at the end.

    With low = learning_rate / initial_divisor and a = warmup_fraction total_steps - 1, the rate goes

        from low at k = 0 to learning_rate at k = a, then
        to low / final_divisor at k = total_steps - 1                                       phases 2
        to low at k = 2 a, to low / final_divisor at k = total_steps - 1                    phases 3

    and stays there. From a rate u to a rate v, while p goes from 0 to 1, shape "linear" is v + (u - v) (1 - p), and
    shape "cosine" is v + (u - v) (1 + cos(pi p)) / 2. The paper's form is `phases=3, shape="linear"`. fastai made the
    other form, and torch's OneCycleLR has both, with these numbers. They also move the momentum the other way; here it
    stays constant.

    Args:
        learning_rate: the largest rate: a real number of at least 0.
        total_steps: the number of updates of the training: a whole number of at least 1.
        warmup_fraction: the fraction of the updates in which the rate rises, above 0 and at most 1. It must leave
            updates for every phase. Default 0.3.
        initial_divisor: learning_rate divided by the first rate, above 0. Default 25.0.
        final_divisor: the first rate divided by the last rate, above 0. Default 10000.0.
        shape: "cosine" or "linear". Default "cosine".
        phases: 2 or 3. Default 2.

    Raises:
        ValueError, TypeError: for an argument out of range or of the wrong kind.

    Source: Smith and Topin, 2017.

    Example:

    >>> schedule = OneCycle(0.8, total_steps=11, warmup_fraction=5 / 11, initial_divisor=4.0, shape="linear", phases=3)
    >>> [round(float(schedule(k)), 4) for k in range(11)]
    [0.2, 0.35, 0.5, 0.65, 0.8, 0.65, 0.5, 0.35, 0.2, 0.1, 0.0]
    """

    arguments = {
        "learning_rate": checks.nonnegative,
        "total_steps": checks.count,
        "warmup_fraction": checks.rate,
        "initial_divisor": checks.positive,
        "final_divisor": checks.positive,
        "shape": checks.one_of("cosine", "linear"),
        "phases": checks.Check("2 or 3", checks.count.convert, lambda x: x in (2, 3)),
    }

    def __init__(
        self,
        learning_rate,
        total_steps,
        warmup_fraction=0.3,
        initial_divisor=25.0,
        final_divisor=1e4,
        shape="cosine",
        phases=2,
    ):
        super().__init__(
            learning_rate=learning_rate,
            total_steps=total_steps,
            warmup_fraction=warmup_fraction,
            initial_divisor=initial_divisor,
            final_divisor=final_divisor,
            shape=shape,
            phases=phases,
        )
        places = [place for place, _ in self._knots()]
        if any(right <= left for left, right in itertools.pairwise(places)):
            raise ValueError(
                "`warmup_fraction` and `total_steps` must leave updates for every phase, which end at "
                f"{places[1:]}. Received: warmup_fraction={warmup_fraction!r}, total_steps={total_steps!r}, "
                f"phases={phases!r}"
            )

    def _knots(self):
        """The rates between which it moves, each with its k."""
        low, top = self.learning_rate / self.initial_divisor, self.warmup_fraction * self.total_steps - 1
        between = [(2 * top, low)] if self.phases == 3 else []
        return [(0, low), (top, self.learning_rate), *between, (self.total_steps - 1, low / self.final_divisor)]

    def at(self, k):
        (begin, u), *others = self._knots()
        eta = floating(u)
        for end, v in others:
            p = passed(k, begin, end - begin)
            left = 1.0 - p
            if self.shape == "cosine":
                # (1 + cos(pi p)) / 2, in full precision where the cosine is near -1.
                left = numerics.sine(math.pi / 2 * left) ** 2
            eta = ops.where(p > 0.0, v + (u - v) * left, eta)
            begin, u = end, v
        return eta
