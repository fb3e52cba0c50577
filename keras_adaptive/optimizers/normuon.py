"""NorMuon."""

import keras
from keras import ops
from keras.ops import sqrt

from keras_adaptive.core.fields import flag, fraction, rate
from keras_adaptive.core.math.numerics import norm
from keras_adaptive.core.state.slots import Slot
from keras_adaptive.optimizers._companions import WithCompanions, adam


def _of_neurons(shape, h):
    return shape if h.variable.companion else (*h.variable.view.leading, h.variable.view.lengths[-1])


@keras.saving.register_keras_serializable(package="keras_adaptive")
class NorMuon(WithCompanions):
    """NorMuon: Muon, in which every neuron's part of the step is divided by the root of its own second moment.

        m_t = momentum m_{t-1} + (1 - momentum) g_t                           m_0 = 0
        u_t = momentum m_t + (1 - momentum) g_t  if nesterov, else  m_t
        o_t = the matrix of u_t after `steps` of Muon's polynomials; coefficients, matmul_dtype and per_head are Muon's
        v_t = beta_2 v_{t-1} + (1 - beta_2) mean(o_t o_t) of every column     v_0 = 0
        H_t = o_t / (sqrt(v_t) + 1e-8)
        theta_t = theta_{t-1} - eta_t s H_t norm(o_t) / (norm(H_t) + 1e-8)
        s = sqrt(max(1, columns / rows))  with scale "original",  0.2 sqrt(max(rows, columns))  with "moonlight",
            sqrt(columns / rows)  with "spectral"
        where the rows of a kernel's matrix are its inputs and the columns its outputs, which are its last output_axes
        axes if that is given

        A companion takes the step of AdamW with companion_beta_1, companion_beta_2 and companion_epsilon,
        at companion_learning_rate_multiplier eta_t: see Muon.

    A column is the part of one neuron, in each of the matrices that Muon makes of a kernel. The second moment is not
    corrected for its start at zero. That cancels, because the step is made as long as Muon's.

    Slots: m, of the variable's shape; v, with one number for each column of each matrix. A companion has both in its
    own shape.

    Defaults: learning rate, momentum, beta_2, nesterov, steps, scale and the settings of the companions are those of
    the authors' code: 0.015 times 0.02 is its 3e-4 for AdamW. companion and output_axes are chosen here, as in `Muon`.

    Start with: Muon's learning rate: 0.02 (the authors' code), with a decay. The paper's step has the norm 0.2 eta
    sqrt(rows columns), which scale="moonlight" comes near: with it take AdamW's learning rate and a weight_decay of
    0.1.

    Pitfalls:

    - All pitfalls of `Muon` hold: name the output layer of a subclassed model with `companion_groups`, and tune
      companion_learning_rate_multiplier where much of a model is embeddings.
    - In `compare`, whose models are small, it is bad with the defaults and good after tuning.
    - A neuron that hardly has a gradient moves about as far as the others, since its part is divided by its own second
      moment.

    Differs from:

    - The authors' code: it multiplies in bfloat16 on every device, and its constants of 1e-8 are 1e-10.
    - microsoft/dion: the second moment is the same, but by default it has another polynomial and no Nesterov's
      momentum.
    - Emerging-Optimizers: averages over the shorter axis, so its v is the same only where outputs are at least as many
      as inputs.
    - `Muon`: no second moment. `Soap`: a second moment for every element, in the basis of eigenvectors.

    Source: Li et al., "NorMuon: making Muon more efficient and scalable", 2025, arXiv:2510.05491.

    Example:

    >>> optimizer = NorMuon(learning_rate=0.5)
    >>> theta = keras.Variable([[1.0, 0.0], [0.0, 1.0]])
    >>> optimizer.apply([keras.ops.convert_to_tensor([[2.0, 0.0], [0.0, -2.0]])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(1))
    [[0.4 0. ]
     [0.  1.6]]
    """

    learning_rate = rate(0.02)
    momentum = fraction(0.95, "decay rate of the moving average of the gradient")
    beta_2 = fraction(0.95, "decay rate of the second moment of each neuron")
    nesterov = flag(True, "use Nesterov's look-ahead along the new average")
    slots = ("m", Slot("v", shape=_of_neurons, nonnegative=True))

    def rule(self, h, theta, g, m, v):
        if h.variable.companion:
            return adam(h, g, m, v)
        m = h.momentum * m + (1 - h.momentum) * g
        u = h.momentum * m + (1 - h.momentum) * g if h.nesterov else m
        o = self.orthogonal(h, u)
        v = h.beta_2 * v + (1 - h.beta_2) * ops.sum(o * o, axis=-2) / o.shape[-2]
        H = o / (sqrt(v)[..., None, :] + 1e-8)
        H = H * (norm(o, (-2, -1)) / (norm(H, (-2, -1)) + 1e-8))
        return h.eta * h.variable.s * h.variable.view.back(H, like=g), (m, v)
