"""AdaGrad."""

import keras
from keras.ops import sqrt

from keras_adaptive.core import checks
from keras_adaptive.core.fields import KW_ONLY, nonnegative, rate, stabiliser
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.state.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Adagrad(AdaptiveOptimizer):
    """AdaGrad: every coordinate's step is divided by the root of all its squared gradients so far.

        v_t = v_{t-1} + g_t g_t                                        v_0 = initial_accumulator_value
        theta_t = theta_{t-1} - eta_t g_t / (sqrt(v_t + epsilon) + epsilon_outside)

    Keras's class begins at 0.1 with eta 0.001. The lecture, torch and this class begin at 0 with eta 0.01. torch's
    numbers: `Adagrad(epsilon=0.0, epsilon_outside=1e-10)`.

    Slots: v, of the variable's shape.

    Source: Duchi, Hazan and Singer, JMLR 12, 2011; epsilon inside of the root: Yang You's lecture.

    Example:

    >>> optimizer = Adagrad(learning_rate=0.5)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([4.0, -0.25])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta))
    [0.5 2.5]
    """

    learning_rate = rate(0.01)
    initial_accumulator_value = nonnegative(0.0, "v_0")
    epsilon = stabiliser(1e-16, "stabiliser inside of the root, in units of the squared gradient")
    _ = KW_ONLY
    epsilon_outside = stabiliser(
        0.0,
        "stabiliser outside of the root, in units of the gradient",
        "One of the two epsilons must be above 0",
    )
    slots = (Slot("v", initial="initial_accumulator_value", nonnegative=True, idle=1.0),)
    elementwise = True

    def check_together(self, epsilon, epsilon_outside, **others):
        checks.not_both_zero(epsilon=epsilon, epsilon_outside=epsilon_outside)

    def rule(self, h, theta, g, v):
        v = v + g * g
        return h.eta * g / (sqrt(v + h.epsilon) + h.epsilon_outside), (v,)
