"""SM3."""

import math

import keras
from keras import ops
from keras.ops import sqrt

from keras_adaptive.core.fields import fraction, rate
from keras_adaptive.core.math.linalg import largest
from keras_adaptive.core.math.numerics import minimum
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.state.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class SM3(AdaptiveOptimizer):
    """SM3: AdaGrad that keeps one number for each row, each column and so on, which bounds the sums of squares.

        nu_t = minimum of A_{t-1} over the axes + g_t g_t
        A_t = maximum of nu_t over all other axes, for each axis, as for A_{t-1}         A_0 = 0
        u_t = g_t / sqrt(nu_t), 0 where nu_t is 0
        m_t = momentum m_{t-1} + (1 - momentum) u_t                           m_0 = 0
        theta_t = theta_{t-1} - eta_t m_t

    A has one vector for each axis of the variable. A variable with one axis or none has one number for each element,
    which is AdaGrad. Without momentum m_t is u_t. This is the second form of the paper (SM3-II).

    Slots: A, one vector that holds the vectors of all axes one after the other; m if momentum is above 0, of the
    variable's shape.

    Defaults: the authors' code has none. The learning rate is pytorch_optimizer's, momentum is optax's.

    Start with: the default learning rate of 0.1, with a quadratic warm-up over 5 % of the updates and no decay: the
    growing sums lower the steps. Instead of a decay the authors' README advises an average of the weights
    (`use_ema=True`) or a fall to 0 in the last 10 %.

    Pitfalls:

    - Each element's first direction has the length 1, however small its gradient is. Without the warm-up a learning
      rate of 0.1 moves every weight by 0.01 at once.
    - The sums only grow, so the steps shrink like 1 / sqrt(t). A schedule that decays too makes them vanish.
    - One very large gradient raises the bounds of its row and its column for good. Clip the gradients.
    - With momentum most of the saving is gone: m has 4 bytes per parameter.

    Differs from:

    - `optax.sm3`: adds 1e-8 under the root, which matters for gradients below 1e-4.
    - `pytorch_optimizer.SM3`: the same numbers with `momentum=0.9` there, but for 1e-30 under the root.
    - `Adagrad`: one sum for each element. `Adafactor`: averages for rows and columns, which forget.

    Source: Anil, Gupta, Koren and Singer, NeurIPS 2019, arXiv:1901.11150.

    Example:

    >>> optimizer = SM3(learning_rate=0.5, momentum=0.0)
    >>> theta = keras.Variable([[1.0, 2.0], [3.0, 4.0]])
    >>> optimizer.apply([keras.ops.convert_to_tensor([[4.0, -0.25], [0.0, 1.0]])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta))
    [[0.5 2.5]
     [3.  3.5]]
    """

    learning_rate = rate(0.1)
    momentum = fraction(0.9, "decay rate of the moving average of the direction; 0.0 stores no m")
    slots = (
        Slot("A", shape=lambda shape, h: (sum(shape),) if shape else (), nonnegative=True),
        Slot("m", when="momentum"),
    )
    shrinks = True

    def rule(self, h, theta, g, A, m):
        nu = least(A, g.shape) + g * g
        A = tops(nu)
        u = ops.where(ops.equal(nu, 0), ops.zeros_like(g), g / sqrt(nu))
        m = h.momentum * m + (1 - h.momentum) * u
        return h.eta * m, (A, m)


def least(A, shape):
    """For each element, the smallest of its numbers, one from each axis."""
    if len(shape) == 0:
        return A
    nu, begin = None, 0
    for axis, length in enumerate(shape):
        along = [length if other == axis else 1 for other in range(len(shape))]
        of_axis = ops.reshape(A[begin : begin + length], along)
        nu, begin = of_axis if nu is None else minimum(nu, of_axis), begin + length
    return nu


def tops(nu):
    """For each axis, the maxima of nu over all other axes, one axis after the other."""
    axes = range(len(nu.shape))
    if not axes:
        return nu
    of_axes = [largest(nu, [other for other in axes if other != axis]) for axis in axes]
    return ops.concatenate([ops.reshape(top, (math.prod(top.shape),)) for top in of_axes])
