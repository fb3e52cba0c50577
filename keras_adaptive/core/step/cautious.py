"""Cautious steps: only the coordinates of the step that go against the gradient."""

import math

from keras import backend, ops

from keras_adaptive.core.step.stage import Place, Stage


class Cautious(Stage):
    """delta <- delta M size / (sum(M) + 1) with M = 1 where delta g > 0, else 0.

    Source: Liang, Chen, Liu and Liu, "Cautious Optimizers", 2024.
    """

    place, option, couples_elements, passes_again = Place.DELTA, "cautious", True, True

    @classmethod
    def of(cls, optimizer):
        return cls() if optimizer.cautious else None

    def on_delta(self, step, theta, g, delta):
        mask = ops.cast(delta * g > 0, backend.standardize_dtype(g.dtype))
        return delta * (mask * (math.prod(g.shape) / (ops.sum(mask) + 1.0)))
