"""Lion."""

import keras

from keras_adaptive.core.fields import KW_ONLY, fraction, rate
from keras_adaptive.core.math.numerics import sign
from keras_adaptive.core.optimizer import AdaptiveOptimizer


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Lion(AdaptiveOptimizer):
    """Lion: every coordinate's step has the length eta, and the sign of a momentum that looks ahead.

        c_t = beta_1 m_{t-1} + (1 - beta_1) g_t
        m_t = beta_2 m_{t-1} + (1 - beta_2) g_t                               m_0 = 0
        theta_t = theta_{t-1} - eta_t sign(c_t)

    A coordinate stands still only where c_t is exactly 0. All steps have the length eta, so the paper takes an eta 3 to
    10 times smaller than that of AdamW, and a weight_decay larger by the same factor.

    Slots: m, of the variable's shape.

    Source: Chen, Liang, Huang, Real, Wang, Liu, Pham, Dong, Luong, Hsieh, Lu and Le, NeurIPS 2023.

    Example:

    >>> optimizer = Lion(learning_rate=0.5)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([4.0, -0.25])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta))
    [0.5 2.5]
    """

    learning_rate = rate(0.0001)
    beta_1 = fraction(0.9, "weight of the momentum in the direction of the step")
    beta_2 = fraction(0.99, "decay rate of the momentum")
    _ = KW_ONLY
    slots = ("m",)
    elementwise = True

    def rule(self, h, theta, g, m):
        c = h.beta_1 * m + (1 - h.beta_1) * g
        m = h.beta_2 * m + (1 - h.beta_2) * g
        return h.eta * sign(c), (m,)
