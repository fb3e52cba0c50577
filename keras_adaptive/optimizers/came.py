"""CAME."""

import keras
from keras.ops import sqrt

from keras_adaptive.core.fields import fraction, positive, rate, sole_stabiliser
from keras_adaptive.core.math.linalg import factored, factored_root, factors, rms_clip
from keras_adaptive.core.optimizer import AdaptiveOptimizer


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Came(AdaptiveOptimizer):
    """CAME: Adafactor's direction, with less confidence where it differs from its own moving average.

        S_t = g_t g_t + epsilon_1
        R_t = beta_2 R_{t-1} + (1 - beta_2) mean of S_t over columns          R_0 = 0
        C_t = beta_2 C_{t-1} + (1 - beta_2) mean of S_t over rows             C_0 = 0
        V_t = R_t C_t^T / mean(R_t)
        u_t = g_t / sqrt(V_t),  u_hat_t = u_t / max(1, RMS(u_t) / clip_threshold)
        m_t = beta_1 m_{t-1} + (1 - beta_1) u_hat_t                           m_0 = 0
        I_t = (u_hat_t - m_t)^2 + epsilon_2
        r_t = beta_3 r_{t-1} + (1 - beta_3) mean of I_t over columns          r_0 = 0
        c_t = beta_3 c_{t-1} + (1 - beta_3) mean of I_t over rows             c_0 = 0
        theta_t = theta_{t-1} - eta_t m_t / sqrt(r_t c_t^T / mean(r_t))

    Rows and columns are the two trailing axes. A variable with fewer axes stores the full average and takes the step
    m_t:

        v_t = beta_2 v_{t-1} + (1 - beta_2) S_t,  V_t = v_t                   v_0 = 0
        theta_t = theta_{t-1} - eta_t m_t

    The averages are not corrected for their start at zero. So the first u_t is 1 / sqrt(1 - beta_2) times too large,
    which the clip removes.

    Slots: m, of the variable's shape; for a matrix R and r, one number for each row, and C and c, one for each column;
    for any other variable v, of the variable's shape.

    Defaults: all are the authors' code's; the learning rate is that of its example.

    Start with: 0.5 to 0.9 times the learning rate of `AdamW`, with the same beta_1 and beta_2, a larger beta_3, from
    0.9995 to 0.99995 if beta_2 is 0.999, and a weight decay of 0.01 (the authors' repository). Their example has 2e-4.
    Use a warm-up and a decay.

    Pitfalls:

    - The first steps of a matrix are long, since r and c begin at zero: 11 eta with the defaults, and up to 50 eta
      within 1,000 updates where gradients agree. Use a warm-up.
    - Do not raise clip_threshold: nothing else removes the factor of the first u_t, 32 by default.
    - m is stored in full, so the state is half of Adam's, not almost nothing as `Adafactor`'s.
    - Only the two trailing axes are factored. A kernel of attention with axes (inputs, heads, size) stores 2 inputs *
      (heads + size) numbers besides m.

    Differs from:

    - `pytorch_optimizer.CAME`: the same numbers.
    - `Adafactor`: has no confidence, steps relative to the variable's size, and a beta_2 that grows. `AdamW`: stores
      all squares, and corrects its averages.

    Source: Luo, Ren, Zheng, Jiang, Jiang and You, ACL 2023, arXiv:2307.02047.

    Example:

    >>> optimizer = Came(learning_rate=0.5)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([4.0, -0.25])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [0.95 2.05]
    """

    learning_rate = rate(0.0002)
    beta_1 = fraction(0.9, "decay rate of the moving average of the direction")
    beta_2 = fraction(0.999, "decay rate of the moving average of the squared gradient")
    beta_3 = fraction(0.9999, "decay rate of the moving average of the instability")
    epsilon_1 = sole_stabiliser(1e-30, "added to the squared gradient")
    epsilon_2 = sole_stabiliser(1e-16, "added to the instability")
    clip_threshold = positive(1.0, "largest root mean square of the direction")
    slots = (*factors("R", "C", "v"), "m", *factors("r", "c"))

    def about(self, role, h):
        return {"factored": factored(role.shape)}

    def rule(self, h, theta, g, R, C, v, m, r, c):
        S = g * g + h.epsilon_1
        if h.variable.factored:
            sqrt_V, R, C = factored_root(S, h.beta_2, R, C)
        else:
            v = h.beta_2 * v + (1 - h.beta_2) * S
            sqrt_V = sqrt(v)
        u_hat = rms_clip(g / sqrt_V, h.clip_threshold)
        m = h.beta_1 * m + (1 - h.beta_1) * u_hat
        if not h.variable.factored:
            return h.eta * m, (R, C, v, m, r, c)
        I = (u_hat - m) ** 2 + h.epsilon_2  # noqa: E741
        confidence, r, c = factored_root(I, h.beta_3, r, c)
        return h.eta * m / confidence, (R, C, v, m, r, c)
