"""What the two Schedule-Free algorithms share: the average that takes the place of a schedule."""

from keras_adaptive.core.math.numerics import clip, maximum, power, quotient
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.state.slots import THETA, Slot


def _scalar(shape, hyperparameters):
    return ()


# For each variable: z, which takes the steps; x, the average of z; W, the sum of its weights; the largest gamma.
AVERAGING = (
    Slot("z", initial=THETA),
    Slot("x", initial=THETA, exact=True),
    Slot("W", shape=_scalar, exact=True, nonnegative=True),
    Slot("gamma_max", shape=_scalar, exact=True, nonnegative=True),
)


class ScheduleFree(AdaptiveOptimizer):
    """Base of `ScheduleFreeSGD` and `ScheduleFreeAdamW`. The trained weights are y, between z and x."""

    decay = "rule"
    evaluation_slot = "x"

    def between(self, h, z, x):
        """y, where the gradient is taken."""
        raise NotImplementedError

    def average(self, h, theta, d, z, x, W, gamma_max):
        """The delta that makes theta_t = y_t, and the new slots, from the direction d."""
        gamma = h.eta * clip(h.t / max(h.warmup_steps, 1), 1.0)
        gamma_max = maximum(gamma_max, gamma)
        w = power(h.t, h.r) * power(gamma_max, h.weight_power)
        W = W + w
        c = quotient(w, W)
        z = z - gamma * (d + h.weight_decay * theta)
        x = (1 - c) * x + c * z
        return theta - self.between(h, z, x), (z, x, W, gamma_max)

    def training_weights(self, h, z, x, *others):
        return self.between(h, z, x)
