"""ADOPT."""

import keras
from keras.ops import exp, log, sqrt, where

from keras_adaptive.core import checks
from keras_adaptive.core.numerics import maximum, minimum
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Adopt(AdaptiveOptimizer):
    """ADOPT: Adam that divides by the second moment without the current gradient, and averages after the division.

        c_t = (t - 1)^clip_exponent
        n_t = g_t / max(sqrt(v_{t-1}), epsilon), each element clipped to [-c_t, c_t];  n_1 = 0
        m_t = beta_1 m_{t-1} + (1 - beta_1) n_t                               m_0 = 0
        v_t = beta_2 v_{t-1} + (1 - beta_2) g_t g_t,  v_1 = g_1 g_1           v_0 = -1, which stands for none
        theta_t = theta_{t-1} - eta_t m_t

    The first gradient of a variable fills v and moves no weight, but for weight decay. It converges with every beta_2
    without the clip; the authors added the clip for the stability of the first steps.

    Args:
        learning_rate: eta: a real number of at least 0, a LearningRateSchedule or a callable. Default 0.001.
        beta_1: weight of the last average of the normalised gradient, in [0, 1). Default 0.9.
        beta_2: weight of the last average of the squared gradient, in [0, 1). Default 0.9999.
        epsilon: the least that the gradient is divided by, above 0, in its units. Default 1e-06.
        clip_exponent: with which power of the number of updates the clip grows, at least 0; None for no clip.
            Default 0.25.
        **options: Keras's own arguments and `skip_nonfinite`, among others: see `AdaptiveOptimizer`.

    Slots: m and v, of the variable's shape.

    Raises:
        ValueError, TypeError: for an argument out of range, of the wrong kind or unknown.

    Source: Taniguchi, Harada, Minegishi, Oshima, Jeong, Nagahara, Iiyama, Suzuki, Iwasawa and Matsuo, NeurIPS 2024.

    Example:

    >>> optimizer = Adopt(learning_rate=0.5, beta_1=0.0)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> for g in ([4.0, -0.25], [2.0, -0.5]):
    ...     optimizer.apply([keras.ops.convert_to_tensor(g)], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [0.75 2.5 ]
    """

    hyperparameters = {
        "beta_1": checks.fraction,
        "beta_2": checks.fraction,
        "epsilon": checks.sole_stabiliser,
        "clip_exponent": checks.optional(checks.nonnegative),
    }
    # Eight bits have no number below zero for what has no negative ones.
    slots = ("m", Slot("v", initial=-1.0, fine=True))

    def __init__(self, learning_rate=0.001, beta_1=0.9, beta_2=0.9999, epsilon=1e-6, clip_exponent=0.25, **options):
        super().__init__(
            learning_rate, options, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon, clip_exponent=clip_exponent
        )

    def rule(self, h, theta, g, m, v):
        first = v < 0.0
        n = g / maximum(sqrt(v), h.epsilon)
        if h.clip_exponent is not None:
            c = exp(h.clip_exponent * log(maximum(h.t - 1, 1.0)))
            n = minimum(maximum(n, -c), c)
        n = where(first, 0.0 * g, n)
        m = h.beta_1 * m + (1 - h.beta_1) * n
        v = where(first, g * g, h.beta_2 * v + (1 - h.beta_2) * g * g)
        return h.eta * m, (m, v)
