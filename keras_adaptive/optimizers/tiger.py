"""Tiger."""

import keras

from keras_adaptive.core.fields import decay_rate, flag, fraction, rate
from keras_adaptive.core.math.numerics import rms, sign
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.groups.layers import EMBEDDING


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Tiger(AdaptiveOptimizer):
    """Tiger: the sign of the momentum, in steps that are a part of the variable's own root mean square.

        m_t = beta m_{t-1} + (1 - beta) g_t                                   m_0 = 0
        eta'_t = eta_t RMS(theta_{t-1})  with parameter_scale, else  eta_t
        theta_t = theta_{t-1} - eta'_t (sign(m_t) + weight_decay theta_{t-1})

    With parameter_scale there are two exceptions. The layer that owns a variable decides which one applies:

    - An embedding has the root mean square of each row (over the last axis).
    - A variable of at most one axis, a bias, or a norm's scale or offset has eta'_t = eta_t / 2 and no decay.

    Slots: m, of the variable's shape.

    Defaults: all are those of the author's code.

    Start with: a learning rate of 1e-3, which moves a matrix by 0.1 % of its root mean square in each update, with a
    warm-up and a decay. The author's README has 1.76e-3, a warm-up of 10,000 updates and a decay in straight lines.

    Pitfalls:

    - A matrix that begins at zero has the root mean square 0 and never moves, unless parameter_scale is off for its
      group.
    - The rate is relative for matrices and absolute for vectors, which move by eta / 2. With parameter_scale=False take
      the rates of `Lion`.
    - Each element moves by eta'_t, however small the gradients are, and a small batch gives a noisy sign. Use a decay
      of the learning rate and large batches.

    Differs from:

    - The author's code: finds biases, norms and embeddings by their names, and lets weights shrink in an update with a
      NaN; here `skip_nonfinite` leaves out such an update. It accumulates gradients in m; here
      `gradient_accumulation_steps` has a buffer of its own.
    - `pytorch_optimizer.Tiger`: the same numbers with `Tiger(parameter_scale=False)`.
    - `Lion`: a second beta that looks ahead, and the same step for all variables. `Lamb`: scales each variable too, by
      norms.

    Source: Su, "Tiger: a tight-fisted optimizer", 2023.

    Example:

    >>> optimizer = Tiger(learning_rate=0.5, weight_decay=0.0)
    >>> theta = keras.Variable([[2.0, -2.0]])
    >>> optimizer.apply([keras.ops.convert_to_tensor([[4.0, -0.25]])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [[ 1. -1.]]
    """

    learning_rate = rate(0.001)
    beta = fraction(0.965, "decay rate of the momentum")
    parameter_scale = flag(True, "multiply the step by the root mean square of the variable")
    weight_decay = decay_rate(0.01)
    slots = ("m",)
    elementwise = True
    decay = "rule"

    def about(self, role, h):
        vector, by_rows = role.is_vector, role.kind == EMBEDDING
        elementwise = vector or not h.parameter_scale or ("rows" if by_rows else False)
        return {"vector": vector, "scale_axis": -1 if by_rows else None, "elementwise": elementwise}

    def rule(self, h, theta, g, m):
        m = h.beta * m + (1 - h.beta) * g
        if h.parameter_scale and h.variable.vector:
            return h.eta / 2 * sign(m), (m,)
        eta = h.eta * rms(theta, h.variable.scale_axis) if h.parameter_scale else h.eta
        return eta * (sign(m) + h.weight_decay * theta), (m,)
