"""ADOPT."""

import keras
from keras.ops import exp, log, sqrt, where

from keras_adaptive.core.fields import fraction, nonnegative, rate, sole_stabiliser
from keras_adaptive.core.math.numerics import maximum, minimum
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.state.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Adopt(AdaptiveOptimizer):
    """ADOPT: Adam that divides by the second moment without the current gradient, and averages after the division.

        c_t = (t - 1)^clip_exponent
        n_t = g_t / max(sqrt(v_{t-1}), epsilon), each element clipped to [-c_t, c_t];  n_1 = 0
        m_t = beta_1 m_{t-1} + (1 - beta_1) n_t                               m_0 = 0
        v_t = beta_2 v_{t-1} + (1 - beta_2) g_t g_t,  v_1 = g_1 g_1           v_0 = -1, which means no value yet
        theta_t = theta_{t-1} - eta_t m_t

    The first gradient of a variable fills v and moves no weight, except by weight decay. Without the clip the algorithm
    converges with every beta_2; the authors added the clip to make the first steps stable.

    Slots: m and v, of the variable's shape.

    Defaults: all are the paper's and the authors' code's.

    Start with: the learning rate of `Adam` or `AdamW` for the model, with nothing else changed (the authors'
    repository): a rate from 1e-4 to 3e-3, with a warm-up and a decay.

    Pitfalls:

    - v begins at the square of the first gradient alone. Where that is near 0, the next steps are as long as the clip
      allows, so use a warm-up.
    - The clip limits rare, large gradients too. On the paper's own example of such gradients, with a beta_2 of up to
      0.9, it then goes to the wrong end as Adam does; with `clip_exponent=None` it does not.
    - v remembers 10,000 updates by default. It is slow to follow gradients that shrink: the steps stay small meanwhile.

    Differs from:

    - The authors' code: its weight decay is an L2 penalty unless decoupled is True.
    - `optax.contrib.adopt`: the same numbers; `use_clipping=False` there is `clip_exponent=None`.
    - `pytorch_optimizer.ADOPT`: its clip is t^0.25, not (t - 1)^0.25.
    - `Adam`: divides the average of the gradient by a v that contains the current gradient. `Amsgrad`: the other remedy
      for Adam's failures to converge.

    Source: Taniguchi, Harada, Minegishi, Oshima, Jeong, Nagahara, Iiyama, Suzuki, Iwasawa and Matsuo, NeurIPS 2024,
    arXiv:2411.02853.

    Example:

    >>> optimizer = Adopt(learning_rate=0.5, beta_1=0.0)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> for g in ([4.0, -0.25], [2.0, -0.5]):
    ...     optimizer.apply([keras.ops.convert_to_tensor(g)], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [0.75 2.5 ]
    """

    learning_rate = rate(0.001)
    beta_1 = fraction(0.9, "decay rate of the moving average of the normalised gradient")
    beta_2 = fraction(0.9999, "decay rate of the moving average of the squared gradient")
    epsilon = sole_stabiliser(1e-06, "smallest value that the gradient is divided by, in units of the gradient")
    clip_exponent = nonnegative(0.25, "exponent of the clip c_t; None: no clip", optional=True)
    # v_0 is negative, and the 8-bit codes of a nonnegative slot have no negative number.
    slots = ("m", Slot("v", initial=-1.0, fine=True))

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
