"""AdaBelief."""

import keras
from keras.ops import sqrt

from keras_adaptive.core.fields import fraction, rate, sole_stabiliser
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.state.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class AdaBelief(AdaptiveOptimizer):
    """AdaBelief: Adam that divides by how far gradients are from their average, not from zero.

        m_t = beta_1 m_{t-1} + (1 - beta_1) g_t                               m_0 = 0
        s_t = beta_2 s_{t-1} + (1 - beta_2) (g_t - m_t)^2 + epsilon           s_0 = 0
        m_hat_t = m_t / (1 - beta_1^t),  s_hat_t = s_t / (1 - beta_2^t)
        theta_t = theta_{t-1} - eta_t m_hat_t / (sqrt(s_hat_t) + epsilon)

    The epsilon that every step adds to the state accumulates to epsilon / (1 - beta_2). Where all gradients are equal,
    nothing else is left of s.

    Slots: m and s, of the variable's shape.

    Defaults: the learning rate and the betas are the paper's. epsilon is the authors' code's since its version 0.1, and
    optax's; before that it was 1e-8.

    Start with: a learning rate of 1e-3 and an epsilon of 1e-8 for image classification, 5e-4 and 1e-16 for
    transformers, 2e-4 and 1e-12 with a beta_1 of 0.5 for GANs (the authors' repository). Use a warm-up for
    transformers.

    Pitfalls:

    - A gradient that hardly changes makes huge steps: after 1,000 equal gradients a step is 20 eta, after 5,000 it is
      186 eta. The only bound is eta |g| sqrt((1 - beta_2) / epsilon), which a larger epsilon lowers.
    - epsilon is not Adam's: it is added to a square. Where an epsilon of 1e-8 is right for Adam, 1e-16 is right here.
    - The larger epsilon is, the more the steps are those of SGD. The authors take 1e-8 where SGD is better than Adam.

    Differs from:

    - The authors' code: it turns RAdam's rectification and decoupled weight decay on by default. This class is the
      paper's algorithm, without rectification.
    - `optax.adabelief`: the same numbers.
    - `Adam`: divides by the root of the average square of the gradient, not of its deviation from m.

    Source: Zhuang, Tang, Ding, Tatikonda, Dvornek, Papademetris and Duncan, NeurIPS 2020, arXiv:2010.07468.

    Example:

    >>> optimizer = AdaBelief(learning_rate=0.5, beta_1=0.5)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([4.0, -0.25])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [0. 3.]
    """

    learning_rate = rate(0.001)
    beta_1 = fraction(0.9, "decay rate of the moving average of the gradient")
    beta_2 = fraction(0.999, "decay rate of the moving average of the squared deviation")
    epsilon = sole_stabiliser(1e-16, "stabiliser in the state and outside of the root")
    slots = ("m", Slot("s", nonnegative=True))
    elementwise = True

    def rule(self, h, theta, g, m, s):
        m = h.beta_1 * m + (1 - h.beta_1) * g
        s = h.beta_2 * s + (1 - h.beta_2) * (g - m) * (g - m) + h.epsilon
        m_hat, s_hat = m / h.debias(h.beta_1), s / h.debias(h.beta_2)
        return h.eta * m_hat / (sqrt(s_hat) + h.epsilon), (m, s)
