"""MARS."""

import keras
from keras.ops import sqrt

from keras_adaptive.core import checks
from keras_adaptive.core.linalg import is_vector
from keras_adaptive.core.numerics import norm_clip, sign
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.slots import Slot


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
        and for variables without two axes and biases, AdamW: c_t = g_t, variant "adamw", vector_beta_1 for beta_1,
        vector_beta_2 for beta_2, eta_t vector_learning_rate_multiplier for eta_t

    This is the authors' approximate form, in which d_t is the difference of two batches' gradients; the exact one needs
    both gradients of the same batch. Weight decay has the same learning rate as the step. The authors decay what is no
    matrix by 0.1, and matrices not at all.

    Args:
        learning_rate: eta: a real number of at least 0, a LearningRateSchedule or a callable. Default 0.003.
        beta_1: weight of the last average of a matrix's gradient, in [0, 1). Default 0.95.
        beta_2: weight of the last average of its square, in [0, 1). Default 0.99.
        gamma: how much of the change is added, at least 0. Default 0.025.
        epsilon: stabiliser outside of the root, above 0, in units of the gradient. Default 1e-08.
        variant: "adamw" or "lion". Default "adamw".
        vector_learning_rate_multiplier: what eta is multiplied by for a variable that is no matrix, at least 0.
            Default 1.0.
        vector_beta_1: beta_1 of such a variable, in [0, 1). Default 0.9.
        vector_beta_2: beta_2 of such a variable, in [0, 1). Default 0.95.
        **options: Keras's own arguments and `skip_nonfinite`, among others: see `AdaptiveOptimizer`.

    Slots: m; v but for the matrices of variant "lion"; p, the last gradient, for matrices; of the variable's shape.

    Raises:
        ValueError, TypeError: for an argument out of range, of the wrong kind or unknown.

    Source: Yuan, Liu, Wu, Zhou and Gu, ICML 2025.

    Example:

    >>> optimizer = Mars(learning_rate=0.5)
    >>> theta = keras.Variable([[1.0, 2.0]])
    >>> optimizer.apply([keras.ops.convert_to_tensor([[4.0, -0.25]])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [[0.5 2.5]]
    """

    hyperparameters = {
        "beta_1": checks.fraction,
        "beta_2": checks.fraction,
        "gamma": checks.nonnegative,
        "epsilon": checks.sole_stabiliser,
        "variant": checks.one_of("adamw", "lion"),
        "vector_learning_rate_multiplier": checks.nonnegative,
        "vector_beta_1": checks.fraction,
        "vector_beta_2": checks.fraction,
    }
    slots = ("m", Slot("v", when="adam", nonnegative=True), Slot("p", when="matrix"))

    def __init__(
        self,
        learning_rate=0.003,
        beta_1=0.95,
        beta_2=0.99,
        gamma=0.025,
        epsilon=1e-8,
        variant="adamw",
        vector_learning_rate_multiplier=1.0,
        vector_beta_1=0.9,
        vector_beta_2=0.95,
        **options,
    ):
        super().__init__(
            learning_rate,
            options,
            beta_1=beta_1,
            beta_2=beta_2,
            gamma=gamma,
            epsilon=epsilon,
            variant=variant,
            vector_learning_rate_multiplier=vector_learning_rate_multiplier,
            vector_beta_1=vector_beta_1,
            vector_beta_2=vector_beta_2,
        )

    def about(self, path, shape, hyperparameters):
        if len(shape) == 2 and not is_vector(path, shape):
            return {"matrix": True, "adam": hyperparameters["variant"] == "adamw"}
        return {
            "matrix": False,
            "adam": True,
            "beta_1": hyperparameters["vector_beta_1"],
            "beta_2": hyperparameters["vector_beta_2"],
            "learning_rate_multiplier": hyperparameters["vector_learning_rate_multiplier"],
        }

    def rule(self, h, theta, g, m, v, p):
        c = g
        if h.matrix:
            c = g + h.gamma * h.beta_1 / (1 - h.beta_1) * (g - p)
            c = c * norm_clip([c], 1.0)
        m = h.beta_1 * m + (1 - h.beta_1) * c
        if not h.adam:
            return h.eta * sign(m), (m, v, g)
        v = h.beta_2 * v + (1 - h.beta_2) * c * c
        m_hat, v_hat = m / h.debias(h.beta_1), v / h.debias(h.beta_2)
        return h.eta * m_hat / (sqrt(v_hat) + h.epsilon), (m, v, g)
