"""AdaBound."""

import keras
from keras.ops import sqrt

from keras_adaptive.core import checks
from keras_adaptive.core.numerics import maximum, minimum
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class AdaBound(AdaptiveOptimizer):
    """AdaBound: Adam whose rates are held between two bounds that close in on those of SGD with momentum.

        m_t = beta_1 m_{t-1} + (1 - beta_1) g_t                               m_0 = 0
        v_t = beta_2 v_{t-1} + (1 - beta_2) g_t g_t                           v_0 = 0
        a_t = eta_t sqrt(1 - beta_2^t) / (1 - beta_1^t) / (sqrt(v_t) + epsilon)
        final_t = final_learning_rate eta_t / base_learning_rate
        lower_t = final_t (1 - 1 / (gamma t + 1)),  upper_t = final_t (1 + 1 / (gamma t))
        theta_t = theta_{t-1} - min(max(a_t, lower_t), upper_t) m_t

    The bounds hold for the whole rate, with the corrections of both averages in it, and follow the schedule.

    Args:
        learning_rate: eta: a real number of at least 0, a LearningRateSchedule or a callable. Default 0.001.
        beta_1: weight of the last average of the gradient, in [0, 1). Default 0.9.
        beta_2: weight of the last average of its square, in [0, 1). Default 0.999.
        epsilon: stabiliser outside of the root of the uncorrected v, above 0, in units of the gradient. Default 1e-08.
        final_learning_rate: the rate of SGD that the bounds meet at, above 0. Default 0.1.
        gamma: how fast they meet, above 0. Default 0.001.
        base_learning_rate: the eta at which the last rate is final_learning_rate, above 0. Default None: the number
            that is given as learning_rate; it must be given where that is a schedule or a callable.
        **options: Keras's own arguments and `skip_nonfinite`, among others: see `AdaptiveOptimizer`.

    Slots: m and v, of the variable's shape.

    Raises:
        ValueError, TypeError: for an argument out of range, of the wrong kind, missing or unknown.

    Source: Luo, Xiong, Liu and Sun, ICLR 2019.

    Example:

    >>> optimizer = AdaBound(learning_rate=0.5, beta_1=0.5, final_learning_rate=1.0, gamma=1.0)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([4.0, -0.25])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [0.   2.25]
    """

    hyperparameters = {
        "beta_1": checks.fraction,
        "beta_2": checks.fraction,
        "epsilon": checks.sole_stabiliser,
        "final_learning_rate": checks.positive,
        "gamma": checks.positive,
        "base_learning_rate": checks.positive,
    }
    slots = ("m", Slot("v", nonnegative=True))
    elementwise = True

    def __init__(
        self,
        learning_rate=0.001,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        final_learning_rate=0.1,
        gamma=1e-3,
        base_learning_rate=None,
        **options,
    ):
        if base_learning_rate is None:
            base_learning_rate = checks.learning_rate("learning_rate", learning_rate)
        super().__init__(
            learning_rate,
            options,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            final_learning_rate=final_learning_rate,
            gamma=gamma,
            base_learning_rate=base_learning_rate,
        )

    def rule(self, h, theta, g, m, v):
        m = h.beta_1 * m + (1 - h.beta_1) * g
        v = h.beta_2 * v + (1 - h.beta_2) * g * g
        a = h.eta * sqrt(h.debias(h.beta_2)) / h.debias(h.beta_1) / (sqrt(v) + h.epsilon)
        final = h.final_learning_rate * h.eta / h.base_learning_rate
        lower, upper = final * (1 - 1 / (h.gamma * h.t + 1)), final * (1 + 1 / (h.gamma * h.t))
        return minimum(maximum(a, lower), upper) * m, (m, v)
