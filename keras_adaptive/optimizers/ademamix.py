"""AdEMAMix."""

import math

import keras
from keras.ops import exp, expm1, sqrt

from keras_adaptive.core import checks
from keras_adaptive.core.numerics import clip
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.slots import Slot


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

    Without a number of steps, alpha_t is alpha and beta_3_t is beta_3; the paper takes all steps of the training for
    both, and raises the half-life of the slow average linearly, as here. That average is not corrected for its start at
    zero. The authors' code has log(beta + 1e-8) in the half-life, and 2 for alpha.

    Args:
        learning_rate: eta: a real number of at least 0, a LearningRateSchedule or a callable. Default 0.001.
        beta_1: weight of the last fast average, in [0, 1). Default 0.9. 0.0 keeps no slot for it.
        beta_2: weight of the last average of the squared gradient, in [0, 1). Default 0.999.
        beta_3: weight of the last slow average, in [0, 1). Default 0.9999.
        alpha: what the slow average counts, at least 0. Default 5.0.
        epsilon: stabiliser outside of the root, above 0, in units of the gradient. Default 1e-08.
        alpha_steps: None, or in how many updates alpha rises from 0. Default None.
        beta_3_steps: None, or in how many updates beta_3 rises from beta_1. Default None.
        **options: Keras's own arguments and `skip_nonfinite`, among others: see `AdaptiveOptimizer`.

    Slots: m, if beta_1 is above 0, n and v, of the variable's shape.

    Raises:
        ValueError, TypeError: for an argument out of range, of the wrong kind or unknown.

    Source: Pagliardini, Ablin and Grangier, ICLR 2025.

    Example:

    >>> optimizer = AdEMAMix(learning_rate=0.5, beta_3=0.75, alpha=4.0)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([4.0, -0.25])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [0. 3.]
    """

    hyperparameters = {
        "beta_1": checks.fraction,
        "beta_2": checks.fraction,
        "beta_3": checks.fraction,
        "alpha": checks.nonnegative,
        "epsilon": checks.sole_stabiliser,
        "alpha_steps": checks.optional(checks.count),
        "beta_3_steps": checks.optional(checks.count),
    }
    slots = (Slot("m", when="beta_1"), "n", Slot("v", nonnegative=True))
    elementwise = True

    def __init__(
        self,
        learning_rate=0.001,
        beta_1=0.9,
        beta_2=0.999,
        beta_3=0.9999,
        alpha=5.0,
        epsilon=1e-8,
        alpha_steps=None,
        beta_3_steps=None,
        **options,
    ):
        super().__init__(
            learning_rate,
            options,
            beta_1=beta_1,
            beta_2=beta_2,
            beta_3=beta_3,
            alpha=alpha,
            epsilon=epsilon,
            alpha_steps=alpha_steps,
            beta_3_steps=beta_3_steps,
        )

    def rule(self, h, theta, g, m, n, v):
        alpha, beta_3, rest = h.alpha, h.beta_3, 1 - h.beta_3
        if h.alpha_steps is not None:
            alpha = alpha * clip(h.t / h.alpha_steps, 1.0)
        if h.beta_3_steps is not None:
            s = clip(h.t / h.beta_3_steps, 1.0)
            log_beta_3 = 1 / ((1 - s) * _inverse_log(h.beta_1) + s * _inverse_log(h.beta_3))
            beta_3, rest = exp(log_beta_3), -expm1(log_beta_3)
        m = h.beta_1 * m + (1 - h.beta_1) * g
        n = beta_3 * n + rest * g
        v = h.beta_2 * v + (1 - h.beta_2) * g * g
        m_hat, v_hat = m / h.debias(h.beta_1), v / h.debias(h.beta_2)
        return h.eta * (m_hat + alpha * n) / (sqrt(v_hat) + h.epsilon), (m, n, v)


def _inverse_log(beta):
    return 1 / math.log(beta) if beta > 0 else -0.0
