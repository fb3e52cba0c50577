"""Prodigy."""

import math

import keras
from keras import ops
from keras.ops import sqrt

from keras_adaptive.core.fields import flag, fraction, growth, positive, rate, sole_stabiliser
from keras_adaptive.core.math.numerics import constant, maximum, minimum, quotient, sqrt_of
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.state.slots import THETA, Scalar, Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Prodigy(AdaptiveOptimizer):
    """Prodigy: Adam whose learning rate is estimated from how far the weights have come.

        delta_t = d_t eta_t;  with use_bias_correction times sqrt(1 - beta_2^t) / (1 - beta_1^t)
        numerator_t = beta_3 numerator_{t-1} + (d_t / d_0) delta_t sum(g_t (p_0 - theta_{t-1}))
        m_t = beta_1 m_{t-1} + (1 - beta_1) d_t g_t                           m_0 = 0
        v_t = beta_2 v_{t-1} + (1 - beta_2) d_t^2 g_t g_t                     v_0 = 0
        s_t = beta_3 s_{t-1} + (d_t / d_0) delta_t g_t                        s_0 = 0;  d_t for delta_t with
                                                                              safeguard_warmup
        denominator_t = sum(|s_t|)
        d_hat_t = d_coefficient numerator_t / denominator_t
        d_max_t = max(d_max_{t-1}, d_hat_t)                                   d_max_0 = d_0
        d_{t+1} = min(d_max_t, growth_rate d_t)                               d_1 = d_0, p_0 = theta_0
        theta_t = theta_{t-1} - delta_t (m_t / (sqrt(v_t) + d_{t+1} epsilon) + lambda theta_{t-1})

    Sums are over all variables, and d is one number for all of them. As long as d is d_0, it takes d_hat_t, whatever
    growth_rate is. As long as all gradients have been 0, denominator_t is 0 and nothing moves: weights do not even
    decay, as in the authors' code. A group's multiplier of eta counts in d as it does in the step. The weight decay
    lambda is part of the rule.

    Slots: m, v, s and p_0, of the variable's shape, p_0 always in the dtype of the arithmetic. For all variables
    together the numbers d, d_next (which is d_{t+1}), d_max, numerator and denominator.

    Defaults: all are those of the authors' code.

    Start with: a learning rate of 1, constant or with a cosine decay to 0 over all updates, and a weight_decay of 0,
    0.001, 0.01 or 0.1. If the estimate is too small or too large, change d_coefficient, from 0.1 to 10, and not the
    learning rate. For diffusion models use_bias_correction=True, safeguard_warmup=True and weight_decay=0.01. (All from
    the authors' README.)

    Pitfalls:

    - A warm-up of eta, or a cosine with restarts, makes d too large. Give safeguard_warmup=True: then s takes d_t in
      place of delta_t.
    - d never falls. If it grew too large, train again with a smaller d_coefficient.
    - If nothing is learned, look at `optimizer.common["d"]`. If it stays near d_0, give a d_0 of 1e-5 or 1e-4.
    - The estimate is rough: try learning rates from 0.1 to 10.

    Differs from:

    - prodigyopt and `pytorch_optimizer.Prodigy`: the same numbers. `slice_p` has no counterpart.
    - `optax.contrib.prodigy`: the same numbers with `Prodigy(use_bias_correction=True)`.
    - `DAdaptAdam`: a lower bound of the same distance that grows more slowly; it stores no p_0. `AdamW`: its learning
      rate is tuned by hand, and it has half of the state.

    Source: Mishchenko and Defazio, Prodigy: An Expeditiously Adaptive Parameter-Free Learner, ICML 2024,
    arXiv:2306.06101.

    Example:

    >>> optimizer = Prodigy(d_0=0.5)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([4.0, -0.25])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4), float(optimizer.common["d"]))
    [-0.5811  3.5811] 0.5
    """

    learning_rate = rate(1.0)
    beta_1 = fraction(0.9, "decay rate of the moving average of the gradient")
    beta_2 = fraction(0.999, "decay rate of the moving average of the squared gradient")
    beta_3 = fraction(None, "decay rate of the sums from which d is estimated; None: sqrt(beta_2)")
    epsilon = sole_stabiliser(1e-08, "stabiliser outside of the root, in units of the gradient")
    d_0 = sole_stabiliser(1e-06, "first estimate of d, which should be smaller than any plausible one")
    d_coefficient = positive(1.0, "factor of every estimate of d")
    growth_rate = growth(math.inf, "largest factor by which d may grow in one update")
    use_bias_correction = flag(False, "correct the averages for their start at zero, as Adam does")
    safeguard_warmup = flag(False, "compute s with d_t instead of delta_t, so without eta")
    slots = ("m", Slot("v", nonnegative=True), "s", Slot("p_0", initial=THETA, exact=True))
    scalars = (
        Scalar("d", "d_0", nonnegative=True),
        Scalar("d_next", "d_0", nonnegative=True),
        Scalar("d_max", "d_0", nonnegative=True),
        Scalar("numerator"),
        Scalar("denominator", nonnegative=True),
    )
    common_hyperparameters = ("beta_3", "d_0", "d_coefficient", "growth_rate", "safeguard_warmup")
    decay = "rule"

    def local_sums(self, h, theta, g, m, v, s, p_0):
        d = h.d_next
        delta = self.delta(h, d)
        way = (d / h.d_0) * delta * ops.sum(g * (p_0 - theta))
        return {"numerator": way, "denominator": ops.sum(ops.abs(self.next_s(h, d, delta, g, s)))}

    def update_scalars(self, h, sums, d, d_next, d_max, numerator, denominator):
        d, denominator = d_next, sums["denominator"]
        numerator = self.beta_3_of(h) * numerator + sums["numerator"]
        d_hat = h.d_coefficient * quotient(numerator, denominator)
        d_max = maximum(d_max, d_hat)
        largest = ops.where(ops.equal(d, constant(h.d_0, d.dtype)), maximum(d, d_hat), d) * h.growth_rate
        return {
            "d": d,
            "d_next": minimum(d_max, largest),
            "d_max": d_max,
            "numerator": numerator,
            "denominator": denominator,
        }

    def rule(self, h, theta, g, m, v, s, p_0):
        d, delta = h.d, self.delta(h, h.d)
        m = h.beta_1 * m + (1 - h.beta_1) * d * g
        v = h.beta_2 * v + (1 - h.beta_2) * (d * g) * (d * g)
        s = self.next_s(h, d, delta, g, s)
        u = m / (sqrt(v) + h.d_next * h.epsilon) + h.weight_decay * theta
        return delta * ops.where(ops.equal(h.denominator, 0.0), ops.zeros_like(u), u), (m, v, s, p_0)

    def delta(self, h, d):
        delta = d * h.eta
        return delta * sqrt(h.debias(h.beta_2)) / h.debias(h.beta_1) if h.use_bias_correction else delta

    def next_s(self, h, d, delta, g, s):
        return self.beta_3_of(h) * s + (d / h.d_0) * (d if h.safeguard_warmup else delta) * g

    def beta_3_of(self, h):
        return sqrt_of(h.beta_2) if h.beta_3 is None else h.beta_3
