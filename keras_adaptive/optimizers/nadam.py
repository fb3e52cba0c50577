"""NAdam."""

import math

import keras
from keras.ops import exp, sqrt

from keras_adaptive.core.fields import KW_ONLY, fraction, nonnegative, one_of, rate, sole_stabiliser
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.state.slots import Slot


def _of_full_form(shape, h):
    return () if h.form == "full" else None


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Nadam(AdaptiveOptimizer):
    """NAdam: Adam with Nesterov's momentum, which takes the next step's average instead of this one's.

        m_t = beta_1 m_{t-1} + (1 - beta_1) g_t                               m_0 = 0
        v_t = beta_2 v_{t-1} + (1 - beta_2) g_t g_t                           v_0 = 0
        v_hat_t = v_t / (1 - beta_2^t)
        form "full":
            mu_t = beta_1 (1 - 0.96^(t momentum_decay) / 2)
            p_t = mu_t p_{t-1}                                                p_0 = 1
            n_t = mu_{t+1} m_t / (1 - mu_{t+1} p_t) + (1 - mu_t) g_t / (1 - p_t)
        form "simple":
            n_t = beta_1 m_t / (1 - beta_1^(t+1)) + (1 - beta_1) g_t / (1 - beta_1^t)
        theta_t = theta_{t-1} - eta_t n_t / (sqrt(v_hat_t) + epsilon)

    The full form is the paper's, in which the momentum warms up. AlgoPerf's baseline uses the simple form.

    Slots: m and v, of the variable's shape; with the full form also p, one number.

    Defaults: all are torch's. momentum_decay is the paper's too: its exponent is t / 250.

    Start with: AdamW's learning rate, in most uses 1e-4 to 3e-3, with a warm-up and a decay. For language models Wen et
    al. (2025) tuned 4e-3 to 8e-3 with beta_2 0.98, weight_decay 0.1 and a warm-up of 1,000 to 2,000 updates. Small
    models take more.

    Pitfalls:

    - mu rises slowly: from half of beta_1 to three quarters after 4,245 updates. A shorter run never has the momentum
      of beta_1. Take form="simple", or a momentum_decay of 1, with which mu is there after 100 updates.
    - "NadamW" of benchmarks is this class with a weight_decay, which is None by default.

    Differs from:

    - `keras.optimizers.Nadam`: the same numbers with `Nadam(0.001, momentum_decay=1.0, epsilon=1e-7)`. Its momentum
      warms up 250 times faster than the paper's.
    - `torch.optim.NAdam`: the same numbers. Its weight decay is an L2 penalty, here `weight_decay_mode="coupled"`,
      unless it has `decoupled_weight_decay=True`.
    - `optax.nadam`: the same numbers with `Nadam(form="simple")`.
    - `Adam`: m_hat_t, the average of this step, in place of n_t.

    Source: Dozat, ICLR workshop 2016.

    Example:

    >>> optimizer = Nadam(learning_rate=0.5, form="simple")
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([4.0, -0.25])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [0.2632 2.7368]
    """

    learning_rate = rate(0.002)
    beta_1 = fraction(0.9, "decay rate of the moving average of the gradient")
    beta_2 = fraction(0.999, "decay rate of the moving average of the squared gradient")
    epsilon = sole_stabiliser(1e-08, "stabiliser outside of the root, in units of the gradient")
    _ = KW_ONLY
    momentum_decay = nonnegative(0.004, "how fast mu rises from half of beta_1 to beta_1")
    form = one_of(("full", "simple"), "full", 'form of n_t; "simple" has no momentum_decay')
    slots = (
        "m",
        Slot("v", nonnegative=True),
        Slot("p", initial=1.0, shape=_of_full_form, exact=True, nonnegative=True),
    )
    elementwise = True

    def rule(self, h, theta, g, m, v, p):
        m = h.beta_1 * m + (1 - h.beta_1) * g
        v = h.beta_2 * v + (1 - h.beta_2) * g * g
        v_hat = v / h.debias(h.beta_2)
        if h.form == "full":
            mu, mu_next = (h.beta_1 * (1 - exp(t * (h.momentum_decay * math.log(0.96))) / 2) for t in (h.t, h.t + 1))
            p = mu * p
            n = mu_next * m / (1 - mu_next * p) + (1 - mu) * g / (1 - p)
        else:
            n = h.beta_1 * m / h.debias(h.beta_1, 1) + (1 - h.beta_1) * g / h.debias(h.beta_1)
        return h.eta * n / (sqrt(v_hat) + h.epsilon), (m, v, p)
