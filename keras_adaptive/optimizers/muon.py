"""Muon."""

import math

import keras
from keras.ops import sqrt

from keras_adaptive.core.fields import flag, fraction, one_of, rate, sole_stabiliser
from keras_adaptive.core.math.numerics import norm
from keras_adaptive.core.state.slots import Slot
from keras_adaptive.optimizers._companions import WithCompanions, adam


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Muon(WithCompanions):
    """Muon: the momentum of a matrix, made nearly orthogonal; AdamW for the variables that are its companions.

        m_t = momentum m_{t-1} + (1 - momentum) g_t                           m_0 = 0
        u_t = momentum m_t + (1 - momentum) g_t  if nesterov, else  m_t
        o_t = the matrix of u_t, divided by norm(u_t) + 1e-7, after `steps` times
              A = X X^T,  X <- a X + (b A + c A A) X  in matmul_dtype,
              with (a, b, c) = (3.4445, -4.7750, 2.0315), or those that `coefficients` has for the step
        theta_t = theta_{t-1} - eta_t s o_t
        s = sqrt(max(1, columns / rows))  with scale "original",  0.2 sqrt(max(rows, columns))  with "moonlight",
            sqrt(columns / rows)  with "spectral"
        where the rows of a kernel's matrix are its inputs and the columns its outputs, which are its last output_axes
        axes if that is given; with per_head each head of attention has a matrix

        With second_moment "adamuon", and beta for second_moment_beta, epsilon for second_moment_epsilon:
        v_t = beta v_{t-1} + (1 - beta) o_t o_t                               v_0 = 0
        a_t = o_t / (sqrt(v_t) + epsilon)
        theta_t = theta_{t-1} - eta_t 0.2 sqrt(rows columns) a_t / (norm(a_t) + epsilon)

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

    `describe()` shows the matrices of each variable. On a GPU those of variables of one shape are multiplied
    together; on JAX, data-parallel devices divide them. Products of float32 have its full precision. On a TPU,
    TensorFlow's have it only after `tf.config.experimental.enable_tensor_float_32_execution(False)`.

    Slots: m; companions also store v, and with second_moment all variables do; each of the variable's shape.

    Defaults: learning rate, momentum, nesterov, steps, scale and the settings of the companions are those of the
    authors' code: 0.015 times 0.02 is its 3e-4 for AdamW. The multiplier 1 of "moonlight" is Moonlight's. companion and
    output_axes, which find the companions and the matrices, are chosen here.

    Start with: a learning rate of 0.02 (the authors; their README has weight_decay 0.01), with a decay. Yuan et al.
    (2025) took 0.02, 0.01 and 0.0067 for GPT-2 with 125, 355 and 770 million parameters. With scale="moonlight",
    AdamW's learning rate and a weight_decay of 0.1 (Liu et al., 2025); with second_moment too. The speed records of
    modded-nanogpt let the momentum rise in 300 updates: `momentum=WarmupSchedule(0.95, 300, 0.85)`.

    Pitfalls:

    - The output layer must be a companion. In a subclassed model it is taken for a hidden layer until
      `companion_groups` names it.
    - The companions' rate is a fraction of the matrices'. Where much of a model is embeddings, tune
      companion_learning_rate_multiplier too: in `compare`, whose models are small, Muon is bad with the defaults and
      good after tuning.
    - A kernel that holds query, key and value side by side is made orthogonal as one matrix. Use a layer for each.
    - o_t is only nearly orthogonal: singular values that are above 1 % of the norm end between 0.68 and 1.14. If the
      norm of u_t is near 1e-7, the step is shorter. coefficients="polar_express" with 8 steps comes to 1.
    - Three tables are called Polar Express. Here it is that of the paper; microsoft/dion's can be given as a list, but
      dion divides by 1.02 norms.

    Differs from:

    - The authors' code: it multiplies in bfloat16 on every device, and computes the scale of a convolution from its
      last two axes before flattening.
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
    al., "Muon is scalable for LLM training", 2025, arXiv:2502.16982; "polar_express": Amsel et al., 2025,
    arXiv:2505.16932; "adamuon": Si et al., "AdaMuon", 2025, arXiv:2507.11005.

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
    second_moment = one_of(
        ("adamuon",),
        None,
        "divide the orthogonal matrix by the root of its own second moment, as AdaMuon does; None: do not",
        'It needs scale="moonlight", since AdaMuon\'s steps are as long as those of AdamW',
        optional=True,
    )
    second_moment_beta = fraction(0.95, "decay rate of that second moment")
    second_moment_epsilon = sole_stabiliser(1e-08, "stabiliser of that division, outside of the root")
    slots = ("m", Slot("v", when="variable.has_v", nonnegative=True))

    def check_together(self, scale, second_moment, **others):
        if second_moment is not None and scale != "moonlight":
            raise ValueError(
                "`second_moment` needs scale='moonlight', because AdaMuon's steps are as long as those of AdamW. "
                f"Received: second_moment={second_moment!r}, scale={scale!r}"
            )

    def about(self, role, h):
        found = super().about(role, h)
        return found | {"has_v": found["companion"] or h.second_moment is not None}

    def rule(self, h, theta, g, m, v):
        if h.variable.companion:
            return adam(h, g, m, v)
        m = h.momentum * m + (1 - h.momentum) * g
        u = h.momentum * m + (1 - h.momentum) * g if h.nesterov else m
        o, s = self.orthogonal(h, u), h.variable.s
        if h.second_moment == "adamuon":
            o, s, v = self.divided(h, o, v)
        return h.eta * s * h.variable.view.back(o, like=g), (m, v)

    def divided(self, h, o, v):
        """AdaMuon: o divided by the root of its second moment, the scale of that, and the new second moment."""
        view, beta, epsilon = h.variable.view, h.second_moment_beta, h.second_moment_epsilon
        q = beta * view.of(v) + (1 - beta) * o * o
        a = o / (sqrt(q) + epsilon)
        return a / (norm(a, (-2, -1)) + epsilon), 0.2 * math.sqrt(math.prod(view.lengths)), view.back(q, like=v)
