"""Adadelta."""

import keras
from keras.ops import sqrt

from keras_adaptive.core.fields import KW_ONLY, fraction, rate, sole_stabiliser
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.state.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Adadelta(AdaptiveOptimizer):
    """Adadelta: steps in the units of the weights, by the ratio of two moving averages: of past steps and of gradients.

        a_t = rho a_{t-1} + (1 - rho) g_t g_t                                 a_0 = 0
        x_t = sqrt(d_{t-1} + epsilon) / sqrt(a_t + epsilon) g_t
        d_t = rho d_{t-1} + (1 - rho) x_t x_t                                 d_0 = 0
        theta_t = theta_{t-1} - eta_t x_t

    The paper has no eta, which is the same as an eta of 1. d is an average of the steps before they are multiplied by
    eta.

    Slots: a and d, of the variable's shape.

    Defaults: rho and epsilon are the paper's. The learning rate of 1 is torch's; the paper has none.

    Start with: the defaults, a learning rate of 1.0 without a warm-up. If the loss hardly falls at first, raise
    epsilon.

    Pitfalls:

    - It starts slowly. The first step of a weight is at most sqrt(epsilon / (1 - rho)), 0.0045 with the defaults, and
      steps grow only as d does.
    - A learning rate of 0.001, copied from Keras or from Adam, makes every step 1000 times shorter than the paper's.
    - d does not see eta: a schedule scales the steps, but not the estimate of their units.

    Differs from:

    - `keras.optimizers.Adadelta`: the same numbers with the same arguments. Its learning rate is 0.001 and its epsilon
      1e-7 by default.
    - `torch.optim.Adadelta`: the same numbers with `Adadelta(rho=0.9)`, which is its default. Its weight decay is an L2
      penalty, here `weight_decay_mode="coupled"`.
    - `RMSprop`: has the same divisor, and a learning rate in the place of sqrt(d).

    Source: Zeiler, 2012, arXiv:1212.5701.

    Example:

    >>> optimizer = Adadelta(rho=0.75, epsilon=0.25)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([3.0, -3.0])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [0.0513 2.9487]
    """

    learning_rate = rate(1.0)
    rho = fraction(0.95, "decay rate of the moving averages")
    epsilon = sole_stabiliser(1e-06, "stabiliser inside of both roots; the first step is sqrt(epsilon / (1 - rho))")
    _ = KW_ONLY
    slots = (Slot("a", nonnegative=True, idle="rho"), Slot("d", nonnegative=True, idle="rho"))
    elementwise = True

    def rule(self, h, theta, g, a, d):
        a = h.rho * a + (1 - h.rho) * g * g
        x = sqrt(d + h.epsilon) / sqrt(a + h.epsilon) * g
        d = h.rho * d + (1 - h.rho) * x * x
        return h.eta * x, (a, d)
