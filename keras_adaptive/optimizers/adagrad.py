"""AdaGrad."""

import keras
from keras.ops import sqrt

from keras_adaptive.core import checks
from keras_adaptive.core.fields import KW_ONLY, nonnegative, rate, stabiliser
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.state.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Adagrad(AdaptiveOptimizer):
    """AdaGrad: every coordinate's step is divided by the root of all its squared gradients so far.

        v_t = v_{t-1} + g_t g_t                                        v_0 = initial_accumulator_value
        theta_t = theta_{t-1} - eta_t g_t / (sqrt(v_t + epsilon) + epsilon_outside)

    Slots: v, of the variable's shape.

    Defaults: the learning rate and v_0 = 0 are those of the lecture and of torch. epsilon inside of the root is the
    lecture's form; its value, the square of 1e-8, is chosen here, and so is epsilon_outside = 0.

    Start with: a learning rate from 0.01 to 0.1, without a decay, since v lowers the steps; for tables of embeddings up
    to 1 (`examples/lecture.py` found 0.3 to be the best of 0.03 to 1).

    Pitfalls:

    - v only grows, so the steps shrink like 1 / sqrt(t), and a long training or one whose data change comes to a halt.
      Use `RMSprop` there.
    - The first step of a coordinate is eta, however small its gradient is. `initial_accumulator_value=0.1` or a warm-up
      softens it.
    - A v from large gradients at the start stays: clip them, or the rate is low for the rest of the training.

    Differs from:

    - `keras.optimizers.Adagrad`: the same numbers with `Adagrad(0.001, 0.1, epsilon=1e-7)`, which are its defaults.
    - `torch.optim.Adagrad`: the same numbers with `Adagrad(epsilon=0.0, epsilon_outside=1e-10)`. Its weight decay is an
      L2 penalty, here `weight_decay_mode="coupled"`; its lr_decay is a schedule here.
    - `optax.adagrad`: the same numbers with `initial_accumulator_value=0.0, eps=1e-16` there.
    - `RMSprop`: an average of the squares instead of their sum. `SM3`: bounds the sums by one number for each row and
      column.

    Source: Duchi, Hazan and Singer, JMLR 12, 2011; epsilon inside of the root: Yang You's lecture.

    Example:

    >>> optimizer = Adagrad(learning_rate=0.5)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([4.0, -0.25])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta))
    [0.5 2.5]
    """

    learning_rate = rate(0.01)
    initial_accumulator_value = nonnegative(0.0, "v_0")
    epsilon = stabiliser(1e-16, "stabiliser inside of the root, in units of the squared gradient")
    _ = KW_ONLY
    epsilon_outside = stabiliser(
        0.0,
        "stabiliser outside of the root, in units of the gradient",
        "One of the two epsilons must be above 0",
    )
    slots = (Slot("v", initial="initial_accumulator_value", nonnegative=True, idle=1.0),)
    shrinks = True
    elementwise = True

    def check_together(self, epsilon, epsilon_outside, **others):
        checks.not_both_zero(epsilon=epsilon, epsilon_outside=epsilon_outside)

    def rule(self, h, theta, g, v):
        v = v + g * g
        return h.eta * g / (sqrt(v + h.epsilon) + h.epsilon_outside), (v,)
