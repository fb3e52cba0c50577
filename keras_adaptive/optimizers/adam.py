"""Adam."""

import keras
from keras.ops import sqrt

from keras_adaptive.core import checks
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Adam(AdaptiveOptimizer):
    """Adam: the moving average of the gradient, divided by the root of the moving average of its square.

        m_t = beta_1 m_{t-1} + (1 - beta_1) g_t                               m_0 = 0
        v_t = beta_2 v_{t-1} + (1 - beta_2) g_t g_t                           v_0 = 0
        m_hat_t = m_t / (1 - beta_1^t),  v_hat_t = v_t / (1 - beta_2^t)
        theta_t = theta_{t-1} - eta_t m_hat_t / (sqrt(v_hat_t + epsilon) + epsilon_outside)

    The paper's own form, and torch's numbers: `Adam(epsilon=0.0, epsilon_outside=1e-8)`. An epsilon inside of the root
    acts where its square root outside would, so 1e-16 stands for the paper's 1e-8. Keras's class has a third form: its
    epsilon of 1e-7 is added to the root of v_t before the correction, so it counts about 30 times more in the first
    step than later.

    Args:
        learning_rate: eta: a real number of at least 0, a LearningRateSchedule or a callable. Default 0.001.
        beta_1: weight of the last average of the gradient, in [0, 1). Default 0.9.
        beta_2: weight of the last average of its square, in [0, 1). Default 0.999.
        epsilon: stabiliser inside of the root, at least 0, in units of the squared gradient. Default 1e-16.
        epsilon_outside: stabiliser outside of the root, at least 0, in units of the gradient. Default 0.0. One of the
            two must be above 0.
        **options: Keras's own arguments and `skip_nonfinite`: see `AdaptiveOptimizer`.

    Slots: m and v, of the variable's shape.

    Raises:
        ValueError, TypeError: for an argument out of range, of the wrong kind or unknown.

    Source: Kingma and Ba, ICLR 2015; epsilon inside of the root: Yang You's lecture.

    Example:

    >>> optimizer = Adam(learning_rate=0.5)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([4.0, -0.25])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [0.5 2.5]
    """

    hyperparameters = {
        "beta_1": checks.fraction,
        "beta_2": checks.fraction,
        "epsilon": checks.stabiliser,
        "epsilon_outside": checks.stabiliser,
    }
    slots = ("m", Slot("v", nonnegative=True))
    elementwise = True

    def __init__(
        self,
        learning_rate=0.001,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-16,
        epsilon_outside=0.0,
        **options,
    ):
        super().__init__(
            learning_rate,
            options,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            epsilon_outside=epsilon_outside,
        )

    def check_together(self, epsilon, epsilon_outside, **others):
        checks.some_epsilon(epsilon, epsilon_outside)

    def rule(self, h, theta, g, m, v):
        m = h.beta_1 * m + (1 - h.beta_1) * g
        v = h.beta_2 * v + (1 - h.beta_2) * g * g
        m_hat, v_hat = m / h.debias(h.beta_1), v / h.debias(h.beta_2)
        return h.eta * m_hat / (sqrt(v_hat + h.epsilon) + h.epsilon_outside), (m, v)
