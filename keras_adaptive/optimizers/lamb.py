"""LAMB."""

import keras
from keras.ops import sqrt

from keras_adaptive.core import checks
from keras_adaptive.core.linalg import adapts, trusted
from keras_adaptive.core.numerics import debias, maximum, minimum, norm
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Lamb(AdaptiveOptimizer):
    """LAMB: Adam's direction, made as long as the variable itself, so that no layer runs away in a large batch.

        m_t = beta_1 m_{t-1} + (1 - beta_1) g_t                               m_0 = 0
        v_t = beta_2 v_{t-1} + (1 - beta_2) g_t g_t                           v_0 = 0
        m_hat_t = m_t / (1 - beta_1^t),  v_hat_t = v_t / (1 - beta_2^t)       only if debias
        u_t = m_hat_t / (sqrt(v_hat_t) + epsilon) + weight_decay theta_{t-1}
        phi(z) = min(max(z, phi_lower), phi_upper)
        theta_t = theta_{t-1} - eta_t phi(||theta_{t-1}||) / ||u_t|| u_t
        theta_t = theta_{t-1} - eta_t u_t,  weight_decay = 0                  of vectors, if exclude_vectors

    Norms are over the whole variable; where one of them is 0 their ratio is 1. Vectors are variables of at most one
    axis, and those whose name is bias, gamma, beta or scale: the biases of attention and of a GRU have two axes. A
    matrix that is taken out of weight decay is still adapted. A matrix with weight decay and without gradient has
    u_t = weight_decay theta_{t-1}, so it shrinks at the rate eta_t whatever weight_decay is. Keras's class subtracts
    the decay from the weights beside the rule, where it is not part of u_t.

    Args:
        learning_rate: eta: a real number of at least 0, a LearningRateSchedule or a callable. Default 0.001.
        beta_1: weight of the last average of the gradient, in [0, 1). Default 0.9.
        beta_2: weight of the last average of its square, in [0, 1). Default 0.999.
        epsilon: stabiliser outside of the root, above 0, in units of the gradient. Default 1e-06.
        debias: correct the averages for their start at zero. Default True.
        phi_lower: least size that a variable counts for, at least 0. Default 0.0.
        phi_upper: largest size that a variable counts for, at least phi_lower; None for no bound. Default None.
        exclude_vectors: neither adapt nor decay vectors. Default True.
        weight_decay: lambda, a number of at least 0, a LearningRateSchedule or None. Default 0.01.
        **options: Keras's own arguments and `skip_nonfinite`: see `AdaptiveOptimizer`.

    Slots: m and v, of the variable's shape.

    Raises:
        ValueError, TypeError: for an argument out of range, of the wrong kind or unknown.

    Source: You, Li, Reddi, Hseu, Kumar, Bhojanapalli, Song, Demmel, Keutzer and Hsieh, ICLR 2020.

    Example:

    >>> optimizer = Lamb(learning_rate=0.5, weight_decay=0.0)
    >>> theta = keras.Variable([[1.0, 1.0]])
    >>> optimizer.apply([keras.ops.convert_to_tensor([[4.0, -0.25]])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [[0.5 1.5]]
    """

    hyperparameters = {
        "beta_1": checks.fraction,
        "beta_2": checks.fraction,
        "epsilon": checks.sole_stabiliser,
        "debias": checks.flag,
        "phi_lower": checks.nonnegative,
        "phi_upper": checks.optional(checks.positive),
        "exclude_vectors": checks.flag,
    }
    slots = ("m", Slot("v", nonnegative=True))
    decay = "rule"

    def __init__(
        self,
        learning_rate=0.001,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-6,
        debias=True,
        phi_lower=0.0,
        phi_upper=None,
        exclude_vectors=True,
        weight_decay=0.01,
        **options,
    ):
        super().__init__(
            learning_rate,
            {"weight_decay": weight_decay, **options},
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            debias=debias,
            phi_lower=phi_lower,
            phi_upper=phi_upper,
            exclude_vectors=exclude_vectors,
        )

    def check_together(self, phi_lower, phi_upper, **others):
        if phi_upper is not None and phi_lower > phi_upper:
            raise ValueError(
                f"`phi_lower` must be at most `phi_upper`. Received: phi_lower={phi_lower}, phi_upper={phi_upper}"
            )

    def about(self, path, shape, hyperparameters):
        return {"adapt": adapts(path, shape, hyperparameters["exclude_vectors"])}

    def rule(self, h, theta, g, m, v):
        m = h.beta_1 * m + (1 - h.beta_1) * g
        v = h.beta_2 * v + (1 - h.beta_2) * g * g
        m_hat, v_hat = (m / debias(h.beta_1, h.t), v / debias(h.beta_2, h.t)) if h.debias else (m, v)
        u = m_hat / (sqrt(v_hat) + h.epsilon)
        if not h.adapt:
            return h.eta * u, (m, v)
        u = u + h.weight_decay * theta

        def phi(z):
            z = maximum(z, h.phi_lower)
            return z if h.phi_upper is None else minimum(z, h.phi_upper)

        return h.eta * trusted(u, norm(theta), norm(u), phi), (m, v)
