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

    The paper has the sum and the classic momentum. The popular momentum has eta outside of the velocity. Its q_t is
    computed from the velocity: b_t takes the place of g_t and d_t.

    Slots: b if momentum is above 0, of the variable's shape.

    Defaults: momentum, trust_coefficient, form and momentum_form are the paper's. The weight decay is the usual one of
    ResNet-50. exclude_vectors is that of TensorFlow's and MLPerf's code. The learning rate of 1 is chosen here.

    Start with: for ResNet-50 a peak of 25 up to a batch of 16,384 with 5 epochs of warm-up, and 34 at 32,768 with 12
    (`recipe("resnet50-lars-tpu", batch)`). MLPerf has 7.4 at 1,632 to 24.7 at 65,536
    (`recipe("resnet50-lars-mlperf", batch)`). Both decay by `PolynomialDecay` with power 2.

    Pitfalls:

    - Rates are about 1000 times those of other optimizers, because of the trust_coefficient. With 0.1, copied from SGD,
      one gradient moves a matrix by 1e-4 of its norm.
    - Vectors take plain momentum steps with eta itself, without the coefficient. If their steps are too long, give them
      a `Group` with a small learning_rate_multiplier.
    - A matrix that begins at 0 takes one plain step, and from then on steps in proportion to its tiny norm.
    - It is for batches of thousands, and tuned Nesterov momentum reaches the same there (Nado et al., 2021).

    Differs from:

    - `optax.lars`: the same numbers with `Lars(form="norm", exclude_vectors=False)`; its weight decay is 0 by default.
    - `pytorch_optimizer.LARS`: the same numbers; its learning rate is 0.001 by default.
    - `lars_optimizer.py` of TensorFlow's models: has the form "norm".
    - `SGD`: has no trust ratio, and eta outside of the velocity, as the popular momentum. `Lamb`: has a ratio for
      Adam's direction, without the coefficient.

    Source: You, Gitman and Ginsburg, 2017, arXiv:1708.03888.

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
