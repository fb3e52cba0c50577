"""Yogi."""

import keras
from keras.ops import sign, sqrt

from keras_adaptive.core.fields import flag, fraction, nonnegative, rate, sole_stabiliser
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.state.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Yogi(AdaptiveOptimizer):
    """Yogi: Adam whose second moment moves by the squared gradient alone, however large it is itself.

        m_t = beta_1 m_{t-1} + (1 - beta_1) g_t                               m_0 = initial_momentum_value
        v_t = v_{t-1} - (1 - beta_2) sign(v_{t-1} - g_t g_t) g_t g_t          v_0 = initial_accumulator_value
        theta_t = theta_{t-1} - eta_t m_t / (sqrt(v_t) + epsilon)
        with use_bias_correction the step has m_t / (1 - beta_1^t) and v_t / (1 - beta_2^t) for m_t and v_t

    So a coordinate's rate rises more slowly than Adam's after large gradients. The paper corrects neither average for
    its start.

    Slots: m and v, of the variable's shape.

    Defaults: learning rate, betas and epsilon are the paper's. initial_accumulator_value is that of TensorFlow Addons
    and optax. m_0 = 0 and no correction are the paper's.

    Start with: a learning rate of 0.01, the paper's, about 10 times Adam's learning rate, because epsilon is large,
    with a warm-up and a decay.

    Pitfalls:

    - epsilon is 1e-3. A coordinate with gradients well below that takes steps in proportion to them, as in SGD: with
      gradients of 1e-4, a twentieth of eta. For small gradients lower epsilon and the learning rate together.
    - v is not corrected and begins at 1e-6. With equal gradients of 1 the steps rise to 6.5 eta in the 12th update and
      come down to eta after 1,000. Use a warm-up or `use_bias_correction=True`.
    - v falls by only 0.001 g_t g_t in an update. After gradients of 100 those of 1 take steps of 0.01 eta for millions
      of updates; Adam's v has forgotten them after some thousands. Clip the gradients.

    Differs from:

    - `optax.yogi` and `pytorch_optimizer.Yogi`: the same numbers with
      `Yogi(initial_momentum_value=1e-6, use_bias_correction=True)`.
    - TensorFlow Addons' `Yogi`: corrects both averages, and adds epsilon to the root of v before that.
    - `Adam`: v moves by a share of the difference to the squared gradient, so it falls faster after large gradients.
      `Amsgrad`: its v never falls.

    Source: Zaheer, Reddi, Sachan, Kale and Kumar, NeurIPS 2018.

    Example:

    >>> optimizer = Yogi(learning_rate=0.5, beta_1=0.0, beta_2=0.75, epsilon=1e-8, initial_accumulator_value=0.0)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([4.0, -0.25])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [0. 3.]
    """

    learning_rate = rate(0.01)
    beta_1 = fraction(0.9, "decay rate of the moving average of the gradient")
    beta_2 = fraction(0.999, "one minus the factor of the squared gradient")
    epsilon = sole_stabiliser(0.001, "stabiliser outside of the root, in units of the gradient")
    initial_accumulator_value = nonnegative(1e-06, "v_0")
    initial_momentum_value = nonnegative(0.0, "m_0")
    use_bias_correction = flag(False, "correct both averages for their start at zero")
    renamed = {"debias": "use_bias_correction"}
    slots = (
        Slot("m", initial="initial_momentum_value"),
        Slot("v", initial="initial_accumulator_value", nonnegative=True),
    )
    elementwise = True

    def rule(self, h, theta, g, m, v):
        m = h.beta_1 * m + (1 - h.beta_1) * g
        v = v - (1 - h.beta_2) * sign(v - g * g) * g * g
        if not h.use_bias_correction:
            return h.eta * m / (sqrt(v) + h.epsilon), (m, v)
        m_hat, v_hat = m / h.debias(h.beta_1), v / h.debias(h.beta_2)
        return h.eta * m_hat / (sqrt(v_hat) + h.epsilon), (m, v)
