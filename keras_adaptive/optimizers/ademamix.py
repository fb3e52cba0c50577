"""AdEMAMix."""

import keras
from keras.ops import exp, expm1, sqrt

from keras_adaptive.core.fields import count, fraction, nonnegative, rate, sole_stabiliser
from keras_adaptive.core.math.numerics import clip, log_of
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.state.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class AdEMAMix(AdaptiveOptimizer):
    """AdEMAMix: Adam with a second, much slower average of the gradient beside the fast one.

        m_t = beta_1 m_{t-1} + (1 - beta_1) g_t                               m_0 = 0
        n_t = beta_3_t n_{t-1} + (1 - beta_3_t) g_t                           n_0 = 0
        v_t = beta_2 v_{t-1} + (1 - beta_2) g_t g_t                           v_0 = 0
        m_hat_t = m_t / (1 - beta_1^t),  v_hat_t = v_t / (1 - beta_2^t)
        theta_t = theta_{t-1} - eta_t (m_hat_t + alpha_t n_t) / (sqrt(v_hat_t) + epsilon)
        alpha_t = alpha min(t / alpha_steps, 1)
        1 / log beta_3_t = (1 - s) / log beta_1 + s / log beta_3,  s = min(t / beta_3_steps, 1)

    Without alpha_steps alpha_t is alpha, and without beta_3_steps beta_3_t is beta_3. The half-life of the slow average
    rises linearly, and the average is not corrected for its start at zero, both as in the paper.

    Slots: m (if beta_1 is above 0), n and v, each of the variable's shape.

    Defaults: the learning rate, the betas and epsilon are the authors' code's. alpha is the paper's and optax's; the
    authors' code has 2.0, and 8.0 in its examples. alpha_steps and beta_3_steps are None there too.

    Start with: a learning rate of 1e-3, an alpha of 8 and a weight decay of 0.1, with alpha_steps and beta_3_steps
    equal to the number of updates of the full training (the authors' repository), a warm-up and a decay. Semenov et al.
    (2025) trained 720 million parameters with the same alpha and a beta_3 of 0.999.

    Pitfalls:

    - Without the two numbers of steps, the slow average has its full weight from the start: where gradients agree, a
      step grows to 1 + alpha times Adam's. The paper raises both over the full training.
    - The slow average halves in 6,931 updates by default. In a training of a few thousand it has hardly begun: take a
      smaller beta_3, or `AdamW`.
    - After a change of the data or a restart of the schedule, old gradients go on pushing for as long.

    Differs from:

    - The authors' code: has log(beta + 1e-8) in the half-life, a difference of about 5e-7.
    - `optax.contrib.ademamix`: the same numbers without the two numbers of steps.
    - `AdamW`: the same numbers with `alpha=0.0` and the same decay. `Adan`: a second average of differences of
      gradients.

    Source: Pagliardini, Ablin and Grangier, ICLR 2025, arXiv:2409.03137.

    Example:

    >>> optimizer = AdEMAMix(learning_rate=0.5, beta_3=0.75, alpha=4.0)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([4.0, -0.25])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [0. 3.]
    """

    learning_rate = rate(0.001)
    beta_1 = fraction(0.9, "decay rate of the fast average; 0.0 stores no slot for it")
    beta_2 = fraction(0.999, "decay rate of the moving average of the squared gradient")
    beta_3 = fraction(0.9999, "decay rate of the slow average")
    alpha = nonnegative(5.0, "weight of the slow average in the step")
    epsilon = sole_stabiliser(1e-08, "stabiliser outside of the root, in units of the gradient")
    alpha_steps = count(None, "number of updates over which alpha rises from 0; None: alpha is constant")
    beta_3_steps = count(None, "number of updates over which beta_3 rises from beta_1; None: beta_3 is constant")
    slots = (Slot("m", when="beta_1"), "n", Slot("v", nonnegative=True))
    elementwise = True

    def rule(self, h, theta, g, m, n, v):
        alpha, beta_3, rest = h.alpha, h.beta_3, 1 - h.beta_3
        if h.alpha_steps is not None:
            alpha = alpha * clip(h.t / h.alpha_steps, 1.0)
        if h.beta_3_steps is not None:
            s = clip(h.t / h.beta_3_steps, 1.0)
            log_beta_3 = 1 / ((1 - s) / log_of(h.beta_1) + s / log_of(h.beta_3))
            beta_3, rest = exp(log_beta_3), -expm1(log_beta_3)
        m = h.beta_1 * m + (1 - h.beta_1) * g
        n = beta_3 * n + rest * g
        v = h.beta_2 * v + (1 - h.beta_2) * g * g
        m_hat, v_hat = m / h.debias(h.beta_1), v / h.debias(h.beta_2)
        return h.eta * (m_hat + alpha * n) / (sqrt(v_hat) + h.epsilon), (m, n, v)
