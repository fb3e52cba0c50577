"""Muon."""

import keras

from keras_adaptive.core.fields import flag, fraction, rate
from keras_adaptive.core.state.slots import Slot
from keras_adaptive.optimizers import _matrices as matrices
from keras_adaptive.optimizers._companions import WithCompanions, adam


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Muon(WithCompanions):
    """Muon: the momentum of a matrix, made nearly orthogonal; AdamW for the variables that are its companions.

        m_t = momentum m_{t-1} + (1 - momentum) g_t                           m_0 = 0
        u_t = momentum m_t + (1 - momentum) g_t  if nesterov, else  m_t
        o_t = the matrix of u_t, divided by norm(u_t) + 1e-7, after `steps` times
              A = X X^T,  X <- 3.4445 X + (-4.7750 A + 2.0315 A A) X
        theta_t = theta_{t-1} - eta_t s o_t
        s = sqrt(max(1, columns / rows))  with scale "original",  0.2 sqrt(max(rows, columns))  with "moonlight"
        where the rows of a kernel's matrix are its inputs and the columns its outputs, which are its last output_axes
        axes if that is given

        For a companion, with beta_1 for companion_beta_1 and so on:
        m_t = beta_1 m_{t-1} + (1 - beta_1) g_t                               m_0 = 0
        v_t = beta_2 v_{t-1} + (1 - beta_2) g_t g_t                           v_0 = 0
        m_hat_t = m_t / (1 - companion_beta_1^t),  v_hat_t = v_t / (1 - companion_beta_2^t)
        theta_t = theta_{t-1} - companion_learning_rate_multiplier eta_t m_hat_t / (sqrt(v_hat_t) + companion_epsilon)

    So the matrix goes from a layer's inputs to its outputs:

    - a dense layer: (inputs, outputs);
    - a convolution: (height width channels, filters);
    - attention: (inputs, heads size) for the projections to the heads, (heads size, outputs) for the one from them;
    - EinsumDense: its equation says which axes are inputs and which are outputs;
    - experts, the gates of an LSTM or a GRU, the groups of a convolution: each has its own matrix.

    `describe()` shows the matrices of each variable. The scale is computed from the matrix; the authors' code computes
    it from the last two axes of a convolution, before flattening. The matrix products have full float32 precision; the
    authors' have bfloat16 precision. On a TPU, TensorFlow's products have full precision only after
    `tf.config.experimental.enable_tensor_float_32_execution(False)`. Keras's class leaves every kernel with more than
    two axes to AdamW, and treats the output layer as a matrix.

    Slots: m; companions also store v; each of the variable's shape.

    Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; scale "moonlight": Liu et
    al., "Muon is scalable for LLM training", 2025.

    Example:

    >>> optimizer = Muon(learning_rate=0.5)
    >>> theta = keras.Variable([[1.0, 0.0], [0.0, 1.0]])
    >>> optimizer.apply([keras.ops.convert_to_tensor([[2.0, 0.0], [0.0, -2.0]])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(1))
    [[0.4 0. ]
     [0.  1.6]]
    """

    learning_rate = rate(0.02, 'With scale "moonlight" it is that of AdamW')
    momentum = fraction(0.95, "decay rate of the moving average of the gradient")
    nesterov = flag(True, "use Nesterov's look-ahead along the new average")
    slots = ("m", Slot("v", when="variable.companion", nonnegative=True))

    def rule(self, h, theta, g, m, v):
        if h.variable.companion:
            return adam(h, g, m, v)
        m = h.momentum * m + (1 - h.momentum) * g
        u = h.momentum * m + (1 - h.momentum) * g if h.nesterov else m
        o = matrices.newton_schulz(h.variable.view.of(u), h.steps)
        return h.eta * h.variable.s * h.variable.view.back(o), (m, v)
