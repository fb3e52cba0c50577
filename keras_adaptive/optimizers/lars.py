"""LARS."""

import keras

from keras_adaptive.core import checks
from keras_adaptive.core.linalg import adapts, trusted
from keras_adaptive.core.numerics import norm
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Lars(AdaptiveOptimizer):
    """LARS: every variable takes steps in proportion to its own size, so that none runs away in a large batch.

        d_t = g_t + weight_decay theta_{t-1}
        q_t = trust_coefficient ||theta_{t-1}|| / (||g_t|| + weight_decay ||theta_{t-1}||)      form "sum"
        q_t = trust_coefficient ||theta_{t-1}|| / ||d_t||                                       form "norm"
        q_t = 1, weight_decay = 0                                             of vectors, if exclude_vectors
        b_t = momentum b_{t-1} + eta_t q_t d_t                                b_0 = 0
        theta_t = theta_{t-1} - b_t                                           momentum_form "classic"
        b_t = momentum b_{t-1} + d_t
        theta_t = theta_{t-1} - eta_t q_t b_t                                 momentum_form "popular"

    Norms are over the whole variable. q_t is 1 where ||theta_{t-1}|| or what it is divided by is 0. Vectors are
    variables of at most one axis, and those whose name is bias, gamma, beta or scale: the biases of attention and of a
    GRU have two axes. The paper has the sum and the classic momentum. The popular momentum is that of
    torch, with eta outside of the velocity, and its q_t is that of the velocity: b_t stands in the place of g_t and
    d_t. A matrix that is taken out of weight decay is still adapted.

    Args:
        learning_rate: eta: a real number of at least 0, a LearningRateSchedule or a callable. Default 1.0.
        momentum: weight of the last velocity, in [0, 1). Default 0.9. 0.0 keeps no slot.
        trust_coefficient: step of a variable with eta 1 in units of its norm, above 0. Default 0.001.
        form: "sum" or "norm", what the norm of the weights is divided by. Default "sum".
        momentum_form: "classic" or "popular": whether the velocity sums whole steps, or gradients. Default "classic".
        exclude_vectors: neither adapt nor decay vectors. Default True.
        weight_decay: lambda, a number of at least 0, a LearningRateSchedule or None. Default 0.0001.
        **options: Keras's own arguments and `skip_nonfinite`: see `AdaptiveOptimizer`.

    Slots: with momentum b, of the variable's shape.

    Raises:
        ValueError, TypeError: for an argument out of range, of the wrong kind or unknown.

    Source: You, Gitman and Ginsburg, arXiv 1708.03888, 2017.

    Example:

    >>> optimizer = Lars(trust_coefficient=0.5, weight_decay=0.0)
    >>> theta = keras.Variable([[3.0, 4.0]])
    >>> optimizer.apply([keras.ops.convert_to_tensor([[0.0, 100.0]])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [[3.  1.5]]
    """

    hyperparameters = {
        "momentum": checks.fraction,
        "trust_coefficient": checks.positive,
        "form": checks.one_of("sum", "norm"),
        "momentum_form": checks.one_of("classic", "popular"),
        "exclude_vectors": checks.flag,
    }
    slots = (Slot("b", when="momentum"),)
    decay = "rule"

    def __init__(
        self,
        learning_rate=1.0,
        momentum=0.9,
        trust_coefficient=0.001,
        form="sum",
        momentum_form="classic",
        exclude_vectors=True,
        weight_decay=1e-4,
        **options,
    ):
        super().__init__(
            learning_rate,
            {"weight_decay": weight_decay, **options},
            momentum=momentum,
            trust_coefficient=trust_coefficient,
            form=form,
            momentum_form=momentum_form,
            exclude_vectors=exclude_vectors,
        )

    def about(self, path, shape, hyperparameters):
        return {"adapt": adapts(path, shape, hyperparameters["exclude_vectors"])}

    def rule(self, h, theta, g, b):
        if h.momentum_form == "popular":
            b = h.momentum * b + self.decayed(h, theta, g)
            return h.eta * self.adapted(h, theta, b, b), (b,)
        b = h.momentum * b + h.eta * self.adapted(h, theta, g, self.decayed(h, theta, g))
        return b, (b,)

    def decayed(self, h, theta, g):
        return g + h.weight_decay * theta if h.adapt else g

    def adapted(self, h, theta, g, d):
        """q_t d_t."""
        if not h.adapt:
            return d
        size = norm(theta)
        length = norm(g) + h.weight_decay * size if h.form == "sum" else norm(d)
        return trusted(d, size, length, phi=lambda size: h.trust_coefficient * size)
