"""AdaBound."""

import keras
from keras.ops import sqrt

from keras_adaptive.core import checks
from keras_adaptive.core.fields import fraction, positive, rate, sole_stabiliser
from keras_adaptive.core.math.numerics import maximum, minimum
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.state.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class AdaBound(AdaptiveOptimizer):
    """AdaBound: Adam whose rates are held between two bounds that close in on those of SGD with momentum.

        m_t = beta_1 m_{t-1} + (1 - beta_1) g_t                               m_0 = 0
        v_t = beta_2 v_{t-1} + (1 - beta_2) g_t g_t                           v_0 = 0
        a_t = eta_t sqrt(1 - beta_2^t) / (1 - beta_1^t) / (sqrt(v_t) + epsilon)
        final_t = final_learning_rate eta_t / base_learning_rate
        lower_t = final_t (1 - 1 / (gamma t + 1)),  upper_t = final_t (1 + 1 / (gamma t))
        theta_t = theta_{t-1} - min(max(a_t, lower_t), upper_t) m_t

    The bounds hold for the rate a_t, which includes the corrections of both averages, and they follow the schedule.

    Slots: m and v, of the variable's shape.

    Defaults: all are the authors' code's; the betas and epsilon are also Adam's. A base_learning_rate of None stands
    for the learning rate, as in that code.

    Start with: the defaults, a learning rate of 1e-3 and a final_learning_rate of 0.1 (the authors' repository), with a
    decay.

    Pitfalls:

    - It ends as SGD: with the default gamma the bounds are within 10 % of final_learning_rate after 10,000 updates.
      Where only Adam trains well, take a smaller gamma.
    - m is an average, so the end is SGD with momentum beta_1 and a rate of final_learning_rate (1 - beta_1): 0.01, not
      0.1.
    - final_learning_rate is multiplied by eta_t / base_learning_rate. With a schedule, give its peak as
      base_learning_rate: during a warm-up and a decay the bounds move with eta.

    Differs from:

    - The authors' code: its weight decay is an L2 penalty, here `weight_decay_mode="coupled"`. Its option amsbound is
      not here.
    - `pytorch_optimizer.AdaBound`: the same numbers, but for 1e-15 that it adds under the root.
    - `Adam`: has no bounds. `SGD` with momentum is what this class becomes.

    Source: Luo, Xiong, Liu and Sun, ICLR 2019, arXiv:1902.09843.

    Example:

    >>> optimizer = AdaBound(learning_rate=0.5, beta_1=0.5, final_learning_rate=1.0, gamma=1.0)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([4.0, -0.25])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [0.   2.25]
    """

    learning_rate = rate(0.001)
    beta_1 = fraction(0.9, "decay rate of the moving average of the gradient")
    beta_2 = fraction(0.999, "decay rate of the moving average of the squared gradient")
    epsilon = sole_stabiliser(1e-08, "stabiliser outside of the root of the uncorrected v, in units of the gradient")
    final_learning_rate = positive(0.1, "learning rate of SGD at which the bounds meet")
    gamma = positive(0.001, "how fast the bounds meet")
    base_learning_rate = positive(
        None,
        "eta at which the bounds meet at final_learning_rate; None: the number given as learning_rate",
        "It must be given if learning_rate is a schedule or a callable",
    )
    slots = ("m", Slot("v", nonnegative=True))
    elementwise = True

    @classmethod
    def implied(cls, given):
        if given.get("base_learning_rate", 0.0) is not None:
            return {}
        eta = checks.learning_rate("learning_rate", given["learning_rate"])
        if not isinstance(eta, float) or eta == 0.0:
            raise ValueError(
                "`learning_rate` must be a number above 0 unless base_learning_rate is given. "
                f"Received: learning_rate={given['learning_rate']!r}, base_learning_rate=None"
            )
        return {"base_learning_rate": eta}

    def rule(self, h, theta, g, m, v):
        m = h.beta_1 * m + (1 - h.beta_1) * g
        v = h.beta_2 * v + (1 - h.beta_2) * g * g
        a = h.eta * sqrt(h.debias(h.beta_2)) / h.debias(h.beta_1) / (sqrt(v) + h.epsilon)
        final = h.final_learning_rate * h.eta / h.base_learning_rate
        lower, upper = final * (1 - 1 / (h.gamma * h.t + 1)), final * (1 + 1 / (h.gamma * h.t))
        return minimum(maximum(a, lower), upper) * m, (m, v)
