"""Yogi."""

import keras
from keras.ops import sign, sqrt

from keras_adaptive.core import checks
from keras_adaptive.core.numerics import debias
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Yogi(AdaptiveOptimizer):
    """Yogi: Adam whose second moment moves by the squared gradient alone, however large it is itself.

        m_t = beta_1 m_{t-1} + (1 - beta_1) g_t                               m_0 = initial_momentum_value
        v_t = v_{t-1} - (1 - beta_2) sign(v_{t-1} - g_t g_t) g_t g_t          v_0 = initial_accumulator_value
        theta_t = theta_{t-1} - eta_t m_t / (sqrt(v_t) + epsilon)
        with debias, m_t / (1 - beta_1^t) and v_t / (1 - beta_2^t) stand for m_t and v_t in the step.

    So a coordinate's rate rises more slowly than Adam's after large gradients. The paper corrects neither average.
    optax's numbers: `Yogi(initial_momentum_value=1e-6, debias=True)`.

    Args:
        learning_rate: eta: a real number of at least 0, a LearningRateSchedule or a callable. Default 0.01.
        beta_1: weight of the last average of the gradient, in [0, 1). Default 0.9.
        beta_2: one minus what the squared gradient is multiplied by, in [0, 1). Default 0.999.
        epsilon: stabiliser outside of the root, above 0, in units of the gradient. Default 0.001.
        initial_accumulator_value: v_0, at least 0. Default 1e-06.
        initial_momentum_value: m_0, at least 0. Default 0.0.
        debias: correct both averages for their start. Default False.
        **options: Keras's own arguments and `skip_nonfinite`, among others: see `AdaptiveOptimizer`.

    Slots: m and v, of the variable's shape.

    Raises:
        ValueError, TypeError: for an argument out of range, of the wrong kind or unknown.

    Source: Zaheer, Reddi, Sachan, Kale and Kumar, NeurIPS 2018.

    Example:

    >>> optimizer = Yogi(learning_rate=0.5, beta_1=0.0, beta_2=0.75, epsilon=1e-8, initial_accumulator_value=0.0)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([4.0, -0.25])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [0. 3.]
    """

    hyperparameters = {
        "beta_1": checks.fraction,
        "beta_2": checks.fraction,
        "epsilon": checks.sole_stabiliser,
        "initial_accumulator_value": checks.nonnegative,
        "initial_momentum_value": checks.nonnegative,
        "debias": checks.flag,
    }
    slots = (
        Slot("m", initial="initial_momentum_value"),
        Slot("v", initial="initial_accumulator_value", nonnegative=True),
    )
    elementwise = True

    def __init__(
        self,
        learning_rate=0.01,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-3,
        initial_accumulator_value=1e-6,
        initial_momentum_value=0.0,
        debias=False,
        **options,
    ):
        super().__init__(
            learning_rate,
            options,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            initial_accumulator_value=initial_accumulator_value,
            initial_momentum_value=initial_momentum_value,
            debias=debias,
        )

    def rule(self, h, theta, g, m, v):
        m = h.beta_1 * m + (1 - h.beta_1) * g
        v = v - (1 - h.beta_2) * sign(v - g * g) * g * g
        if not h.debias:
            return h.eta * m / (sqrt(v) + h.epsilon), (m, v)
        m_hat, v_hat = m / debias(h.beta_1, h.t), v / debias(h.beta_2, h.t)
        return h.eta * m_hat / (sqrt(v_hat) + h.epsilon), (m, v)
