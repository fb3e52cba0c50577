"""NovoGrad."""

import keras
from keras import ops
from keras.ops import sqrt

from keras_adaptive.core.fields import flag, fraction, rate, sole_stabiliser
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.state.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Novograd(AdaptiveOptimizer):
    """NovoGrad: momentum of gradients that are divided by the norm of the whole variable's gradients.

        n_t = ||g_t||^2
        v_t = beta_2 v_{t-1} + (1 - beta_2) n_t                               v_1 = n_1,  v_0 = -1 means no value yet
        u_t = g_t / (sqrt(v_t) + epsilon) + weight_decay theta_{t-1}
        m_t = beta_1 m_{t-1} + u_t                                            m_1 = u_1,  m_0 = 0 is not read
        m_t = beta_1 m_{t-1} + (1 - beta_1) u_t                               with grad_averaging
        theta_t = theta_{t-1} - eta_t m_t

    Both averages begin with their first value, so they need no correction for their start. The momentum sums
    weight_decay too; the decoupled decay of other classes is not part of the momentum.

    Slots: m, of the variable's shape, and v, one number.

    Defaults: the betas are the paper's; epsilon and grad_averaging are those of the authors' code. The learning rate is
    that of TensorFlow Addons and pytorch_optimizer.

    Start with: a learning rate of 0.01 with beta_1 0.8, beta_2 0.5, weight_decay 0.001 and a cosine decay, which is
    NVIDIA NeMo's example for speech recognition. The paper needs no warm-up, and reports good results in large batches.

    Pitfalls:

    - By default the momentum is a sum: steps become 1 / (1 - beta_1) times as long, here 20 times, and weight_decay has
      20 times its effect. `grad_averaging=True` needs a learning rate that many times larger.
    - Before the momentum, the step of each variable has about the norm eta, however many elements it has. So Adam's
      learning rate is small here: an element of a matrix with a million elements moves by a thousandth of it.
    - A variable whose first gradient is 0 takes steps up to 7 times as long afterwards, since v begins at 0: a branch
      that is switched on later, for example.

    Differs from:

    - `optax.novograd`: the same numbers with `b1=0.95, b2=0.98, eps=1e-8` there. Its defaults are 0.9, 0.25 and 1e-6.
    - TensorFlow Addons' `NovoGrad`: has eta inside of the momentum, which is the same only while eta is constant, and
      betas of 0.9 and 0.999.
    - `Lars`: divides by the gradient's norm too, but multiplies by that of the weights. `AdamW`: a second moment for
      each element.

    Source: Ginsburg, Castonguay, Hrinchuk, Kuchaiev, Lavrukhin, Leary, Li, Nguyen, Zhang and Cohen, 2019,
    arXiv:1905.11286.

    Example:

    >>> optimizer = Novograd(learning_rate=0.5)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([3.0, -4.0])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [0.7 2.4]
    """

    learning_rate = rate(0.001)
    beta_1 = fraction(0.95, "decay rate of the momentum")
    beta_2 = fraction(0.98, "decay rate of the moving average of the squared norm")
    epsilon = sole_stabiliser(1e-08, "stabiliser outside of the root, in units of the gradient's norm")
    grad_averaging = flag(False, "multiply the new direction by 1 - beta_1")
    slots = ("m", Slot("v", initial=-1.0, shape=lambda shape, h: ()))
    decay = "rule"

    def rule(self, h, theta, g, m, v):
        first = v < 0.0
        n = ops.sum(g * g)
        v = ops.where(first, n, h.beta_2 * v + (1 - h.beta_2) * n)
        u = g / (sqrt(v) + h.epsilon) + h.weight_decay * theta
        m = ops.where(first, u, h.beta_1 * m + ((1 - h.beta_1) * u if h.grad_averaging else u))
        return h.eta * m, (m, v)
