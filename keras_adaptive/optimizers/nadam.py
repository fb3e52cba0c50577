"""NAdam."""

import math

import keras
from keras.ops import exp, sqrt

from keras_adaptive.core.fields import KW_ONLY, fraction, nonnegative, one_of, rate, sole_stabiliser
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.state.slots import Slot


def _of_full_form(shape, h):
    return () if h.form == "full" else None


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Nadam(AdaptiveOptimizer):
    """NAdam: Adam with Nesterov's momentum, which takes the next step's average instead of this one's.

        m_t = beta_1 m_{t-1} + (1 - beta_1) g_t                               m_0 = 0
        v_t = beta_2 v_{t-1} + (1 - beta_2) g_t g_t                           v_0 = 0
        v_hat_t = v_t / (1 - beta_2^t)
        form "full":
            mu_t = beta_1 (1 - 0.96^(t momentum_decay) / 2)
            p_t = mu_t p_{t-1}                                                p_0 = 1
            n_t = mu_{t+1} m_t / (1 - mu_{t+1} p_t) + (1 - mu_t) g_t / (1 - p_t)
        form "simple":
            n_t = beta_1 m_t / (1 - beta_1^(t+1)) + (1 - beta_1) g_t / (1 - beta_1^t)
        theta_t = theta_{t-1} - eta_t n_t / (sqrt(v_hat_t) + epsilon)

    The full form is the paper's and torch's, in which the momentum warms up. Keras's class has it with a momentum_decay
    of 1, and adds its epsilon of 1e-7 before the correction. The simple form is optax's, and AlgoPerf's baseline uses
    it.

    Slots: m and v, of the variable's shape; with the full form also p, one number.

    Source: Dozat, ICLR workshop 2016.

    Example:

    >>> optimizer = Nadam(learning_rate=0.5, form="simple")
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([4.0, -0.25])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [0.2632 2.7368]
    """

    learning_rate = rate(0.002)
    beta_1 = fraction(0.9, "decay rate of the moving average of the gradient")
    beta_2 = fraction(0.999, "decay rate of the moving average of the squared gradient")
    epsilon = sole_stabiliser(1e-08, "stabiliser outside of the root, in units of the gradient")
    _ = KW_ONLY
    momentum_decay = nonnegative(0.004, "how fast mu rises from half of beta_1 to beta_1")
    form = one_of(("full", "simple"), "full", 'form of n_t; "simple" has no momentum_decay')
    slots = (
        "m",
        Slot("v", nonnegative=True),
        Slot("p", initial=1.0, shape=_of_full_form, exact=True, nonnegative=True),
    )
    elementwise = True

    def rule(self, h, theta, g, m, v, p):
        m = h.beta_1 * m + (1 - h.beta_1) * g
        v = h.beta_2 * v + (1 - h.beta_2) * g * g
        v_hat = v / h.debias(h.beta_2)
        if h.form == "full":
            mu, mu_next = (h.beta_1 * (1 - exp(t * (h.momentum_decay * math.log(0.96))) / 2) for t in (h.t, h.t + 1))
            p = mu * p
            n = mu_next * m / (1 - mu_next * p) + (1 - mu) * g / (1 - p)
        else:
            n = h.beta_1 * m / h.debias(h.beta_1, 1) + (1 - h.beta_1) * g / h.debias(h.beta_1)
        return h.eta * n / (sqrt(v_hat) + h.epsilon), (m, v, p)
