"""Adamax."""

import keras
from keras.ops import abs

from keras_adaptive.core.fields import KW_ONLY, fraction, rate, sole_stabiliser
from keras_adaptive.core.math.numerics import maximum
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.state.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Adamax(AdaptiveOptimizer):
    """Adamax: Adam with a decaying maximum of the gradient's magnitude instead of the root of its mean square.

        m_t = beta_1 m_{t-1} + (1 - beta_1) g_t                               m_0 = 0
        u_t = max(beta_2 u_{t-1}, |g_t| + epsilon)                            u_0 = 0
        theta_t = theta_{t-1} - eta_t / (1 - beta_1^t) m_t / u_t

    Slots: m and u, of the variable's shape.

    Defaults: the learning rate and the betas are the paper's. epsilon is torch's; the paper has none.

    Start with: the default, 0.002 (the paper), with a warm-up and a decay. Rates are about twice Adam's, since u is
    mostly larger than the root of v.

    Pitfalls:

    - One large gradient lowers the rate of its weight for a long time: u halves in 693 updates with the default beta_2.
      Clip gradients, or take a smaller beta_2.

    Differs from:

    - `keras.optimizers.Adamax`: adds its epsilon of 1e-7 to u_t at the division, not in the maximum. Its learning rate
      is 0.001 by default.
    - `torch.optim.Adamax`: the same numbers. Its weight decay is an L2 penalty, here `weight_decay_mode="coupled"`.
    - `Adam`: divides by the root of an average of squares. `Amsgrad`: has a maximum that never decays.

    Source: Kingma and Ba, ICLR 2015, section 7.1, arXiv:1412.6980.

    Example:

    >>> optimizer = Adamax(learning_rate=0.5)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([4.0, -0.25])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [0.5 2.5]
    """

    learning_rate = rate(0.002)
    beta_1 = fraction(0.9, "decay rate of the moving average of the gradient")
    beta_2 = fraction(0.999, "decay rate of the maximum")
    epsilon = sole_stabiliser(1e-08, "stabiliser in the maximum, in units of the gradient")
    _ = KW_ONLY
    slots = ("m", Slot("u", nonnegative=True))
    elementwise = True

    def rule(self, h, theta, g, m, u):
        m = h.beta_1 * m + (1 - h.beta_1) * g
        u = maximum(h.beta_2 * u, abs(g) + h.epsilon)
        return h.eta / h.debias(h.beta_1) * m / u, (m, u)
