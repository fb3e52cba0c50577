"""Adam-mini."""

import re

import keras
from keras.ops import sqrt

from keras_adaptive.core.fields import fraction, one_of, rate, sole_stabiliser
from keras_adaptive.core.math.numerics import mean
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.state.slots import Slot


def _of_blocks(shape, h):
    return tuple(1 if axis in h.variable.axes else length for axis, length in enumerate(shape))


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

    Slots: m, of the variable's shape; v, of the same with length 1 along the axes of a block.

    Source: Zhang, Chen, Li, Ding, Wu, Kingma, Ye, Luo and Sun, ICLR 2025.

    Example:

    >>> optimizer = AdamMini(learning_rate=0.5)
    >>> theta = keras.Variable([[1.0, 2.0], [1.0, 2.0]], name="kernel")
    >>> optimizer.apply([keras.ops.convert_to_tensor([[7.0, -0.25], [1.0, -0.25]])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [[0.3 2.5]
     [0.9 2.5]]
    """

    learning_rate = rate(0.001)
    beta_1 = fraction(0.9, "weight of the last average of the gradient")
    beta_2 = fraction(0.999, "weight of the last average of its square")
    epsilon = sole_stabiliser(1e-08, "stabiliser outside of the root, in units of the gradient")
    block = one_of(
        ("auto", "element", "head", "neuron", "row", "tensor"),
        "auto",
        'what a block is: "auto", as in the table, or "element", "head", "neuron", "row" or "tensor" (all of it), '
        "mostly for a `Group` of variables whose path says something else than the table reads",
    )
    slots = ("m", Slot("v", shape=_of_blocks, nonnegative=True))

    def about(self, role, h):
        block, ndim = h.block, len(role.shape)
        layer, name = ["", *role.path.lower().split(":")[0].split("/")][-2:]
        words = set(re.findall("[a-z]+", f"{layer} {name}")) if ndim == 3 else set()
        if block == "auto":
            block = _block(name, ndim, words)
        if block == "head" and ndim != 3:
            raise ValueError(
                "`block` must not be 'head' for a variable without the three axes of (d, heads, head_dim). "
                f"Received: block='head', and {role.path!r} has the shape {tuple(role.shape)}"
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
        v = h.beta_2 * v + (1 - h.beta_2) * mean(g * g, h.variable.axes, keepdims=True)
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
