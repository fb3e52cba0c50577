"""AdamW."""

import keras
from keras.ops import sqrt

from keras_adaptive.core.fields import KW_ONLY, decay_rate, fraction, only, rate, sole_stabiliser
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.state.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class AdamW(AdaptiveOptimizer):
    """AdamW: Adam, with weight decay beside the adaptive step instead of in the gradient.

        m_t = beta_1 m_{t-1} + (1 - beta_1) g_t                               m_0 = 0
        v_t = beta_2 v_{t-1} + (1 - beta_2) g_t g_t                           v_0 = 0
        m_hat_t = m_t / (1 - beta_1^t),  v_hat_t = v_t / (1 - beta_2^t)
        theta_t = theta_{t-1} - eta_t (m_hat_t / (sqrt(v_hat_t) + epsilon) + weight_decay theta_{t-1})

    Slots: m and v, of the variable's shape.

    Defaults: all are torch's. The learning rate, the betas and epsilon are also the Adam paper's. amsgrad is Keras's
    argument.

    Start with: a learning rate from 1e-4 to 3e-3 and a weight decay from 0.01 to 0.1, with a warm-up and a decay.
    Language models of 0.1 to 1.2 billion parameters trained best with 4e-3 to 8e-3, a beta_2 of 0.98 and a weight decay
    of 0.1 (Wen et al., 2025). Their warm-up took 1,000 to 2,000 updates, and gradients were clipped to 1 or 2.

    Pitfalls:

    - All variables are decayed, biases and norms too, unless `groups=[no_decay_on_vectors()]`.
    - A weight shrinks by the factor e in 1 / (eta weight_decay) updates: 100,000 by default. In a short training that
      has hardly an effect; take 0.1 or more.
    - The decay follows the learning rate and its schedule: half the rate is half the decay. The paper multiplies it by
      the schedule alone: `weight_decay_mode="independent"`, with a schedule for `weight_decay`.
    - Where gradients suddenly grow, steps are several eta long: clip them, or take a beta_2 of 0.95.

    Differs from:

    - `keras.optimizers.AdamW`: adds its epsilon of 1e-7 to the root of v_t before the correction, and decays by 0.004.
    - `torch.optim.AdamW`: the same numbers.
    - `optax.adamw`: the same numbers with the same weight decay, which is 1e-4 there by default.
    - `Adam`: has, by default, epsilon inside of the root and no decay. `Lamb`: makes this step as long as the variable.
      `ScheduleFreeAdamW`: needs no decay of the learning rate.

    Source: Loshchilov and Hutter, ICLR 2019, arXiv:1711.05101.

    Example:

    >>> optimizer = AdamW(learning_rate=0.5, weight_decay=0.1)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([4.0, -0.25])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [0.45 2.4 ]
    """

    learning_rate = rate(0.001)
    weight_decay = decay_rate(0.01)
    beta_1 = fraction(0.9, "decay rate of the moving average of the gradient")
    beta_2 = fraction(0.999, "decay rate of the moving average of the squared gradient")
    epsilon = sole_stabiliser(1e-08, "stabiliser outside of the root, in units of the gradient")
    amsgrad = only(False, 'for AMSGrad use the class `Amsgrad`, whose variant="raw" is that of Keras and torch')
    _ = KW_ONLY
    slots = ("m", Slot("v", nonnegative=True))
    elementwise = True

    def rule(self, h, theta, g, m, v):
        m = h.beta_1 * m + (1 - h.beta_1) * g
        v = h.beta_2 * v + (1 - h.beta_2) * g * g
        m_hat, v_hat = m / h.debias(h.beta_1), v / h.debias(h.beta_2)
        return h.eta * m_hat / (sqrt(v_hat) + h.epsilon), (m, v)
