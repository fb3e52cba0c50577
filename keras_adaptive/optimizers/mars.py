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
    form needs both gradients of the same batch. Weight decay uses the same learning rate as the step.

    Slots: m; v, except for matrices with variant "lion"; p (the last gradient) for matrices; each of the variable's
    shape.

    Defaults: all are those of the authors' code; beta_1, beta_2 and gamma are the paper's too.

    Start with: the authors' rates for GPT-2: 6e-3, 3e-3 and 2e-3 with 125, 355 and 770 million parameters, with
    weight_decay 0.01, half of the rate for other variables than matrices (vector_learning_rate_multiplier=0.5), and a
    cosine decay. Wen et al. (2025) tuned 4e-3 to 8e-3 for language models. Small models take more.

    Pitfalls:

    - Only variables with two axes are matrices, as in the authors' code. The kernels of Keras's attention layers have
      three axes and those of convolutions four: they take AdamW.
    - The defaults are tuned for variant "adamw". With "lion" each element moves by eta, so tune the learning rate
      again.
    - weight_decay holds for all variables. The authors' code decays matrices by 0 and other variables by 0.1, unless
      told otherwise; a `Group` with a weight_decay of its own does that.
    - Where the norm of a matrix's corrected gradient is above 1, only its direction counts, as with a loss that is a
      sum over the batch.

    Differs from:

    - `pytorch_optimizer.MARS`: the same numbers with its variant "lion". Its AdamW adds 1e-15 under the root, and
      decays other variables than matrices by 0.1.
    - `AdamW`: uses neither the last change of the gradient nor a limit of its norm. `Adan`: averages the changes of the
      gradient separately, and stores one slot more.

    Source: Yuan, Liu, Wu, Zhou and Gu, ICML 2025, arXiv:2411.10438.

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
