"""NovoGrad."""

import keras
from keras import ops
from keras.ops import sqrt

from keras_adaptive.core import checks
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Novograd(AdaptiveOptimizer):
    """NovoGrad: momentum of gradients that are divided by the norm of the whole variable's gradients.

        n_t = ||g_t||^2
        v_t = beta_2 v_{t-1} + (1 - beta_2) n_t                               v_1 = n_1,  v_0 = -1 stands for none
        u_t = g_t / (sqrt(v_t) + epsilon) + weight_decay theta_{t-1}
        m_t = beta_1 m_{t-1} + u_t                                            m_1 = u_1,  m_0 = 0 is not read
        m_t = beta_1 m_{t-1} + (1 - beta_1) u_t                               with grad_averaging
        theta_t = theta_{t-1} - eta_t m_t

    Both averages begin with their first value, so nothing is to be corrected for their start. weight_decay is part of
    what the momentum sums, where the decoupled decay of other classes is not.

    Args:
        learning_rate: eta: a real number of at least 0, a LearningRateSchedule or a callable. Default 0.001.
        beta_1: weight of the last momentum, in [0, 1). Default 0.95.
        beta_2: weight of the last average of the squared norm, in [0, 1). Default 0.98.
        epsilon: stabiliser outside of the root, above 0, in units of the gradient's norm. Default 1e-08.
        grad_averaging: take 1 - beta_1 of the new direction into the momentum. Default False.
        **options: Keras's own arguments and `skip_nonfinite`: see `AdaptiveOptimizer`. weight_decay (lambda, none by
            default) is part of u_t.

    Slots: m, of the variable's shape, and v, one number.

    Raises:
        ValueError, TypeError: for an argument out of range, of the wrong kind or unknown.

    Source: Ginsburg, Castonguay, Hrinchuk, Kuchaiev, Lavrukhin, Leary, Li, Nguyen, Zhang and Cohen,
    arXiv 1905.11286, 2019.

    Example:

    >>> optimizer = Novograd(learning_rate=0.5)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([3.0, -4.0])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [0.7 2.4]
    """

    hyperparameters = {
        "beta_1": checks.fraction,
        "beta_2": checks.fraction,
        "epsilon": checks.sole_stabiliser,
        "grad_averaging": checks.flag,
    }
    slots = ("m", Slot("v", initial=-1.0, shape=lambda shape, h: ()))
    decay = "rule"

    def __init__(self, learning_rate=0.001, beta_1=0.95, beta_2=0.98, epsilon=1e-8, grad_averaging=False, **options):
        super().__init__(
            learning_rate, options, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon, grad_averaging=grad_averaging
        )

    def rule(self, h, theta, g, m, v):
        first = v < 0.0
        n = ops.sum(g * g)
        v = ops.where(first, n, h.beta_2 * v + (1 - h.beta_2) * n)
        u = g / (sqrt(v) + h.epsilon) + h.weight_decay * theta
        m = ops.where(first, u, h.beta_1 * m + ((1 - h.beta_1) * u if h.grad_averaging else u))
        return h.eta * m, (m, v)
