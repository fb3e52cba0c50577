"""Cautious weight decay: decays only the weights that the step moves towards 0 anyway."""

from keras import ops

from keras_adaptive.core.step.decay import Decay


class CautiousDecay(Decay):
    """theta <- theta - eta lambda M theta with M = 1 where delta theta >= 0, else 0; delta is the rule's step.

    Source: Chen et al., "Cautious Weight Decay", arXiv 2510.12402, 2025.
    """

    mode = "cautious"

    def on_delta(self, step, theta, g, delta):
        decay = step.h.eta * step.h.weight_decay * theta
        return delta + ops.where(delta * theta >= 0.0, decay, ops.zeros_like(decay))
