"""CAME."""

import keras
from keras.ops import sqrt

from keras_adaptive.core import checks
from keras_adaptive.core.linalg import factored, factored_average, factors, rms_clip
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

    Rows and columns are the two trailing axes. A variable of fewer axes has the whole average and takes the step m_t:

        v_t = beta_2 v_{t-1} + (1 - beta_2) S_t,  V_t = v_t                   v_0 = 0
        theta_t = theta_{t-1} - eta_t m_t

    The averages are not corrected for their start at zero: the first u_t is 1 / sqrt(1 - beta_2) too large, which the
    clip takes away. The authors recommend 0.5 to 0.9 of the learning rate of AdamW.

    Args:
        learning_rate: eta: a real number of at least 0, a LearningRateSchedule or a callable. Default 0.0002.
        beta_1: weight of the last average of the direction, in [0, 1). Default 0.9.
        beta_2: weight of the last average of the squared gradient, in [0, 1). Default 0.999.
        beta_3: weight of the last average of the instability, in [0, 1). Default 0.9999.
        epsilon_1: added to the squared gradient, above 0. Default 1e-30.
        epsilon_2: added to the instability, above 0. Default 1e-16.
        clip_threshold: largest root mean square of the direction, above 0. Default 1.0.
        **options: Keras's own arguments and `skip_nonfinite`: see `AdaptiveOptimizer`.

    Slots: m, of the variable's shape; of a matrix R and r, one number for each row, and C and c, one for each column;
    of any other v, of the variable's shape.

    Raises:
        ValueError, TypeError: for an argument out of range, of the wrong kind or unknown.

    Source: Luo, Ren, Zheng, Jiang, Jiang and You, ACL 2023.

    Example:

    >>> optimizer = Came(learning_rate=0.5)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([4.0, -0.25])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [0.95 2.05]
    """

    hyperparameters = {
        "beta_1": checks.fraction,
        "beta_2": checks.fraction,
        "beta_3": checks.fraction,
        "epsilon_1": checks.sole_stabiliser,
        "epsilon_2": checks.sole_stabiliser,
        "clip_threshold": checks.positive,
    }
    slots = (*factors("R", "C", "v"), "m", *factors("r", "c"))

    def __init__(
        self,
        learning_rate=2e-4,
        beta_1=0.9,
        beta_2=0.999,
        beta_3=0.9999,
        epsilon_1=1e-30,
        epsilon_2=1e-16,
        clip_threshold=1.0,
        **options,
    ):
        super().__init__(
            learning_rate,
            options,
            beta_1=beta_1,
            beta_2=beta_2,
            beta_3=beta_3,
            epsilon_1=epsilon_1,
            epsilon_2=epsilon_2,
            clip_threshold=clip_threshold,
        )

    def about(self, path, shape, hyperparameters):
        return {"factored": factored(shape)}

    def rule(self, h, theta, g, R, C, v, m, r, c):
        S = g * g + h.epsilon_1
        if h.factored:
            V, R, C = factored_average(S, h.beta_2, R, C)
        else:
            V = v = h.beta_2 * v + (1 - h.beta_2) * S
        u_hat = rms_clip(g / sqrt(V), h.clip_threshold)
        m = h.beta_1 * m + (1 - h.beta_1) * u_hat
        if not h.factored:
            return h.eta * m, (R, C, v, m, r, c)
        I = (u_hat - m) ** 2 + h.epsilon_2  # noqa: E741
        confidence, r, c = factored_average(I, h.beta_3, r, c)
        return h.eta * m / sqrt(confidence), (R, C, v, m, r, c)
