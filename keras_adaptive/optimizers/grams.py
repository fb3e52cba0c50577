"""Grams."""

import keras
from keras.ops import abs, sign, sqrt

from keras_adaptive.core.fields import fraction, rate, sole_stabiliser
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.state.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Grams(AdaptiveOptimizer):
    """Grams: a step as large as Adam's, in the direction of the current gradient.

        m_t = beta_1 m_{t-1} + (1 - beta_1) g_t                               m_0 = 0
        v_t = beta_2 v_{t-1} + (1 - beta_2) g_t g_t                           v_0 = 0
        m_hat_t = m_t / (1 - beta_1^t),  v_hat_t = v_t / (1 - beta_2^t)
        u_t = m_hat_t / (sqrt(v_hat_t) + epsilon)
        theta_t = theta_{t-1} - eta_t sign(g_t) |u_t|

    Slots: m and v, of the variable's shape.

    Defaults: all are the authors' code's. The learning rate and the betas are also Adam's.

    Start with: the learning rate of `Adam` or `AdamW` for the model, with nothing else changed (the authors'
    repository): a rate from 1e-4 to 3e-3, with a warm-up and a decay.

    Pitfalls:

    - Momentum does not steady the direction, only the length: with small, noisy batches the signs of single gradients
      move the weights.
    - A weight whose gradient is exactly 0 does not move, however large its momentum is. So rows of an embedding wait
      until they are looked up.

    Differs from:

    - `pytorch_optimizer.Grams`: the same numbers.
    - `AdamW(cautious=True)`: leaves out the coordinates where step and gradient disagree; this class turns them round.
    - `Lion`: takes the sign of a momentum, and steps of one length.

    Source: Cao, Li and Song, 2024, arXiv:2412.17107.

    Example:

    >>> optimizer = Grams(learning_rate=0.5)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([4.0, -0.25])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [0.5 2.5]
    """

    learning_rate = rate(0.001)
    beta_1 = fraction(0.9, "decay rate of the moving average of the gradient")
    beta_2 = fraction(0.999, "decay rate of the moving average of the squared gradient")
    epsilon = sole_stabiliser(1e-06, "stabiliser outside of the root, in units of the gradient")
    slots = ("m", Slot("v", nonnegative=True))
    elementwise = True

    def rule(self, h, theta, g, m, v):
        m = h.beta_1 * m + (1 - h.beta_1) * g
        v = h.beta_2 * v + (1 - h.beta_2) * g * g
        m_hat, v_hat = m / h.debias(h.beta_1), v / h.debias(h.beta_2)
        u = m_hat / (sqrt(v_hat) + h.epsilon)
        return h.eta * sign(g) * abs(u), (m, v)
