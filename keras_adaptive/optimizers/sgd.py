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

    Without momentum, b_t is g_t. eta stands outside of the velocity b, so a new learning rate acts on all of it at
    once.

    Slots: b if momentum is above 0, of the variable's shape.

    Defaults: all are Keras's. momentum=0.0 is the lecture's SGD.

    Start with: for image networks a learning rate of 0.1 with momentum=0.9 and a batch of 256, divided by 10 when the
    loss stalls, and a weight_decay of 1e-4 with `weight_decay_mode="coupled"` (He et al., 2016). For other batches the
    rate goes with the batch size, up to 8,192, after a warm-up of 5 epochs (Goyal et al., 2017). Without momentum, take
    10 times more.

    Pitfalls:

    - With momentum, steps are 1 / (1 - momentum) times as long, 10 times with 0.9. Lower the learning rate with it.
    - Published recipes for SGD mean weight decay as an L2 penalty: `weight_decay_mode="coupled"`. With momentum 0.9 it
      is 10 times stronger than the default, decoupled decay of the same number.
    - The best rate depends on the scale of the loss and of each layer's gradients. Where these differ much, as in
      transformers or embeddings with rare words, it trains slowly: use `AdamW`.

    Differs from:

    - `keras.optimizers.SGD`: has eta inside of the velocity (b_t = momentum b_{t-1} - eta_t g_t). The same numbers
      while eta is constant; under a warm-up the small first steps stay in its velocity.
    - `torch.optim.SGD`: the same numbers. Its weight decay is an L2 penalty, here `weight_decay_mode="coupled"`.
    - `optax.sgd`: the same numbers.
    - `Lars`: scales each variable's step by its norm. `RMSprop`: scales each element's.

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
