"""Lion."""

import keras

from keras_adaptive.core.fields import KW_ONLY, fraction, rate
from keras_adaptive.core.math.numerics import sign
from keras_adaptive.core.optimizer import AdaptiveOptimizer


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Lion(AdaptiveOptimizer):
    """Lion: every coordinate's step has the length eta, and the sign of a momentum that looks ahead.

        c_t = beta_1 m_{t-1} + (1 - beta_1) g_t
        m_t = beta_2 m_{t-1} + (1 - beta_2) g_t                               m_0 = 0
        theta_t = theta_{t-1} - eta_t sign(c_t)

    A coordinate stands still only where c_t is exactly 0.

    Slots: m, of the variable's shape.

    Defaults: the learning rate is that of the authors' code, beta_1 and beta_2 are the paper's.

    Start with: a learning rate 3 to 10 times smaller than that of AdamW, about 3e-5 to 3e-4, a weight_decay as many
    times larger, and the same warm-up and decay. The authors took 1e-4 with weight_decay 10 for ViT-B/16 on ImageNet,
    and 1e-4 with 0.01 for a language model of 7.5 B parameters. Small models take more. For language models the paper
    has beta_1 0.95 and beta_2 0.98.

    Pitfalls:

    - AdamW's learning rate is too large here, and AdamW's weight_decay too small. Divide one and multiply the other by
      the same factor.
    - Each coordinate moves by eta, however small its gradients are. Without a decay of the learning rate the weights
      never come to rest.
    - It prefers large batches. For ViT-B/16 the authors found 4096 the best batch, and 256 that of AdamW. In long runs
      with small batches it falls behind (Semenov et al., 2025).

    Differs from:

    - `keras.optimizers.Lion`: the same numbers. Its learning rate is 0.001 by default.
    - `optax.lion`: the same numbers. Its weight_decay is 0.001 by default, here None.
    - `Tiger`: one beta in place of two, and steps in proportion to the variable's own size. `AdamW`: a second moment in
      place of the sign, so twice the state.

    Source: Chen, Liang, Huang, Real, Wang, Liu, Pham, Dong, Luong, Hsieh, Lu and Le, NeurIPS 2023, arXiv:2302.06675.

    Example:

    >>> optimizer = Lion(learning_rate=0.5)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([4.0, -0.25])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta))
    [0.5 2.5]
    """

    learning_rate = rate(0.0001)
    beta_1 = fraction(0.9, "weight of the momentum in the direction of the step")
    beta_2 = fraction(0.99, "decay rate of the momentum")
    _ = KW_ONLY
    slots = ("m",)
    elementwise = True

    def rule(self, h, theta, g, m):
        c = h.beta_1 * m + (1 - h.beta_1) * g
        m = h.beta_2 * m + (1 - h.beta_2) * g
        return h.eta * sign(c), (m,)
