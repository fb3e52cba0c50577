"""Adam-mini."""

import keras
from keras.ops import sqrt

from keras_adaptive.core.fields import fraction, one_of, rate, sole_stabiliser
from keras_adaptive.core.math.numerics import mean
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.state.slots import Slot
from keras_adaptive.groups.layers import EMBEDDING


def _of_blocks(shape, h):
    return tuple(1 if axis in h.variable.axes else length for axis, length in enumerate(shape))


@keras.saving.register_keras_serializable(package="keras_adaptive")
class AdamMini(AdaptiveOptimizer):
    """Adam-mini: Adam with one second moment for each block of a variable, which saves almost half of the state.

        m_t = beta_1 m_{t-1} + (1 - beta_1) g_t                               m_0 = 0
        v_t = beta_2 v_{t-1} + (1 - beta_2) mean(g_t g_t over each block)     v_0 = 0
        m_hat_t = m_t / (1 - beta_1^t),  v_hat_t = v_t / (1 - beta_2^t)
        theta_t = theta_{t-1} - eta_t m_hat_t / (sqrt(v_hat_t) + epsilon)

    The layer that owns a variable decides what a block is. The first line that fits counts:

        scale of a norm                                           the full variable
        bias, offset of a norm, other variables of at most one axis
                                                                  every element, which is Adam
        embedding                                                 a token: all outputs, which are a row
        query or key kernel of attention with an axis of heads    a head: all other axes
        other kernels, also of output layers                      an output neuron: all inputs
        variables of unknown layers                               all axes but the last

    Without a known layer, the name tells a bias, the scale or offset of a norm, and an embedding.

    Slots: m, of the variable's shape; v, of the same shape but with length 1 along the axes of a block.

    Defaults: the learning rate, the betas and epsilon are the authors' code's, and Adam's. `block="auto"` is the
    paper's partition.

    Start with: the learning rate, betas and weight decay that `AdamW` has for the model (the authors' repository), so
    from 1e-4 to 3e-3, with a warm-up and a decay.

    Pitfalls:

    - Blocks that are too large make training unstable: `block="tensor"` is not for matrices. The authors' version 1.0
      had one v for each MLP matrix, which they corrected.
    - A variable whose layer is not known is split along its last axis, unless its name tells more. Look at the roles in
      `describe()`, and give `Group(..., block=...)` where one is wrong.
    - Biases and norms are decayed unless a group says otherwise. The authors decay neither:
      `groups=[no_decay_on_vectors()]`.

    Differs from:

    - The authors' code: goes by names, which must be those of its list, and needs the numbers of heads.
    - `pytorch_optimizer.AdamMini`: has one v for each MLP matrix, the rule of version 1.0.
    - `Adam(epsilon=1e-8)`: the same numbers as `block="element"`. `Novograd`: one second moment for each variable, and
      momentum after the division.

    Source: Zhang, Chen, Li, Ding, Wu, Kingma, Ye, Luo and Sun, ICLR 2025, arXiv:2406.16793.

    Example:

    >>> optimizer = AdamMini(learning_rate=0.5)
    >>> theta = keras.Variable([[1.0, 2.0], [1.0, 2.0]], name="kernel")
    >>> optimizer.apply([keras.ops.convert_to_tensor([[7.0, -0.25], [1.0, -0.25]])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [[0.3 2.5]
     [0.9 2.5]]
    """

    learning_rate = rate(0.001)
    beta_1 = fraction(0.9, "decay rate of the moving average of the gradient")
    beta_2 = fraction(0.999, "decay rate of the moving average of the squared gradient")
    epsilon = sole_stabiliser(1e-08, "stabiliser outside of the root, in units of the gradient")
    block = one_of(
        ("auto", "element", "head", "neuron", "row", "tensor"),
        "auto",
        "what a block is",
        more='"auto" is the table above. "row" is all axes but the first, "tensor" is the full variable. The other '
        "values are mostly for a `Group` of variables whose layer is not known",
    )
    slots = ("m", Slot("v", shape=_of_blocks, nonnegative=True))

    def about(self, role, h):
        return {"axes": _axes(role, _block(role) if h.block == "auto" else h.block)}

    def rule(self, h, theta, g, m, v):
        m = h.beta_1 * m + (1 - h.beta_1) * g
        v = h.beta_2 * v + (1 - h.beta_2) * mean(g * g, h.variable.axes, keepdims=True)
        m_hat, v_hat = m / h.debias(h.beta_1), v / h.debias(h.beta_2)
        return h.eta * m_hat / (sqrt(v_hat) + h.epsilon), (m, v)


def _block(role):
    """What a block of the variable is, according to the paper."""
    if role.is_vector:
        return "tensor" if role.purpose == "scale" else "element"
    if role.kind == EMBEDDING:
        return "token"
    return "head" if role.heads is not None and role.purpose in ("query", "key") else "neuron"


def _axes(role, block):
    """The axes along which the elements of a block lie."""
    axes = range(len(role.shape))
    if block == "head":
        heads = _heads(role)
        return tuple(axis for axis in axes if axis != heads)
    if block == "token" and role.is_matrix:
        return role.outputs
    if block == "neuron" and role.is_matrix:
        return role.inputs
    return tuple({"element": (), "neuron": axes[:-1], "token": axes[1:], "row": axes[1:], "tensor": axes}[block])


def _heads(role):
    """The axis of the heads. Without a known layer: the first of two output axes, or axis 1 of (d, heads, head_dim)."""
    if role.heads is not None:
        return role.heads
    if len(role.outputs) == 2:
        return role.outputs[0]
    if len(role.shape) == 3:
        return 1
    raise ValueError(
        "`block` must not be 'head' for a variable without the three axes of (d, heads, head_dim). "
        f"Received: block='head', and {role.path!r} has the shape {role.shape}"
    )
