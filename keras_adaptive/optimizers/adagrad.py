"""AdaGrad."""

import keras
from keras.ops import sqrt

from keras_adaptive.core import checks
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Adagrad(AdaptiveOptimizer):
    """AdaGrad: every coordinate's step is divided by the root of all its squared gradients so far.

        v_t = v_{t-1} + g_t g_t                                        v_0 = initial_accumulator_value
        theta_t = theta_{t-1} - eta_t g_t / (sqrt(v_t + epsilon) + epsilon_outside)

    Keras's class begins at 0.1 with eta 0.001; the lecture, torch and this class begin at 0 with eta 0.01.
    torch's numbers: `Adagrad(epsilon=0.0, epsilon_outside=1e-10)`.

    Args:
        learning_rate: eta: a real number of at least 0, a LearningRateSchedule or a callable. Default 0.01.
        epsilon: stabiliser inside of the root, at least 0, in units of the squared gradient. Default 1e-16.
        epsilon_outside: stabiliser outside of the root, at least 0, in units of the gradient. Default 0.0. One of the
            two must be above 0.
        initial_accumulator_value: v_0, at least 0. Default 0.0.
        **options: Keras's own arguments and `skip_nonfinite`: see `AdaptiveOptimizer`.

    Slots: v, of the variable's shape.

    Raises:
        ValueError, TypeError: for an argument out of range, of the wrong kind or unknown.

    Source: Duchi, Hazan and Singer, JMLR 12, 2011; epsilon inside of the root: Yang You's lecture.

    Example:

    >>> optimizer = Adagrad(learning_rate=0.5)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([4.0, -0.25])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta))
    [0.5 2.5]
    """

    hyperparameters = {
        "epsilon": checks.stabiliser,
        "epsilon_outside": checks.stabiliser,
        "initial_accumulator_value": checks.nonnegative,
    }
    slots = (Slot("v", initial="initial_accumulator_value", nonnegative=True, idle=1.0),)
    elementwise = True

    def __init__(
        self,
        learning_rate=0.01,
        epsilon=1e-16,
        epsilon_outside=0.0,
        initial_accumulator_value=0.0,
        **options,
    ):
        super().__init__(
            learning_rate,
            options,
            epsilon=epsilon,
            epsilon_outside=epsilon_outside,
            initial_accumulator_value=initial_accumulator_value,
        )

    def check_together(self, epsilon, epsilon_outside, **others):
        checks.some_epsilon(epsilon, epsilon_outside)

    def rule(self, h, theta, g, v):
        v = v + g * g
        return h.eta * g / (sqrt(v + h.epsilon) + h.epsilon_outside), (v,)
