"""AdamW."""

import keras
from keras.ops import sqrt

from keras_adaptive.core.fields import KW_ONLY, decay_rate, fraction, only, rate, sole_stabiliser
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.state.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class AdamW(AdaptiveOptimizer):
    """AdamW: Adam, with weight decay beside the adaptive step instead of in the gradient.

        m_t = beta_1 m_{t-1} + (1 - beta_1) g_t                               m_0 = 0
        v_t = beta_2 v_{t-1} + (1 - beta_2) g_t g_t                           v_0 = 0
        m_hat_t = m_t / (1 - beta_1^t),  v_hat_t = v_t / (1 - beta_2^t)
        theta_t = theta_{t-1} - eta_t (m_hat_t / (sqrt(v_hat_t) + epsilon) + weight_decay theta_{t-1})

    These are torch's numbers. The decay is multiplied by the scheduled learning rate, as in torch and Keras. The paper
    multiplies it by the schedule alone: use `weight_decay_mode="independent"`, with a schedule for `weight_decay`.
    Keras's class adds its epsilon of 1e-7 to the root of v_t before the correction, and decays by 0.004.

    Slots: m and v, of the variable's shape.

    Source: Loshchilov and Hutter, ICLR 2019.

    Example:

    >>> optimizer = AdamW(learning_rate=0.5, weight_decay=0.1)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([4.0, -0.25])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [0.45 2.4 ]
    """

    learning_rate = rate(0.001)
    weight_decay = decay_rate(0.01)
    beta_1 = fraction(0.9, "decay rate of the moving average of the gradient")
    beta_2 = fraction(0.999, "decay rate of the moving average of the squared gradient")
    epsilon = sole_stabiliser(1e-08, "stabiliser outside of the root, in units of the gradient")
    amsgrad = only(False, "accepted for code that passes it; the algorithm AMSGrad is the class Amsgrad")
    _ = KW_ONLY
    slots = ("m", Slot("v", nonnegative=True))
    elementwise = True

    def rule(self, h, theta, g, m, v):
        m = h.beta_1 * m + (1 - h.beta_1) * g
        v = h.beta_2 * v + (1 - h.beta_2) * g * g
        m_hat, v_hat = m / h.debias(h.beta_1), v / h.debias(h.beta_2)
        return h.eta * m_hat / (sqrt(v_hat) + h.epsilon), (m, v)
