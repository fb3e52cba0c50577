"""AMSGrad, in its three forms."""

import keras
from keras.ops import sqrt

from keras_adaptive.core import checks
from keras_adaptive.core.numerics import maximum
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Amsgrad(AdaptiveOptimizer):
    """AMSGrad: Adam with the largest second moment so far, so that no coordinate's rate rises again.

        m_t = beta_1 m_{t-1} + (1 - beta_1) g_t                               m_0 = 0
        v_t = beta_2 v_{t-1} + (1 - beta_2) g_t g_t                           v_0 = 0
        m_hat_t = m_t / (1 - beta_1^t),  v_hat_t = v_t / (1 - beta_2^t)
        variant "paper":
            x_t = max(x_{t-1}, v_t)                                           x_0 = 0
            theta_t = theta_{t-1} - eta_t m_t / (sqrt(x_t) + epsilon)
        variant "raw":
            x_t = max(x_{t-1}, v_t)                                           x_0 = 0
            theta_t = theta_{t-1} - eta_t m_hat_t / (sqrt(x_t / (1 - beta_2^t)) + epsilon)
        variant "hat":
            x_t = max(x_{t-1}, v_hat_t)                                       x_0 = 0
            theta_t = theta_{t-1} - eta_t m_hat_t / (sqrt(x_t) + epsilon)

    "raw" is what torch's and Keras's Adam do with `amsgrad=True`; its rate can rise while 1 - beta_2^t does, which the
    paper's proof does not cover. "hat" is optax's; it keeps the first, noisiest v_hat. The paper has no epsilon.

    Args:
        learning_rate: eta: a real number of at least 0, a LearningRateSchedule or a callable. Default 0.001.
        beta_1: weight of the last average of the gradient, in [0, 1). Default 0.9.
        beta_2: weight of the last average of its square, in [0, 1). Default 0.999.
        epsilon: stabiliser outside of the root, above 0, in units of the gradient. Default 1e-08.
        variant: "paper", "raw" or "hat". Default "paper".
        **options: Keras's own arguments and `skip_nonfinite`, among others: see `AdaptiveOptimizer`.

    Slots: m, v and x, of the variable's shape.

    Raises:
        ValueError, TypeError: for an argument out of range, of the wrong kind or unknown.

    Source: Reddi, Kale and Kumar, ICLR 2018.

    Example:

    >>> optimizer = Amsgrad(learning_rate=0.5, variant="raw")
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([4.0, -0.25])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [0.5 2.5]
    """

    hyperparameters = {
        "beta_1": checks.fraction,
        "beta_2": checks.fraction,
        "epsilon": checks.sole_stabiliser,
        "variant": checks.one_of("paper", "raw", "hat"),
    }
    slots = ("m", Slot("v", nonnegative=True), Slot("x", nonnegative=True))
    elementwise = True

    def __init__(self, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-8, variant="paper", **options):
        super().__init__(learning_rate, options, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon, variant=variant)

    def rule(self, h, theta, g, m, v, x):
        m = h.beta_1 * m + (1 - h.beta_1) * g
        v = h.beta_2 * v + (1 - h.beta_2) * g * g
        x = maximum(x, v / h.debias(h.beta_2) if h.variant == "hat" else v)
        if h.variant == "paper":
            return h.eta * m / (sqrt(x) + h.epsilon), (m, v, x)
        m_hat = m / h.debias(h.beta_1)
        x_hat = x / h.debias(h.beta_2) if h.variant == "raw" else x
        return h.eta * m_hat / (sqrt(x_hat) + h.epsilon), (m, v, x)
