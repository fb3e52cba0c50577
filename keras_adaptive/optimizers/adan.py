"""Adan."""

import keras
from keras.ops import equal, sqrt, where

from keras_adaptive.core.fields import decay_rate, flag, fraction, rate, sole_stabiliser
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.state.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Adan(AdaptiveOptimizer):
    """Adan: Nesterov's momentum written with the difference of successive gradients, and Adam's denominator of it.

        p_t = g_t  for the difference  d_t = g_t - p_{t-1}                    p_0 = g_1, so that d_1 = 0
        m_t = beta_1 m_{t-1} + (1 - beta_1) g_t                               m_0 = 0
        v_t = beta_2 v_{t-1} + (1 - beta_2) d_t                               v_0 = 0
        n_t = beta_3 n_{t-1} + (1 - beta_3) (g_t + beta_2 d_t)^2              n_0 = 0
        m_hat_t = m_t / (1 - beta_1^t),  v_hat_t = v_t / (1 - beta_2^t),  n_hat_t = n_t / (1 - beta_3^t)
        step_t = eta_t (m_hat_t + beta_2 v_hat_t) / (sqrt(n_hat_t) + epsilon)
        proximal:  theta_t = (theta_{t-1} - step_t) / (1 + eta_t weight_decay)
        otherwise: theta_t = theta_{t-1} - step_t - eta_t weight_decay theta_{t-1}

    Slots: p (the last gradient), m, v and n, each of the variable's shape.

    Defaults: the learning rate, the betas and epsilon are the authors' code's. The weight decay and proximal are those
    of all the paper's experiments.

    Start with: 5 to 10 times the learning rate of `AdamW`, so 5e-3 to 1e-2 where that has 1e-3, with a warm-up, a decay
    and the default weight decay (the authors' repository).

    Pitfalls:

    - The default learning rate is lower than what the authors recommend.
    - The betas are one minus the paper's: 0.02 there is 0.98 here.
    - It stores 16 bytes for each float32 weight, twice as much as Adam.
    - In vision it prefers large batches, 2,048 in the paper (the authors' repository).

    Differs from:

    - `optax.adan`: multiplies the difference by 1 - b2 = 0.08 in the place of 0.92, which is another algorithm.
    - `pytorch_optimizer.Adan`: the same numbers with `weight_decay=0.02` there; its `weight_decouple=True` is
      `proximal=False`.
    - `Nadam`: has Nesterov's momentum from one average of gradients. `Mars`: puts the difference into the gradient that
      AdamW gets.

    Source: Xie, Zhou, Li, Lin and Yan, IEEE TPAMI 2024, arXiv:2208.06677.

    Example:

    >>> optimizer = Adan(learning_rate=0.5, weight_decay=0.5)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([4.0, -0.25])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [0.4 2. ]
    """

    learning_rate = rate(0.001)
    beta_1 = fraction(0.98, "decay rate of the moving average of the gradient")
    beta_2 = fraction(0.92, "decay rate of the moving average of the difference")
    beta_3 = fraction(0.99, "decay rate of the moving average of the square")
    epsilon = sole_stabiliser(1e-08, "stabiliser outside of the root, in units of the gradient")
    proximal = flag(True, "decay by a division after the step, as in the paper; False: decay as AdamW does")
    weight_decay = decay_rate(0.02)
    slots = ("p", "m", "v", Slot("n", nonnegative=True))
    elementwise = True
    decay = "rule"

    def rule(self, h, theta, g, p, m, v, n):
        d = where(equal(h.t, 1), 0.0 * g, g - p)
        m = h.beta_1 * m + (1 - h.beta_1) * g
        v = h.beta_2 * v + (1 - h.beta_2) * d
        n = h.beta_3 * n + (1 - h.beta_3) * (g + h.beta_2 * d) * (g + h.beta_2 * d)
        m_hat, v_hat, n_hat = m / h.debias(h.beta_1), v / h.debias(h.beta_2), n / h.debias(h.beta_3)
        step = h.eta * (m_hat + h.beta_2 * v_hat) / (sqrt(n_hat) + h.epsilon)
        # The proximal form is (theta - step) / (1 + decay); delta is what that subtracts from theta.
        decay = h.eta * h.weight_decay
        delta = (step + decay * theta) / (1 + decay) if h.proximal else step + decay * theta
        return delta, (g, m, v, n)
