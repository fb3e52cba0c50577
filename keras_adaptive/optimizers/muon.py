"""Muon."""

import keras

from keras_adaptive.core.fields import flag, fraction, rate
from keras_adaptive.core.state.slots import Slot
from keras_adaptive.optimizers import _orthogonal as orthogonal
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

    `describe()` shows the matrices of each variable. The matrix products have full float32 precision. On a TPU,
    TensorFlow's products have it only after `tf.config.experimental.enable_tensor_float_32_execution(False)`.

    Slots: m; companions also store v; each of the variable's shape.

    Defaults: learning rate, momentum, nesterov, steps, scale and the settings of the companions are those of the
    authors' code: 0.015 times 0.02 is its 3e-4 for AdamW. The multiplier 1 of "moonlight" is Moonlight's. companion and
    output_axes, which find the companions and the matrices, are chosen here.

    Start with: a learning rate of 0.02 (the authors; their README has weight_decay 0.01), with a decay. Yuan et al.
    (2025) took 0.02, 0.01 and 0.0067 for GPT-2 with 125, 355 and 770 million parameters. With scale="moonlight",
    AdamW's learning rate and a weight_decay of 0.1 (Liu et al., 2025). The speed records of modded-nanogpt let the
    momentum rise in 300 updates: `momentum=WarmupSchedule(0.95, 300, 0.85)`.

    Pitfalls:

    - The output layer must be a companion. In a subclassed model it is taken for a hidden layer until
      `companion_groups` names it.
    - The companions' rate is a fraction of the matrices'. Where much of a model is embeddings, tune
      companion_learning_rate_multiplier too: in `compare`, whose models are small, Muon is bad with the defaults and
      good after tuning.
    - A kernel that holds query, key and value side by side is made orthogonal as one matrix. Use a layer for each.
    - o_t is only nearly orthogonal: singular values that are above 1 % of the norm end between 0.68 and 1.14. If the
      norm of u_t is near 1e-7, the step is shorter.

    Differs from:

    - The authors' code: it multiplies in bfloat16, and computes the scale of a convolution from its last two axes
      before flattening.
    - `keras.optimizers.Muon`: the same numbers with `Muon(scale="moonlight")` for hidden kernels with two axes, to
      2e-6. It leaves all kernels with more axes to AdamW, and treats the output layer as a matrix. By default it has a
      learning rate of 0.001, and decays by 0.004.
    - `torch.optim.Muon`: takes variables with two axes only, in bfloat16, which differs by 1e-3, and has no companions.
      Its `adjust_lr_fn="match_rms_adamw"` is "moonlight".
    - `optax.contrib.muon`: the same numbers as `Muon(nesterov=False)` with `nesterov=False, eps=1e-7` there. With
      Nesterov's momentum it corrects the averages for their start.
    - `NorMuon`: divides by a second moment for each neuron too. `Soap`: Adam in the basis of eigenvectors; it needs no
      companions.

    Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; scale "moonlight": Liu et
    al., "Muon is scalable for LLM training", 2025, arXiv:2502.16982.

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
        o = orthogonal.newton_schulz(h.variable.view.of(u), h.steps)
        return h.eta * h.variable.s * h.variable.view.back(o, like=g), (m, v)
