"""AMSGrad, in its three forms."""

import keras
from keras.ops import sqrt

from keras_adaptive.core.fields import fraction, one_of, rate, sole_stabiliser
from keras_adaptive.core.math.numerics import maximum
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.state.slots import Slot


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

    Slots: m, v and x, of the variable's shape.

    Defaults: the learning rate, the betas and epsilon are Adam's; the paper has no epsilon. The variant is the paper's.

    Start with: a learning rate from 1e-4 to 3e-3, with a warm-up and a decay, as for `Adam`.

    Pitfalls:

    - In the variant "paper" nothing is corrected: the first step is 3.2 eta, and where gradients agree, steps rise to
      6.6 eta until update 12. Use a warm-up.
    - The maximum never falls: one large gradient lowers the rate of its weight for the rest of the training. Clip
      gradients.
    - In the variant "raw" the rate can rise while 1 - beta_2^t rises, which the paper's proof does not cover. "hat"
      keeps the first v_hat, which is the noisiest.

    Differs from:

    - `keras.optimizers.Adam(amsgrad=True)`: the variant "raw", with an epsilon of 1e-7 that is added before the
      correction.
    - `torch.optim.Adam(amsgrad=True)`: the same numbers with `Amsgrad(variant="raw")`.
    - `optax.amsgrad`: the same numbers with `Amsgrad(variant="hat")`. With
      `bias_correction_mu=False, bias_correction_nu=False` there, those of the default.
    - `Adam`: divides by the average itself. `Adamax`: has a maximum of the gradient, which decays.

    Source: Reddi, Kale and Kumar, ICLR 2018, arXiv:1904.09237.

    Example:

    >>> optimizer = Amsgrad(learning_rate=0.5, variant="raw")
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([4.0, -0.25])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [0.5 2.5]
    """

    learning_rate = rate(0.001)
    beta_1 = fraction(0.9, "decay rate of the moving average of the gradient")
    beta_2 = fraction(0.999, "decay rate of the moving average of the squared gradient")
    epsilon = sole_stabiliser(1e-08, "stabiliser outside of the root, in units of the gradient")
    variant = one_of(("paper", "raw", "hat"), "paper", "which of the three forms")
    slots = ("m", Slot("v", nonnegative=True), Slot("x", nonnegative=True))
    elementwise = True

    def rule(self, h, theta, g, m, v, x):
        m = h.beta_1 * m + (1 - h.beta_1) * g
        v = h.beta_2 * v + (1 - h.beta_2) * g * g
        x = maximum(x, v / h.debias(h.beta_2) if h.variant == "hat" else v)
        if h.variant == "paper":
            return h.eta * m / (sqrt(x) + h.epsilon), (m, v, x)
        m_hat = m / h.debias(h.beta_1)
        x_hat = x / h.debias(h.beta_2) if h.variant == "raw" else x
        return h.eta * m_hat / (sqrt(x_hat) + h.epsilon), (m, v, x)
