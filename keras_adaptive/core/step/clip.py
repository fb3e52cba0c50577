"""Clipping by value, by the norm of each gradient, or by the norm of all gradients together."""

from keras_adaptive.core.math import numerics
from keras_adaptive.core.step.stage import Place, Stage


class ClipValue(Stage):
    """Clips every element to [-limit, limit]."""

    place, option, clips = Place.CLIP, "clipvalue", True

    def __init__(self, limit):
        self.limit = limit

    @classmethod
    def of(cls, optimizer):
        limit = getattr(optimizer, cls.option)
        return None if limit is None else cls(limit)

    def on_gradient(self, step, theta, g):
        return numerics.clip(g, self.limit)


class ClipNorm(ClipValue):
    """Scales the gradient to a norm of at most the limit."""

    option, passes_again, needs_full_gradient = "clipnorm", True, True

    def on_gradient(self, step, theta, g):
        return numerics.norm_clip([step.measured(g)], self.limit)(g)


class ClipGlobalNorm(ClipValue):
    """Scales all gradients to a common norm of at most the limit."""

    option = "global_clipnorm"

    def of_all(self, gradients):
        return {self.option: numerics.norm_clip(gradients, self.limit)} if gradients else {}

    def on_gradient(self, step, theta, g):
        return step.shared[self.option](g)
