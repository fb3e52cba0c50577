"""Adam."""

import keras
from keras.ops import sqrt

from keras_adaptive.core import checks
from keras_adaptive.core.fields import KW_ONLY, fraction, only, rate, stabiliser
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.state.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Adam(AdaptiveOptimizer):
    """Adam: the moving average of the gradient, divided by the root of the moving average of its square.

        m_t = beta_1 m_{t-1} + (1 - beta_1) g_t                               m_0 = 0
        v_t = beta_2 v_{t-1} + (1 - beta_2) g_t g_t                           v_0 = 0
        m_hat_t = m_t / (1 - beta_1^t),  v_hat_t = v_t / (1 - beta_2^t)
        theta_t = theta_{t-1} - eta_t m_hat_t / (sqrt(v_hat_t + epsilon_root) + epsilon)

    Without an epsilon this is the lecture's form, with an epsilon_root of 1e-16 inside of the root. It matters where
    the gradient is about 1e-8, the square root of 1e-16, which is the paper's epsilon outside of the root.

    Slots: m and v, of the variable's shape.

    Defaults: the learning rate and the betas are the paper's. epsilon is 0. epsilon_root, 1e-16, stands where the
    lecture has it, and is the square of the paper's epsilon. amsgrad is Keras's argument.

    Start with: a learning rate from 1e-4 to 3e-3, with a warm-up and a decay. Language models usually have a beta_2 of
    0.95.

    Pitfalls:

    - epsilon_root is in units of the squared gradient: `epsilon_root=1e-8` makes the steps of gradients below 1e-4
      those of SGD. For an epsilon from other code use `epsilon`.
    - v remembers 1 / (1 - beta_2) updates, 1,000 by default. Where gradients suddenly grow, steps are several eta long
      and the loss jumps: clip them, or take a smaller beta_2.
    - Rows of an embedding that are not looked up go on moving by their momentum. `sparse="lazy"` leaves them alone.

    Differs from:

    - `keras.optimizers.Adam`: adds its epsilon of 1e-7 to the root of v_t before the correction. So its epsilon counts
      about 30 times more in the first step than later. Its steps are wrong for embedding rows that occur twice in a
      batch (TensorFlow), and 0 for bfloat16 weights.
    - `torch.optim.Adam`: the same numbers with `Adam(epsilon=1e-8)`, the paper's form. Its weight decay is an L2
      penalty, here `weight_decay_mode="coupled"`.
    - `optax.adam`: the same numbers with `eps=0.0, eps_root=1e-16` there.
    - `AdamW`: has epsilon outside of the root, and a weight decay by default. `Amsgrad`: what `amsgrad=True` is
      elsewhere.

    Source: Kingma and Ba, ICLR 2015, arXiv:1412.6980; epsilon inside of the root: Yang You's lecture.

    Example:

    >>> optimizer = Adam(learning_rate=0.5)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([4.0, -0.25])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [0.5 2.5]
    """

    learning_rate = rate(0.001)
    beta_1 = fraction(0.9, "decay rate of the moving average of the gradient")
    beta_2 = fraction(0.999, "decay rate of the moving average of the squared gradient")
    epsilon = stabiliser(None, "stabiliser outside of the root, in units of the gradient; None: 0")
    amsgrad = only(False, 'for AMSGrad use the class `Amsgrad`, whose variant="raw" is that of Keras and torch')
    _ = KW_ONLY
    epsilon_root = stabiliser(
        None,
        "stabiliser inside of the root, in units of the squared gradient; None: 0 if epsilon is given, else 1e-16",
    )
    slots = ("m", Slot("v", nonnegative=True))
    elementwise = True

    renamed = {"epsilon_outside": "epsilon", "epsilon": "epsilon_root"}

    @classmethod
    def implied(cls, given):
        epsilon, root = given.get("epsilon"), given.get("epsilon_root")
        # A group that gives neither, or only says that one of them is None or 0.
        if not {"epsilon", "epsilon_root"} <= set(given) and not (epsilon or root):
            return {}
        if epsilon is None and root is None:
            return {"epsilon": 0.0, "epsilon_root": 1e-16}
        return {"epsilon": epsilon or 0.0, "epsilon_root": root or 0.0}

    def check_together(self, epsilon, epsilon_root, **others):
        checks.not_both_zero(epsilon=epsilon, epsilon_root=epsilon_root)

    def rule(self, h, theta, g, m, v):
        m = h.beta_1 * m + (1 - h.beta_1) * g
        v = h.beta_2 * v + (1 - h.beta_2) * g * g
        m_hat, v_hat = m / h.debias(h.beta_1), v / h.debias(h.beta_2)
        return h.eta * m_hat / (sqrt(v_hat + h.epsilon_root) + h.epsilon), (m, v)
