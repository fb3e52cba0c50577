"""Stochastic gradient descent, with heavy-ball or Nesterov momentum."""

import keras

from keras_adaptive.core.fields import KW_ONLY, flag, rate, share
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.state.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class SGD(AdaptiveOptimizer):
    """Stochastic gradient descent, with heavy-ball or Nesterov momentum.

        b_t = momentum b_{t-1} + g_t                                          b_0 = 0
        theta_t = theta_{t-1} - eta_t b_t
        theta_t = theta_{t-1} - eta_t (g_t + momentum b_t)                    with nesterov

    Without momentum, b_t is g_t. This is torch's form of momentum: eta stands outside of the velocity b. Keras has it
    inside (b_t = momentum b_{t-1} - eta_t g_t), which is the same only while eta is constant.

    Slots: b if momentum is above 0, of the variable's shape.

    Source: Robbins and Monro, Annals of Mathematical Statistics 1951; Polyak, USSR Computational Mathematics 1964;
    Nesterov, Soviet Mathematics Doklady 1983; Sutskever, Martens, Dahl and Hinton, ICML 2013.

    Example:

    >>> optimizer = SGD(learning_rate=0.5)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.ones(2)], [theta])
    >>> print(keras.ops.convert_to_numpy(theta))
    [0.5 1.5]
    """

    learning_rate = rate(0.01)
    momentum = share(0.0, "decay rate of the velocity; 0.0 stores no slot")
    nesterov = flag(False, "use Nesterov's look-ahead along the new velocity; changes nothing without momentum")
    _ = KW_ONLY
    slots = (Slot("b", when="momentum"),)
    elementwise = True

    def rule(self, h, theta, g, b):
        b = h.momentum * b + g
        return h.eta * (g + h.momentum * b if h.nesterov else b), (b,)
