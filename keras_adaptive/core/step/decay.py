"""Weight decay outside of the rule, one stage for each `weight_decay_mode`."""

from keras_adaptive.core.step.stage import Place, Stage


class Decay(Stage):
    """Base class: `mode` is the mode, `h.weight_decay` is lambda of the variable's groups at this update."""

    place, option = Place.DECAY, "weight_decay"
    mode: str

    @classmethod
    def of(cls, optimizer):
        return cls() if optimizer.decay == "core" and optimizer.weight_decay_mode == cls.mode else None

    def applies_to(self, variable):
        return variable.weight_decay is not None


class Decoupled(Decay):
    """theta <- theta - eta lambda theta."""

    mode = "decoupled"

    def on_delta(self, step, theta, g, delta):
        return delta + step.h.eta * step.h.weight_decay * theta


class Independent(Decay):
    """theta <- theta - lambda theta."""

    mode = "independent"

    def on_delta(self, step, theta, g, delta):
        return delta + step.h.weight_decay * theta


class Coupled(Decay):
    """g <- g + lambda theta, the L2 penalty."""

    place, mode = Place.GRADIENT, "coupled"

    def on_gradient(self, step, theta, g):
        return g + step.h.weight_decay * theta
