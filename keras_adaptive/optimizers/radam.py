"""RAdam."""

import math

import keras
from keras.ops import expm1, log1p, sqrt, where

from keras_adaptive.core import checks
from keras_adaptive.core.fields import fraction, kind, one_of, rate, sole_stabiliser
from keras_adaptive.core.math.numerics import positive_part
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.state.slots import Slot

AT_LEAST_4 = checks.Check("a finite real number, at least 4", checks.real, lambda x: 4.0 <= x < math.inf, float)


@keras.saving.register_keras_serializable(package="keras_adaptive")
class RAdam(AdaptiveOptimizer):
    """RAdam: Adam with a step that is damped while its denominator rests on few gradients.

        m_t = beta_1 m_{t-1} + (1 - beta_1) g_t                               m_0 = 0
        v_t = beta_2 v_{t-1} + (1 - beta_2) g_t g_t                           v_0 = 0
        m_hat_t = m_t / (1 - beta_1^t)
        rho = 2 / (1 - beta_2) - 1,  rho_t = rho - 2 t beta_2^t / (1 - beta_2^t)
        where rho_t > threshold:
            r_t = sqrt((rho_t - 4) (rho_t - 2) rho / ((rho - 4) (rho - 2) rho_t))
            u_t = r_t m_hat_t sqrt(1 - beta_2^t) / (sqrt(v_t) + epsilon)
        else:
            u_t = m_hat_t  if unrectified is "momentum",  0  if it is "skip"
        theta_t = theta_{t-1} - eta_t u_t

    rho_t is close to t while t is small. With the paper's threshold of 4, the fifth step is the first that is adapted.
    A skipped step still decays.

    Slots: m and v, of the variable's shape.

    Defaults: learning rate, betas and epsilon are those of the authors' code; threshold and unrectified are the
    paper's.

    Start with: Adam's learning rate, from 1e-4 to 3e-3, without a warm-up, and a decay. The authors advise to begin
    with all settings of Adam first; where its warm-up was tuned, tune again.

    Pitfalls:

    - The first four steps are SGD with momentum: eta times the gradient. A gradient of 1000 moves its weight by 1000
      eta. Clip the gradients, or skip these steps with unrectified="skip".
    - It is a long warm-up by itself: r_t is 0.03 in the 6th step, 0.22 in the 100th, 0.65 in the 1,000th and 0.98 in
      the 5,000th, with beta_2 0.999. With a warm-up besides the start is slower still.
    - With a beta_2 of 0.6 or less rho is at most 4, and no step is ever adapted.

    Differs from:

    - `torch.optim.RAdam`: the same numbers with `RAdam(threshold=5.0)`. Its weight decay is an L2 penalty, here
      `weight_decay_mode="coupled"`, unless it has `decoupled_weight_decay=True`.
    - The authors' code: `RAdam(threshold=5.0, unrectified="skip")`, but it does not decay in the skipped steps.
    - `optax.radam`: has a threshold of 5, and adds epsilon to the root of the corrected v.
    - `Adam`: has no r_t; a warm-up of its learning rate has much the same effect.

    Source: Liu, Jiang, He, Chen, Liu, Gao and Han, ICLR 2020, arXiv:1908.03265.

    Example:

    >>> optimizer = RAdam(learning_rate=0.5)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([1.0, -0.25])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [0.5   2.125]
    """

    learning_rate = rate(0.001)
    beta_1 = fraction(0.9, "decay rate of the moving average of the gradient")
    beta_2 = fraction(0.999, "decay rate of the moving average of the squared gradient")
    epsilon = sole_stabiliser(1e-08, "stabiliser outside of the root of the uncorrected v, in units of the gradient")
    threshold = kind(AT_LEAST_4)(4.0, "length rho_t of the average above which the step is adapted", static=True)
    unrectified = one_of(
        ("momentum", "skip"), "momentum", 'u_t up to the threshold: m_hat_t ("momentum") or 0 ("skip")'
    )
    slots = ("m", Slot("v", nonnegative=True))
    elementwise = True

    def rule(self, h, theta, g, m, v):
        m = h.beta_1 * m + (1 - h.beta_1) * g
        v = h.beta_2 * v + (1 - h.beta_2) * g * g
        m_hat, rho = m / h.debias(h.beta_1), 2 / (1 - h.beta_2) - 1
        u = m_hat if h.unrectified == "momentum" else 0.0 * m_hat
        rho_t = h.once(("rho", h.beta_2), lambda: length(h, rho))
        r = sqrt(positive_part((rho_t - 4) * (rho_t - 2) * rho / ((rho - 4) * (rho - 2) * rho_t)))
        adapted = r * m_hat * sqrt(h.debias(h.beta_2)) / (sqrt(v) + h.epsilon)
        u = where(rho_t > h.threshold, adapted, u)
        return h.eta * u, (m, v)


def length(h, rho):
    """rho_t, from a form that loses no digits.

    While t is small, both terms of the definition are as large as rho, and their difference loses most digits. With
    beta_2^t = exp(-2y), rho_t is t (1 - L(y)) + L(y/t), where L(y) = coth(y) - 1/y.
    """
    y = -log1p(-h.debias(h.beta_2)) / 2
    return where(y < 1.0, h.t * (1 - _langevin(y)) + _langevin(y / h.t), rho - 2 * h.t / expm1(2 * y))


def _langevin(y):
    """coth(y) - 1/y for y from 0 to 1, by its continued fraction, y / (3 + y^2 / (5 + y^2 / (7 + ...)))."""
    fraction = 19.0
    for odd in range(17, 1, -2):
        fraction = odd + y * y / fraction
    return y / fraction
