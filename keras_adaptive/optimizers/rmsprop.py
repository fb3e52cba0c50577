"""RMSprop, plain, centered and with momentum."""

import keras
from keras.ops import sqrt

from keras_adaptive.core import checks
from keras_adaptive.core.fields import KW_ONLY, flag, fraction, rate, share, stabiliser
from keras_adaptive.core.math.numerics import positive_part
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.state.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class RMSprop(AdaptiveOptimizer):
    """RMSprop: every coordinate's step is divided by the root of a moving average of its squared gradients.

        v_t = rho v_{t-1} + (1 - rho) g_t g_t                                 v_0 = 0
        m_t = rho m_{t-1} + (1 - rho) g_t                                     m_0 = 0, only if centered
        q_t = positive_part(v_t - m_t m_t)  if centered, else  v_t
        u_t = g_t / (sqrt(q_t + epsilon) + epsilon_outside)
        b_t = momentum b_{t-1} + u_t                                          b_0 = 0
        theta_t = theta_{t-1} - eta_t b_t

    Without momentum, b_t is u_t. The averages are not corrected for their start at zero. The positive part guards a
    difference that rounding can make negative.

    Slots: v; m if centered; b with momentum; each of the variable's shape.

    Defaults: the learning rate, rho, momentum and centered are the lecture's. epsilon inside of the root is Yang You's
    lecture's and Keras's form; its value, the square of torch's 1e-8, is chosen here, and so is epsilon_outside = 0.

    Start with: a learning rate from 1e-4 to 1e-2, with a warm-up and a decay. For large image networks EfficientNetV2
    (2021) had rho and momentum 0.9, a batch of 4096, and a warm-up to 0.256, then a decay by 0.97 every 2.4 epochs;
    TensorFlow's code of it has epsilon=1e-3.

    Pitfalls:

    - The first step of a coordinate is eta / sqrt(1 - rho), which is 3.2 eta, and 10 eta with torch's rho of 0.99. A
      warm-up softens it.
    - epsilon is in units of the squared gradient. For an epsilon of torch's code use epsilon_outside.
    - If centered, a coordinate whose gradient stays the same has no variance, so its steps grow: with a gradient of 1
      to 200 eta after 100 updates, and 1e8 eta in the end. With Graves's `epsilon=1e-4` the end is 100 eta.
    - With momentum, steps are 1 / (1 - momentum) times as long. Lower the learning rate with it.

    Differs from:

    - `keras.optimizers.RMSprop`: the same numbers with `RMSprop(epsilon=1e-7)`. Its momentum has eta inside of the
      velocity, which is the same only while eta is constant.
    - `torch.optim.RMSprop`: the same numbers with `RMSprop(0.01, rho=0.99, epsilon=0.0, epsilon_outside=1e-8)`. Its
      weight decay is an L2 penalty, here `weight_decay_mode="coupled"`.
    - `optax.rmsprop`: the same numbers with `eps=1e-16` there.
    - `Adam`: averages the gradients too, and corrects both averages for their start. `Adagrad`: a sum of the squares
      instead of their average.

    Source: Tieleman and Hinton, Coursera lecture 6.5, 2012; centered: Graves, 2013, arXiv:1308.0850; epsilon inside of
    the root: Yang You's lecture.

    Example:

    >>> optimizer = RMSprop(learning_rate=0.5, rho=0.75)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([4.0, -0.25])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta))
    [0. 3.]
    """

    learning_rate = rate(0.001)
    rho = fraction(0.9, "decay rate of the moving averages")
    momentum = share(0.0, "decay rate of the velocity; 0.0 stores no slot")
    epsilon = stabiliser(1e-16, "stabiliser inside of the root, in units of the squared gradient")
    centered = flag(False, "divide by an estimate of the variance instead of the second moment")
    _ = KW_ONLY
    epsilon_outside = stabiliser(
        0.0,
        "stabiliser outside of the root, in units of the gradient",
        "One of the two epsilons must be above 0",
    )
    slots = (
        # If centered, v - m m would be mostly the rounding errors of both.
        Slot("v", fine="centered", nonnegative=True, idle="rho"),
        Slot("m", when="centered", fine=True, idle="rho"),
        Slot("b", when="momentum"),
    )
    elementwise = True

    def check_together(self, epsilon, epsilon_outside, **others):
        checks.not_both_zero(epsilon=epsilon, epsilon_outside=epsilon_outside)

    def rule(self, h, theta, g, v, m, b):
        v = h.rho * v + (1 - h.rho) * g * g
        m = h.rho * m + (1 - h.rho) * g
        q = positive_part(v - m * m) if h.centered else v
        u = g / (sqrt(q + h.epsilon) + h.epsilon_outside)
        b = h.momentum * b + u
        return h.eta * b, (v, m, b)
