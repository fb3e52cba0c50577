"""AdamW."""

import keras
from keras.ops import sqrt

from keras_adaptive.core import checks
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class AdamW(AdaptiveOptimizer):
    """AdamW: Adam, with weight decay beside the adaptive step instead of in the gradient.

        m_t = beta_1 m_{t-1} + (1 - beta_1) g_t                               m_0 = 0
        v_t = beta_2 v_{t-1} + (1 - beta_2) g_t g_t                           v_0 = 0
        m_hat_t = m_t / (1 - beta_1^t),  v_hat_t = v_t / (1 - beta_2^t)
        theta_t = theta_{t-1} - eta_t (m_hat_t / (sqrt(v_hat_t) + epsilon) + weight_decay theta_{t-1})

    These are torch's numbers. The decay is multiplied by the scheduled learning rate, as in torch and Keras; the paper
    multiplies it by the schedule alone: `weight_decay_mode="independent"`, with a schedule for `weight_decay`. Keras's
    class adds its epsilon of 1e-7 to the root of v_t before the correction, and decays by 0.004.

    Args:
        learning_rate: eta: a real number of at least 0, a LearningRateSchedule or a callable. Default 0.001.
        beta_1: weight of the last average of the gradient, in [0, 1). Default 0.9.
        beta_2: weight of the last average of its square, in [0, 1). Default 0.999.
        epsilon: stabiliser outside of the root, above 0, in units of the gradient. Default 1e-08.
        weight_decay: None, or a number of at least 0, or a LearningRateSchedule of it. Default 0.01.
        **options: Keras's own arguments and `cautious`, among others: see `AdaptiveOptimizer`.

    Slots: m and v, of the variable's shape.

    Raises:
        ValueError, TypeError: for an argument out of range, of the wrong kind or unknown.

    Source: Loshchilov and Hutter, ICLR 2019.

    Example:

    >>> optimizer = AdamW(learning_rate=0.5, weight_decay=0.1)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([4.0, -0.25])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [0.45 2.4 ]
    """

    hyperparameters = {"beta_1": checks.fraction, "beta_2": checks.fraction, "epsilon": checks.sole_stabiliser}
    slots = ("m", Slot("v", nonnegative=True))
    elementwise = True

    def __init__(self, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-8, weight_decay=0.01, **options):
        options = {"weight_decay": weight_decay, **options}
        super().__init__(learning_rate, options, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon)

    def rule(self, h, theta, g, m, v):
        m = h.beta_1 * m + (1 - h.beta_1) * g
        v = h.beta_2 * v + (1 - h.beta_2) * g * g
        m_hat, v_hat = m / h.debias(h.beta_1), v / h.debias(h.beta_2)
        return h.eta * m_hat / (sqrt(v_hat) + h.epsilon), (m, v)
