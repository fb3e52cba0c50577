"""SOAP."""

import math

import keras
from keras import ops
from keras.ops import sqrt

from keras_adaptive.core.fields import count, decay_rate, fraction, rate, sole_stabiliser
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.state.slots import Slot
from keras_adaptive.optimizers import _matrices as matrices
from keras_adaptive.optimizers import _views as views


def _of_axes(shape, h):
    view = h.variable.view
    return matrices.packed_shape(view.count, [view.lengths[axis] for axis in h.variable.axes])


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Soap(AdaptiveOptimizer):
    """SOAP: Adam in the basis of the eigenvectors of Shampoo's factors, which is renewed now and then.

        The first update computes the basis and takes no step: for every axis, L_1 = (1 - shampoo_beta) G G^T, where
        G is g_1 with that axis as its rows, and Q_1 = the eigenvectors of L_1. From the second update, with k = t - 1:
        m_t = beta_1 m_{t-1} + (1 - beta_1) g_t                               m_0 = m_1 = 0
        g'_t = g_t and m'_t = m_t, every axis multiplied by Q_{t-1}^T
        v_t = beta_2 v_{t-1} + (1 - beta_2) g'_t g'_t                         v_0 = v_1 = 0
        d_t = m'_t / (sqrt(v_t) + epsilon), every axis multiplied by Q_{t-1}
        theta_t = theta_{t-1} - eta_t sqrt(1 - beta_2^k) / (1 - beta_1^k) d_t
        L_t = shampoo_beta L_{t-1} + (1 - shampoo_beta) G G^T                 L_0 = 0
        Q_t = qr(L_t Q_{t-1}) if k is a multiple of frequency, else Q_{t-1}   Q_0 = 0
        For an axis longer than max_size, a vector and a scalar, Q is the identity.

    The axes are those of a layer's matrix. All inputs are one axis, however many axes the kernel has for them, and so
    are all outputs. Each spatial axis of a convolution stays an axis. Experts, the gates of an LSTM or a GRU and the
    groups of a convolution are separate tensors, each with its own bases.

    Before qr, the columns of L_t Q_{t-1} are sorted by diag(Q^T L Q) in descending order, and v_t with them.

    Slots: m and v, of the variable's shape; L and Q, each the factors or bases of all axes that have a basis, in one
    vector.

    Defaults: all are those of the authors' code.

    Start with: a learning rate of 3e-3 with weight_decay 0.01 (the authors' README), a warm-up and a decay. For
    language models Wen et al. (2025) tuned 4e-3 to 8e-3 with beta_2 0.99 and shampoo_beta 0.9 or 0.95.

    Pitfalls:

    - An axis of n stores two n x n matrices: an embedding of 10,000 words 800 MB. Give tables no basis, by a `Group`
      with max_size=1.
    - The first update takes no step; weight decay alone moves the weights. A test with a single update sees nothing.
    - The betas of 0.95 average over 20 updates only. Where gradients are noisy, take a beta_2 of 0.99, as Wen et al.
      did.
    - A larger frequency saves time but leaves the basis behind; 10 is the authors' choice.

    Differs from:

    - `pytorch_optimizer.SOAP`: the same numbers for matrices whose factors have full rank; elsewhere rounding decides
      on some eigenvectors.
    - The authors' code: decays after the step, not before it, and not in the first update.
    - `Shampoo`: multiplies by roots of the same factors, and grafts. `Muon`: no factors, by orthogonal steps. `Adam`:
      no change of basis.

    Source: Vyas et al., "SOAP: improving and stabilizing Shampoo using Adam", ICLR 2025, arXiv:2409.11321.

    Example:

    >>> optimizer = Soap(learning_rate=0.5, weight_decay=None)
    >>> theta = keras.Variable([[1.0, 2.0], [2.0, 1.0]])
    >>> for _ in range(2):
    ...     optimizer.apply([keras.ops.convert_to_tensor([[3.0, 0.0], [0.0, -1.0]])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [[0.5 2. ]
     [2.  1.5]]
    """

    learning_rate = rate(0.003)
    beta_1 = fraction(0.95, "decay rate of the moving average of the gradient")
    beta_2 = fraction(0.95, "decay rate of the moving average of the squared gradient in the basis")
    shampoo_beta = fraction(None, "decay rate of the factors; None: beta_2")
    epsilon = sole_stabiliser(1e-08, "stabiliser outside of the root, in units of the gradient")
    frequency = count(10, "number of updates between two computations of the basis")
    max_size = count(10000, "largest length of an axis that has a basis")
    weight_decay = decay_rate(0.01)
    # The first update only computes the bases.
    first_average = 2
    stacks = True
    slots = ("m", Slot("v", nonnegative=True), Slot("L", shape=_of_axes), Slot("Q", shape=_of_axes))

    def about(self, role, h):
        """The variable as tensors, and which of their axes have a basis."""
        view = views.by_axes(role)
        turned = len(view.lengths) > 1 and math.prod(role.shape) > 0
        axes = [axis for axis, n in enumerate(view.lengths) if turned and n <= h.max_size]
        return {"view": view, "axes": tuple(axes)}

    def rule(self, h, theta, g, m, v, L, Q):
        view, axes, packed = h.variable.view, h.variable.axes, L
        L, Q = (matrices.unpack(x, view.count, [view.lengths[axis] for axis in axes]) for x in (L, Q))
        G, m, v = (view.tensors(x) for x in (g, m, v))
        # A variable whose first gradient comes later has no basis before that.
        first = matrices.missing(Q, G) if axes else ops.equal(h.t, 1)

        def turned(x, by):
            """x with its axes multiplied by these matrices."""
            for axis, matrix in zip(axes, by, strict=True):
                x = matrices.multiplied(x, axis, matrix)
            return x

        to_basis = [matrices.transposed(matrix) for matrix in Q]
        m = ops.where(first, m, h.beta_1 * m + (1 - h.beta_1) * G)
        v = ops.where(first, v, h.beta_2 * v + (1 - h.beta_2) * turned(G, to_basis) ** 2)
        d = view.back(turned(turned(m, to_basis) / (sqrt(v) + h.epsilon), Q), like=g)
        # The term 0 g makes a first gradient that is not finite visible, although nothing moves.
        delta = h.eta * (sqrt(h.debias(h.beta_2)) / h.debias(h.beta_1) * d + 0.0 * g)

        beta = h.beta_2 if h.shampoo_beta is None else h.shampoo_beta
        L = [beta * old + (1 - beta) * matrices.gram(G, axis) for axis, old in zip(axes, L, strict=True)]
        if axes:
            v, Q = h.every(h.frequency, lambda: self.renewed(h, v, L, Q), (v, Q))
            Q = ops.cond(ops.any(first), lambda: self.begun(first, L, Q), lambda: Q)
        m, v = view.back(m, like=g), view.back(v, like=g)
        return delta, (m, v, matrices.pack(L, like=packed), matrices.pack(Q, like=packed))

    def begun(self, first, L, Q):
        """The bases, with the first one of every block that had none."""
        first = ops.reshape(first, (-1, 1, 1))
        pairs = zip(L, Q, strict=True)
        return [ops.where(first, matrices.eigenvectors(factor), basis) for factor, basis in pairs]

    def renewed(self, h, v, L, Q):
        """The new bases of the factors, and v in the order of their columns."""
        bases = []
        for axis, factor, basis in zip(h.variable.axes, L, Q, strict=True):
            basis, order = matrices.power_iteration(factor, basis)
            v = matrices.reordered(v, axis, order)
            bases.append(basis)
        return v, bases
