"""LARS."""

import keras

from keras_adaptive.core.fields import decay_rate, flag, fraction, one_of, positive, rate
from keras_adaptive.core.math.linalg import trusted
from keras_adaptive.core.math.numerics import norm
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.state.slots import Slot


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

    Norms are over the full variable. q_t is 1 where ||theta_{t-1}|| or its divisor is 0. Vectors are variables of at
    most one axis, and all biases, scales and offsets of norms: the layer that owns a variable decides, since biases of
    attention and of a GRU have two axes. A matrix without weight decay still has a trust ratio.

    The paper has the sum and the classic momentum. The popular momentum is torch's form, with eta outside of the
    velocity. Its q_t is computed from the velocity: b_t takes the place of g_t and d_t.

    Slots: b if momentum is above 0, of the variable's shape.

    Source: You, Gitman and Ginsburg, arXiv 1708.03888, 2017.

    Example:

    >>> optimizer = Lars(trust_coefficient=0.5, weight_decay=0.0)
    >>> theta = keras.Variable([[3.0, 4.0]])
    >>> optimizer.apply([keras.ops.convert_to_tensor([[0.0, 100.0]])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [[3.  1.5]]
    """

    learning_rate = rate(1.0)
    momentum = fraction(0.9, "decay rate of the velocity; 0.0 stores no slot")
    trust_coefficient = positive(0.001, "norm of a variable's step with eta 1, in units of the variable's norm")
    form = one_of(("sum", "norm"), "sum", "what the norm of the weights is divided by, as in the equations")
    momentum_form = one_of(
        ("classic", "popular"),
        "classic",
        'what the velocity sums: steps ("classic") or gradients ("popular")',
    )
    exclude_vectors = flag(True, "leave vectors without a trust ratio and without weight decay")
    weight_decay = decay_rate(0.0001)
    slots = (Slot("b", when="momentum"),)
    decay = "rule"

    def about(self, role, h):
        return {"adapt": not (h.exclude_vectors and role.is_vector)}

    def rule(self, h, theta, g, b):
        if h.momentum_form == "popular":
            b = h.momentum * b + self.decayed(h, theta, g)
            return h.eta * self.adapted(h, theta, b, b), (b,)
        b = h.momentum * b + h.eta * self.adapted(h, theta, g, self.decayed(h, theta, g))
        return b, (b,)

    def decayed(self, h, theta, g):
        return g + h.weight_decay * theta if h.variable.adapt else g

    def adapted(self, h, theta, g, d):
        """q_t d_t."""
        if not h.variable.adapt:
            return d
        size = norm(theta)
        length = norm(g) + h.weight_decay * size if h.form == "sum" else norm(d)
        return trusted(d, size, length, phi=lambda size: h.trust_coefficient * size)
