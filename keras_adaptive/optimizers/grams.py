"""Grams."""

import keras
from keras.ops import abs, sign, sqrt

from keras_adaptive.core import checks
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Grams(AdaptiveOptimizer):
    """Grams: a step as large as Adam's, in the direction of the current gradient.

        m_t = beta_1 m_{t-1} + (1 - beta_1) g_t                               m_0 = 0
        v_t = beta_2 v_{t-1} + (1 - beta_2) g_t g_t                           v_0 = 0
        m_hat_t = m_t / (1 - beta_1^t),  v_hat_t = v_t / (1 - beta_2^t)
        u_t = m_hat_t / (sqrt(v_hat_t) + epsilon)
        theta_t = theta_{t-1} - eta_t sign(g_t) |u_t|

    Args:
        learning_rate: eta: a real number of at least 0, a LearningRateSchedule or a callable. Default 0.001.
        beta_1: weight of the last average of the gradient, in [0, 1). Default 0.9.
        beta_2: weight of the last average of its square, in [0, 1). Default 0.999.
        epsilon: stabiliser outside of the root, above 0, in units of the gradient. Default 1e-06.
        **options: Keras's own arguments and `skip_nonfinite`, among others: see `AdaptiveOptimizer`.

    Slots: m and v, of the variable's shape.

    Raises:
        ValueError, TypeError: for an argument out of range, of the wrong kind or unknown.

    Source: Cao, Li and Song, arXiv 2412.17107, 2024.

    Example:

    >>> optimizer = Grams(learning_rate=0.5)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([4.0, -0.25])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [0.5 2.5]
    """

    hyperparameters = {"beta_1": checks.fraction, "beta_2": checks.fraction, "epsilon": checks.sole_stabiliser}
    slots = ("m", Slot("v", nonnegative=True))
    elementwise = True

    def __init__(self, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-6, **options):
        super().__init__(learning_rate, options, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon)

    def rule(self, h, theta, g, m, v):
        m = h.beta_1 * m + (1 - h.beta_1) * g
        v = h.beta_2 * v + (1 - h.beta_2) * g * g
        m_hat, v_hat = m / h.debias(h.beta_1), v / h.debias(h.beta_2)
        u = m_hat / (sqrt(v_hat) + h.epsilon)
        return h.eta * sign(g) * abs(u), (m, v)
