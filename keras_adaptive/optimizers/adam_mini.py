"""Adam-mini."""

import re

import keras
from keras.ops import sqrt

from keras_adaptive.core import checks
from keras_adaptive.core.numerics import mean
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.slots import Slot


def _of_blocks(shape, hyperparameters):
    return tuple(1 if axis in hyperparameters["axes"] else length for axis, length in enumerate(shape))


@keras.saving.register_keras_serializable(package="keras_adaptive")
class AdamMini(AdaptiveOptimizer):
    """Adam-mini: Adam with one second moment for each block of a variable, which saves almost half of the state.

        m_t = beta_1 m_{t-1} + (1 - beta_1) g_t                               m_0 = 0
        v_t = beta_2 v_{t-1} + (1 - beta_2) mean(g_t g_t over each block)     v_0 = 0
        m_hat_t = m_t / (1 - beta_1^t),  v_hat_t = v_t / (1 - beta_2^t)
        theta_t = theta_{t-1} - eta_t m_hat_t / (sqrt(v_hat_t) + epsilon)

    What a block is, by the variable's path and shape. The first that fits:

        bias                                                      every element, which is Adam
        gamma or scale of one axis                                the whole variable
        other variables of at most one axis                       every element
        embeddings                                                a row: all but the first axis
        query and key kernels of shape (d, heads, head_dim)       a head: the first and the last axis
        value kernels of that shape                               an output neuron: the first axis
        other variables                                           an output neuron: all axes but the last

    A kernel is one of query, key or value where the last two parts of its path say so. The authors do not decay biases
    and norms: `groups=[no_decay_on_vectors()]`.

    Args:
        learning_rate: eta: a real number of at least 0, a LearningRateSchedule or a callable. Default 0.001.
        beta_1: weight of the last average of the gradient, in [0, 1). Default 0.9.
        beta_2: weight of the last average of its square, in [0, 1). Default 0.999.
        epsilon: stabiliser outside of the root, above 0, in units of the gradient. Default 1e-08.
        block: "auto", as in the table, or "element", "head", "neuron", "row" or "tensor" (the whole variable), mostly
            for a `Group` of variables whose path says something else than the table reads. Default "auto".
        **options: Keras's own arguments and `skip_nonfinite`, among others: see `AdaptiveOptimizer`.

    Slots: m, of the variable's shape; v, of the same with length 1 along the axes of a block.

    Raises:
        ValueError, TypeError: for an argument out of range, of the wrong kind or unknown; `build` raises a ValueError
            for block "head" and a variable that has not three axes.

    Source: Zhang, Chen, Li, Ding, Wu, Kingma, Ye, Luo and Sun, ICLR 2025.

    Example:

    >>> optimizer = AdamMini(learning_rate=0.5)
    >>> theta = keras.Variable([[1.0, 2.0], [1.0, 2.0]], name="kernel")
    >>> optimizer.apply([keras.ops.convert_to_tensor([[7.0, -0.25], [1.0, -0.25]])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [[0.3 2.5]
     [0.9 2.5]]
    """

    hyperparameters = {
        "beta_1": checks.fraction,
        "beta_2": checks.fraction,
        "epsilon": checks.sole_stabiliser,
        "block": checks.one_of("auto", "element", "head", "neuron", "row", "tensor"),
    }
    slots = ("m", Slot("v", shape=_of_blocks, nonnegative=True))

    def __init__(self, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-8, block="auto", **options):
        super().__init__(learning_rate, options, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon, block=block)

    def about(self, path, shape, hyperparameters):
        block, ndim = hyperparameters["block"], len(shape)
        layer, name = ["", *path.lower().split(":")[0].split("/")][-2:]
        words = set(re.findall("[a-z]+", f"{layer} {name}")) if ndim == 3 else set()
        if block == "auto":
            block = _block(name, ndim, words)
        if block == "head" and ndim != 3:
            raise ValueError(
                "`block` must not be 'head' for a variable without the three axes of (d, heads, head_dim). "
                f"Received: block='head', and {path!r} has the shape {tuple(shape)}"
            )
        outputs = 2 if words & {"query", "key", "value"} else 1
        return {
            "axes": {
                "element": (),
                "head": (0, 2),
                "neuron": tuple(range(ndim - outputs)),
                "row": tuple(range(1, ndim)),
                "tensor": tuple(range(ndim)),
            }[block]
        }

    def rule(self, h, theta, g, m, v):
        m = h.beta_1 * m + (1 - h.beta_1) * g
        v = h.beta_2 * v + (1 - h.beta_2) * mean(g * g, h.axes, keepdims=True)
        m_hat, v_hat = m / h.debias(h.beta_1), v / h.debias(h.beta_2)
        return h.eta * m_hat / (sqrt(v_hat) + h.epsilon), (m, v)


def _block(name, ndim, words):
    """The kind of block, from the variable's own name, its number of axes, and the words of it and its layer."""
    if name == "bias":
        return "element"
    if ndim <= 1:
        return "tensor" if name in ("gamma", "scale") else "element"
    if re.fullmatch("(?!reverse).*embeddings?", name):
        return "row"
    return "head" if words & {"query", "key"} else "neuron"
