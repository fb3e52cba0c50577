"""MARS."""

import keras
from keras.ops import sqrt

from keras_adaptive.core.fields import fraction, nonnegative, one_of, rate, sole_stabiliser
from keras_adaptive.core.math.numerics import norm_clip, sign
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.state.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Mars(AdaptiveOptimizer):
    """MARS: AdamW or Lion on a gradient that is corrected by its last change, to reduce its variance.

        p_t = g_t  for the change  d_t = g_t - p_{t-1}                        p_0 = 0
        c_t = g_t + gamma beta_1 / (1 - beta_1) d_t, divided by its norm over the variable where that is above 1
        m_t = beta_1 m_{t-1} + (1 - beta_1) c_t                               m_0 = 0
        v_t = beta_2 v_{t-1} + (1 - beta_2) c_t c_t                           v_0 = 0
        m_hat_t = m_t / (1 - beta_1^t),  v_hat_t = v_t / (1 - beta_2^t)
        variant "adamw": theta_t = theta_{t-1} - eta_t m_hat_t / (sqrt(v_hat_t) + epsilon)
        variant "lion":  theta_t = theta_{t-1} - eta_t sign(m_t)
        Variables without two axes, biases and norms take AdamW: c_t = g_t and variant "adamw", with vector_beta_1 for
        beta_1, vector_beta_2 for beta_2 and eta_t vector_learning_rate_multiplier for eta_t

    This is the authors' approximate form, in which d_t is the difference of the gradients of two batches. The exact
    form needs both gradients of the same batch. Weight decay uses the same learning rate as the step. The authors decay
    variables that are not matrices by 0.1, and matrices not at all.

    Slots: m; v, except for matrices with variant "lion"; p (the last gradient) for matrices; each of the variable's
    shape.

    Source: Yuan, Liu, Wu, Zhou and Gu, ICML 2025.

    Example:

    >>> optimizer = Mars(learning_rate=0.5)
    >>> theta = keras.Variable([[1.0, 2.0]])
    >>> optimizer.apply([keras.ops.convert_to_tensor([[4.0, -0.25]])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [[0.5 2.5]]
    """

    learning_rate = rate(0.003)
    beta_1 = fraction(0.95, "decay rate of the moving average of a matrix's gradient")
    beta_2 = fraction(0.99, "decay rate of the moving average of the squared gradient")
    gamma = nonnegative(0.025, "weight of the change that is added to the gradient")
    epsilon = sole_stabiliser(1e-08, "stabiliser outside of the root, in units of the gradient")
    variant = one_of(("adamw", "lion"), "adamw", "algorithm for the corrected gradient of a matrix")
    vector_learning_rate_multiplier = nonnegative(
        1.0, "multiplier of eta for variables that are not matrices", static=True
    )
    vector_beta_1 = fraction(0.9, "beta_1 of variables that are not matrices")
    vector_beta_2 = fraction(0.95, "beta_2 of variables that are not matrices")
    slots = ("m", Slot("v", when="variable.adam", nonnegative=True), Slot("p", when="variable.matrix"))

    def about(self, role, h):
        if len(role.shape) == 2 and not role.is_vector:
            return {"matrix": True, "adam": h.variant == "adamw"}
        return {
            "matrix": False,
            "adam": True,
            "learning_rate_multiplier": h.vector_learning_rate_multiplier,
        }

    def rule(self, h, theta, g, m, v, p):
        c, beta_1, beta_2 = g, h.vector_beta_1, h.vector_beta_2
        if h.variable.matrix:
            beta_1, beta_2 = h.beta_1, h.beta_2
            c = g + h.gamma * beta_1 / (1 - beta_1) * (g - p)
            c = norm_clip([c], 1.0)(c)
        m = beta_1 * m + (1 - beta_1) * c
        if not h.variable.adam:
            return h.eta * sign(m), (m, v, g)
        v = beta_2 * v + (1 - beta_2) * c * c
        m_hat, v_hat = m / h.debias(beta_1), v / h.debias(beta_2)
        return h.eta * m_hat / (sqrt(v_hat) + h.epsilon), (m, v, g)
