"""Adam with D-Adaptation."""

import math

import keras
from keras import ops
from keras.ops import sqrt

from keras_adaptive.core.fields import flag, fraction, growth, rate, sole_stabiliser
from keras_adaptive.core.math.numerics import maximum, minimum, quotient, sqrt_of
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.state.slots import Scalar, Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class DAdaptAdam(AdaptiveOptimizer):
    """Adam with D-Adaptation: its learning rate is a lower bound of the distance to the solution.

        delta_t = d_t eta_t;  with use_bias_correction times sqrt(1 - beta_2^t) / (1 - beta_1^t)
        q_t = delta_t sum(g_t s_{t-1} / (sqrt(v_{t-1}) + epsilon))
        m_t = beta_1 m_{t-1} + (1 - beta_1) delta_t g_t                       m_0 = 0
        v_t = beta_2 v_{t-1} + (1 - beta_2) g_t g_t                           v_0 = 0
        s_t = beta_3 s_{t-1} + (1 - beta_3) delta_t g_t                       s_0 = 0, beta_3 = sqrt(beta_2)
        numerator_t = beta_3 numerator_{t-1} + (1 - beta_3) q_t
        denominator_t = (1 - beta_3) sum(|s_t|)
        d_hat_t = numerator_t / denominator_t
        d_{t+1} = max(d_t, min(d_hat_t, growth_rate d_t))                     d_1 = d_0
        theta_t = theta_{t-1} - m_t / (sqrt(v_t) + epsilon) - delta_t lambda theta_{t-1}

    Sums are over all variables, and d is one number for all of them, which never falls. An update whose eta is 0 leaves
    d unchanged. As long as all gradients have been 0, denominator_t is 0 and nothing moves: weights do not even decay,
    as in the authors' code. A group's multiplier of eta counts in d as it does in the step. The weight decay lambda is
    part of the rule.

    Slots: m, v and s, of the variable's shape. For all variables together the numbers d, d_next (which is d_{t+1}),
    numerator and denominator.

    Defaults: all are the authors' code's. The betas and epsilon are also Adam's.

    Start with: a learning rate of 1.0, with the warm-up and the decay that `Adam` would have (the authors' repository).
    The maximum of the schedule should be 1.

    Pitfalls:

    - If the loss does not fall, set `use_bias_correction=True`: a small attention model trained only with it.
    - d never falls: one overestimate stays for the rest of the training. If the training diverges early,
      `growth_rate=1.02` has the effect of a warm-up (the authors' repository), and d_0 must be smaller than any
      plausible d.
    - Its rates are larger than those that people choose. If the model overfits, the authors advise 2 to 4 times the
      weight decay.
    - Look at d, `optimizer.common["d"]`: while it is near 1e-6, hardly anything is learnt.

    Differs from:

    - The authors' code: its weight decay is an L2 penalty unless decouple is True.
    - `optax.contrib.dadapt_adamw`: the same numbers with `DAdaptAdam(use_bias_correction=True)`.
    - `pytorch_optimizer.DAdaptAdam`: the same numbers, with `weight_decouple=True` there.
    - `Prodigy`: its estimate grows faster. `DoG`: estimates the rate of SGD.

    Source: Defazio and Mishchenko, Learning-Rate-Free Learning by D-Adaptation, ICML 2023, arXiv:2301.07733.

    Example:

    >>> optimizer = DAdaptAdam(d_0=0.5, beta_1=0.5, beta_2=0.75)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([4.0, -0.25])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4), float(optimizer.common["d"]))
    [0.5 2.5] 0.5
    """

    learning_rate = rate(1.0)
    beta_1 = fraction(0.9, "decay rate of the moving average of the gradient")
    beta_2 = fraction(0.999, "decay rate of the moving average of the squared gradient")
    epsilon = sole_stabiliser(1e-08, "stabiliser outside of the root, in units of the gradient")
    d_0 = sole_stabiliser(1e-06, "first estimate of d, which should be smaller than any plausible one")
    growth_rate = growth(math.inf, "largest factor by which d may grow in one update")
    use_bias_correction = flag(False, "correct the averages for their start at zero, as Adam does")
    slots = ("m", Slot("v", nonnegative=True), "s")
    scalars = (
        Scalar("d", "d_0", nonnegative=True),
        Scalar("d_next", "d_0", nonnegative=True),
        Scalar("numerator"),
        Scalar("denominator", nonnegative=True),
    )
    common_hyperparameters = ("d_0", "growth_rate")
    decay = "rule"

    def local_sums(self, h, theta, g, m, v, s):
        delta = self.delta(h, h.d_next)
        q = delta * ops.sum(g * (s / (sqrt(v) + h.epsilon)))
        return {"q": q, "denominator": ops.sum(ops.abs(self.next_s(h, delta, g, s)))}

    def update_scalars(self, h, sums, d, d_next, numerator, denominator):
        d, beta_3 = d_next, sqrt_of(h.beta_2)
        numerator = beta_3 * numerator + (1 - beta_3) * sums["q"]
        denominator = (1 - beta_3) * sums["denominator"]
        d_hat = quotient(numerator, denominator)
        grown = maximum(d, minimum(d_hat, h.growth_rate * d))
        d_next = ops.where(h.eta > 0.0, grown, d)
        return {"d": d, "d_next": d_next, "numerator": numerator, "denominator": denominator}

    def rule(self, h, theta, g, m, v, s):
        delta = self.delta(h, h.d)
        m = h.beta_1 * m + (1 - h.beta_1) * delta * g
        v = h.beta_2 * v + (1 - h.beta_2) * g * g
        s = self.next_s(h, delta, g, s)
        step = m / (sqrt(v) + h.epsilon) + delta * h.weight_decay * theta
        return ops.where(ops.equal(h.denominator, 0.0), ops.zeros_like(step), step), (m, v, s)

    def delta(self, h, d):
        delta = d * h.eta
        return delta * sqrt(h.debias(h.beta_2)) / h.debias(h.beta_1) if h.use_bias_correction else delta

    def next_s(self, h, delta, g, s):
        beta_3 = sqrt_of(h.beta_2)
        return beta_3 * s + (1 - beta_3) * delta * g
