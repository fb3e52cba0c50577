"""RMSprop, plain, centered and with momentum."""

import keras
from keras.ops import sqrt

from keras_adaptive.core import checks
from keras_adaptive.core.numerics import positive_part
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class RMSprop(AdaptiveOptimizer):
    """RMSprop: every coordinate's step is divided by the root of a moving average of its squared gradients.

        v_t = rho v_{t-1} + (1 - rho) g_t g_t                                 v_0 = 0
        m_t = rho m_{t-1} + (1 - rho) g_t                                     m_0 = 0, only if centered
        q_t = positive_part(v_t - m_t m_t)  if centered, else  v_t
        u_t = g_t / (sqrt(q_t + epsilon) + epsilon_outside)
        b_t = momentum b_{t-1} + u_t                                          b_0 = 0
        theta_t = theta_{t-1} - eta_t b_t

    Without momentum b_t is u_t. The averages are not corrected for their start at zero, so the first step is
    eta / sqrt(1 - rho). Momentum is torch's form, with eta outside of the velocity; Keras keeps it inside, which is the
    same only while eta is constant. torch's numbers: `RMSprop(epsilon=0.0, epsilon_outside=1e-8)` with its rho 0.99.
    The positive part guards a difference that rounding can make negative.

    Args:
        learning_rate: eta: a real number of at least 0, a LearningRateSchedule or a callable. Default 0.001.
        rho: weight of the last averages, in [0, 1). Default 0.9.
        momentum: weight of the last velocity, in [0, 1). Default 0.0, which keeps no slot.
        centered: divide by an estimate of the variance instead of the second moment. Default False.
        epsilon: stabiliser inside of the root, at least 0, in units of the squared gradient. Default 1e-16.
        epsilon_outside: stabiliser outside of the root, at least 0, in units of the gradient. Default 0.0. One of the
            two must be above 0.
        **options: Keras's own arguments and `skip_nonfinite`: see `AdaptiveOptimizer`.

    Slots: v; m if centered; b with momentum; each of the variable's shape.

    Raises:
        ValueError, TypeError: for an argument out of range, of the wrong kind or unknown.

    Source: Tieleman and Hinton, Coursera lecture 6.5, 2012; centered: Graves, arXiv 1308.0850, 2013; epsilon inside of
    the root: Yang You's lecture.

    Example:

    >>> optimizer = RMSprop(learning_rate=0.5, rho=0.75)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([4.0, -0.25])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta))
    [0. 3.]
    """

    hyperparameters = {
        "rho": checks.fraction,
        "momentum": checks.fraction,
        "centered": checks.flag,
        "epsilon": checks.stabiliser,
        "epsilon_outside": checks.stabiliser,
    }
    slots = (
        # Centered, v - m m would be what the rounding of both leaves.
        Slot("v", fine="centered", nonnegative=True, idle="rho"),
        Slot("m", when="centered", fine=True, idle="rho"),
        Slot("b", when="momentum"),
    )
    elementwise = True

    def __init__(
        self,
        learning_rate=0.001,
        rho=0.9,
        momentum=0.0,
        centered=False,
        epsilon=1e-16,
        epsilon_outside=0.0,
        **options,
    ):
        super().__init__(
            learning_rate,
            options,
            rho=rho,
            momentum=momentum,
            centered=centered,
            epsilon=epsilon,
            epsilon_outside=epsilon_outside,
        )

    def check_together(self, epsilon, epsilon_outside, **others):
        checks.some_epsilon(epsilon, epsilon_outside)

    def rule(self, h, theta, g, v, m, b):
        v = h.rho * v + (1 - h.rho) * g * g
        m = h.rho * m + (1 - h.rho) * g
        q = positive_part(v - m * m) if h.centered else v
        u = g / (sqrt(q + h.epsilon) + h.epsilon_outside)
        b = h.momentum * b + u
        return h.eta * b, (v, m, b)
