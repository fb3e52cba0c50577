"""Adafactor."""

import keras
from keras.ops import exp, log, sqrt

from keras_adaptive.core.fields import KW_ONLY, count, flag, fraction, nonnegative, positive, rate, sole_stabiliser
from keras_adaptive.core.math.linalg import factored, factored_root, factors, rms_clip
from keras_adaptive.core.math.numerics import maximum, minimum, rms
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.state.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Adafactor(AdaptiveOptimizer):
    """Adafactor: of the squared gradients of a matrix it keeps the average of each row and of each column only.

        beta_2_t = 1 - t^(-beta_2_decay)
        S_t = g_t g_t + epsilon_1
        R_t = beta_2_t R_{t-1} + (1 - beta_2_t) mean of S_t over columns      R_0 = 0
        C_t = beta_2_t C_{t-1} + (1 - beta_2_t) mean of S_t over rows         C_0 = 0
        V_t = R_t C_t^T / mean(R_t)                                           from min_size_to_factor rows and columns
        u_t = g_t / sqrt(V_t),  u_hat_t = u_t / max(1, RMS(u_t) / clip_threshold)
        rho_t = min(eta_t, 1 / sqrt(t))  if relative_step, else  eta_t
        rho_t = min(1e-6 t, 1 / sqrt(t))                                      with warmup_init, whatever eta_t is
        alpha_t = max(epsilon_2, RMS(theta_{t-1})) rho_t  if scale_parameter, else  rho_t
        m_t = beta_1 m_{t-1} + (1 - beta_1) alpha_t u_hat_t                   m_0 = 0
        theta_t = theta_{t-1} - m_t

    Rows and columns are the two trailing axes. A variable with fewer than two axes, or with fewer rows or columns than
    min_size_to_factor, stores the full average:

        v_t = beta_2_t v_{t-1} + (1 - beta_2_t) S_t,  V_t = v_t               v_0 = 0

    beta_2_t is 0 in the first update, so the averages need no correction for their start at zero. weight_decay is
    subtracted as eta_t lambda theta. The factored state is float32, whatever `slot_dtype` is.

    Slots: for a factored variable R, one number for each row, and C, one for each column; for any other v, of the
    variable's shape; with beta_1 also m, of the variable's shape.

    Defaults: all are the paper's. So is min_size_to_factor, since the paper factors every matrix; optax and T5X have
    128.

    Start with: the defaults, which take 0.01 for 10,000 updates and 1 / sqrt(t) after them, as T5's pretraining did
    (Raffel et al., 2020). For fine-tuning 1e-3 with `relative_step=False, scale_parameter=False`, as for T5 in Hugging
    Face's documentation. With a schedule of your own `relative_step=False`.

    Pitfalls:

    - With relative_step, eta is cut off at 1 / sqrt(t): after 10,000 updates a constant 0.01, or a decay above that
      curve, has no effect.
    - With scale_parameter, eta is relative: 0.01 moves a matrix by 1 % of its root mean square. A bias that starts at 0
      moves by epsilon_2 eta, 1e-5 a step.
    - Only the two trailing axes are factored. A kernel of attention with axes (inputs, heads, size) stores inputs *
      (heads + size) numbers.

    Differs from:

    - `keras.optimizers.Adafactor`: also stores an average as large as the matrix, and its relative_step=False changes
      nothing. Its beta_2_decay is -0.8, its learning rate 0.001; with 0.001 here, the numbers are the same.
    - `torch.optim.Adafactor`: the same numbers with `eps=(1e-30, 1e-3)` there. By default it adds nothing to the
      square, and 1.2e-7 is a lower bound of its divisors.
    - `optax.adafactor`: factors the two largest axes, and does not limit its rate to 1 / sqrt(t).
    - `Came`: weakens steps that differ from their average, and has no relative steps. `SM3`: stores maxima of rows and
      columns.

    Source: Shazeer and Stern, ICML 2018, arXiv:1804.04235.

    Example:

    >>> optimizer = Adafactor(learning_rate=0.5)
    >>> theta = keras.Variable([[1.0, 1.0], [1.0, 1.0]])
    >>> optimizer.apply([keras.ops.convert_to_tensor([[4.0, -1.0], [0.04, 0.01]])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [[0.5 1.5]
     [0.5 0.5]]
    """

    learning_rate = rate(0.01)
    beta_2_decay = positive(0.8, "exponent of beta_2_t: the larger, the sooner beta_2_t comes near 1")
    epsilon_1 = sole_stabiliser(1e-30, "added to the squared gradient")
    epsilon_2 = nonnegative(0.001, "lower bound of a variable's root mean square in the step")
    clip_threshold = positive(1.0, "largest root mean square of the direction")
    relative_step = flag(True, "limit eta_t to 1 / sqrt(t)")
    _ = KW_ONLY
    beta_1 = fraction(0.0, "decay rate of the moving average of the steps; 0.0 stores no slot")
    scale_parameter = flag(True, "multiply the step by the root mean square of the variable")
    warmup_init = flag(False, "use 1e-6 t in place of eta_t; needs relative_step")
    min_size_to_factor = count(1, "smallest number of rows, and of columns, of a factored variable; T5X has 128")
    slots = (*factors("R", "C", "v"), Slot("m", when="beta_1"))
    shrinks = True

    def check_together(self, relative_step, warmup_init, **others):
        if warmup_init and not relative_step:
            raise ValueError(
                "`warmup_init` must be False without relative_step. Received: warmup_init=True, relative_step=False"
            )

    def about(self, role, h):
        return {"factored": factored(role.shape, h.min_size_to_factor)}

    def rule(self, h, theta, g, R, C, v, m):
        beta_2 = 1 - exp(-h.beta_2_decay * log(h.t))
        S = g * g + h.epsilon_1
        if h.variable.factored:
            sqrt_V, R, C = factored_root(S, beta_2, R, C)
        else:
            v = beta_2 * v + (1 - beta_2) * S
            sqrt_V = sqrt(v)
        u_hat = rms_clip(g / sqrt_V, h.clip_threshold)
        rho = h.eta
        if h.relative_step:
            rho = minimum(1e-6 * h.t if h.warmup_init else h.eta, 1 / sqrt(h.t))
        alpha = maximum(rms(theta), h.epsilon_2) * rho if h.scale_parameter else rho
        m = h.beta_1 * m + (1 - h.beta_1) * alpha * u_hat
        return m, (R, C, v, m)
