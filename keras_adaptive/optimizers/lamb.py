"""LAMB."""

import keras
from keras.ops import sqrt

from keras_adaptive.core.fields import (
    KW_ONLY,
    decay_rate,
    flag,
    fraction,
    nonnegative,
    positive,
    rate,
    sole_stabiliser,
)
from keras_adaptive.core.math.linalg import trusted
from keras_adaptive.core.math.numerics import maximum, minimum, norm
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.state.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Lamb(AdaptiveOptimizer):
    """LAMB: Adam's direction, made as long as the variable itself, so that no layer runs away in a large batch.

        m_t = beta_1 m_{t-1} + (1 - beta_1) g_t                               m_0 = 0
        v_t = beta_2 v_{t-1} + (1 - beta_2) g_t g_t                           v_0 = 0
        m_hat_t = m_t / (1 - beta_1^t),  v_hat_t = v_t / (1 - beta_2^t)       with use_bias_correction
        u_t = m_hat_t / (sqrt(v_hat_t) + epsilon) + weight_decay theta_{t-1}
        phi(z) = min(max(z, phi_lower), phi_upper)
        theta_t = theta_{t-1} - eta_t phi(||theta_{t-1}||) / ||u_t|| u_t
        theta_t = theta_{t-1} - eta_t u_t,  weight_decay = 0                  of vectors, if exclude_vectors

    Norms are over the full variable. Where one of them is 0, their ratio is 1. Vectors are variables of at most one
    axis, and all biases, scales and offsets of norms: the layer that owns a variable decides, since biases of attention
    and of a GRU have two axes. A matrix without weight decay still has a trust ratio.

    Slots: m and v, of the variable's shape.

    Defaults: the betas, epsilon and weight decay are those of the paper's BERT. The learning rate is Keras's. The bias
    correction is the paper's; exclude_vectors and the unbounded phi are those of the authors' code.

    Start with: for BERT from 3.5e-4 at a batch of 256 to 3.5e-3 at 4,608, with a linear decay, from a checkpoint and
    without a warm-up (`recipe("bert-lamb-mlperf", batch)`); for ALBERT from scratch 1.76e-3 at 4,096, with 3,125
    updates of warm-up (`recipe("albert-lamb", 4096)`). For another batch `scale_learning_rate(..., rule="sqrt")`, with
    the warm-up of `legw`.

    Pitfalls:

    - eta is relative: a matrix moves by eta times its norm in every update, however small its gradient is. So eta must
      end near 0.
    - A matrix with weight decay and a gradient of 0 has u_t = weight_decay theta_{t-1}. It shrinks at the rate eta_t,
      whatever weight_decay is. Give variables that may have no gradient a `Group` with `weight_decay=0.0`.
    - A matrix that begins at 0 takes one step of Adam, and from then on steps in proportion to its tiny norm.
    - It is for batches of thousands, and a tuned AdamW reaches the same there (Nado et al., 2021).

    Differs from:

    - `keras.optimizers.Lamb`: the same numbers with `Lamb(epsilon=1e-7, weight_decay=0.0, exclude_vectors=False)`. Its
      weight decay is outside of the rule, so its u_t does not contain it.
    - `optax.lamb`: the same numbers with `exclude_vectors=False`; its weight decay is 0 by default.
    - `pytorch_optimizer.Lamb`: bounds the norm of the weights by 10, decays outside of the ratio, and does not correct
      v.
    - `AdamW`: has no trust ratio. `Lars`: has one for momentum SGD. `Merit`: has one for each element, of largest
      elements.

    Source: You, Li, Reddi, Hseu, Kumar, Bhojanapalli, Song, Demmel, Keutzer and Hsieh, ICLR 2020, arXiv:1904.00962.

    Example:

    >>> optimizer = Lamb(learning_rate=0.5, weight_decay=0.0)
    >>> theta = keras.Variable([[1.0, 1.0]])
    >>> optimizer.apply([keras.ops.convert_to_tensor([[4.0, -0.25]])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [[0.5 1.5]]
    """

    learning_rate = rate(0.001)
    beta_1 = fraction(0.9, "decay rate of the moving average of the gradient")
    beta_2 = fraction(0.999, "decay rate of the moving average of the squared gradient")
    epsilon = sole_stabiliser(1e-06, "stabiliser outside of the root, in units of the gradient")
    weight_decay = decay_rate(0.01)
    _ = KW_ONLY
    use_bias_correction = flag(True, "correct the averages for their start at zero")
    phi_lower = nonnegative(0.0, "lower bound of phi")
    phi_upper = positive(None, "upper bound of phi, at least phi_lower; None: no bound")
    exclude_vectors = flag(True, "leave vectors without a trust ratio and without weight decay")
    renamed = {"debias": "use_bias_correction"}
    slots = ("m", Slot("v", nonnegative=True))
    decay = "rule"

    def check_together(self, phi_lower, phi_upper, **others):
        if isinstance(phi_lower, float) and isinstance(phi_upper, float) and phi_lower > phi_upper:
            raise ValueError(
                f"`phi_lower` must be at most `phi_upper`. Received: phi_lower={phi_lower}, phi_upper={phi_upper}"
            )

    def about(self, role, h):
        return {"adapt": not (h.exclude_vectors and role.is_vector)}

    def rule(self, h, theta, g, m, v):
        m = h.beta_1 * m + (1 - h.beta_1) * g
        v = h.beta_2 * v + (1 - h.beta_2) * g * g
        m_hat, v_hat = (m / h.debias(h.beta_1), v / h.debias(h.beta_2)) if h.use_bias_correction else (m, v)
        u = m_hat / (sqrt(v_hat) + h.epsilon)
        if not h.variable.adapt:
            return h.eta * u, (m, v)
        u = u + h.weight_decay * theta

        def phi(z):
            z = maximum(z, h.phi_lower)
            return z if h.phi_upper is None else minimum(z, h.phi_upper)

        return h.eta * trusted(u, norm(theta), norm(u), phi), (m, v)
