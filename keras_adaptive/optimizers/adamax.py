"""Adamax."""

import keras
from keras.ops import abs

from keras_adaptive.core import checks
from keras_adaptive.core.numerics import maximum
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Adamax(AdaptiveOptimizer):
    """Adamax: Adam with a decaying maximum of the gradient's magnitude instead of the root of its mean square.

        m_t = beta_1 m_{t-1} + (1 - beta_1) g_t                               m_0 = 0
        u_t = max(beta_2 u_{t-1}, |g_t| + epsilon)                            u_0 = 0
        theta_t = theta_{t-1} - eta_t / (1 - beta_1^t) m_t / u_t

    The paper has no epsilon; this one is torch's. Keras adds it to u_t at the division instead.

    Args:
        learning_rate: eta: a real number of at least 0, a LearningRateSchedule or a callable. Default 0.002.
        beta_1: weight of the last average of the gradient, in [0, 1). Default 0.9.
        beta_2: what the last maximum is multiplied by, in [0, 1). Default 0.999.
        epsilon: stabiliser in the maximum, above 0, in units of the gradient. Default 1e-08.
        **options: Keras's own arguments and `skip_nonfinite`, among others: see `AdaptiveOptimizer`.

    Slots: m and u, of the variable's shape.

    Raises:
        ValueError, TypeError: for an argument out of range, of the wrong kind or unknown.

    Source: Kingma and Ba, ICLR 2015, section 7.1.

    Example:

    >>> optimizer = Adamax(learning_rate=0.5)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([4.0, -0.25])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [0.5 2.5]
    """

    hyperparameters = {"beta_1": checks.fraction, "beta_2": checks.fraction, "epsilon": checks.sole_stabiliser}
    slots = ("m", Slot("u", nonnegative=True))
    elementwise = True

    def __init__(self, learning_rate=0.002, beta_1=0.9, beta_2=0.999, epsilon=1e-8, **options):
        super().__init__(learning_rate, options, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon)

    def rule(self, h, theta, g, m, u):
        m = h.beta_1 * m + (1 - h.beta_1) * g
        u = maximum(h.beta_2 * u, abs(g) + h.epsilon)
        return h.eta / h.debias(h.beta_1) * m / u, (m, u)
