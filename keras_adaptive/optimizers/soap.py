"""SOAP."""

import math

import keras
from keras import ops
from keras.ops import sqrt

from keras_adaptive import matrices
from keras_adaptive.core import checks
from keras_adaptive.core.numerics import debias, maximum
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.slots import Slot


def _of_axes(shape, h):
    return matrices.packed_shape(1, [shape[axis] for axis in h["axes"]])


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Soap(AdaptiveOptimizer):
    """SOAP: Adam in the basis of the eigenvectors of Shampoo's factors, which is renewed now and then.

        The first update makes the basis and takes no step: L_1 = (1 - shampoo_beta) G G^T for every axis, G = g_1
        with that axis as its rows, and Q_1 = the eigenvectors of L_1. From the second on, with k = t - 1:
        m_t = beta_1 m_{t-1} + (1 - beta_1) g_t                               m_0 = m_1 = 0
        g'_t = g_t and m'_t = m_t, every axis multiplied by Q_{t-1}^T
        v_t = beta_2 v_{t-1} + (1 - beta_2) g'_t g'_t                         v_0 = v_1 = 0
        d_t = m'_t / (sqrt(v_t) + epsilon), every axis multiplied by Q_{t-1}
        theta_t = theta_{t-1} - eta_t sqrt(1 - beta_2^k) / (1 - beta_1^k) d_t
        L_t = shampoo_beta L_{t-1} + (1 - shampoo_beta) G G^T                 L_0 = 0
        Q_t = qr(L_t Q_{t-1}) if k is a multiple of frequency, else Q_{t-1}   Q_0 = 0
        An axis longer than max_size, a vector and a scalar keep the identity for Q.

    Before qr the columns of L_t Q_{t-1} are put in the falling order of diag(Q^T L Q), and v_t with them.

    Args:
        learning_rate: eta: a real number of at least 0, a LearningRateSchedule or a callable. Default 0.003.
        beta_1: weight of the last average of the gradient, in [0, 1). Default 0.95.
        beta_2: weight of the last average of its square in the basis, in [0, 1). Default 0.95.
        shampoo_beta: weight of the last factors, in [0, 1), or None for beta_2. Default None.
        epsilon: stabiliser outside of the root, above 0, in units of the gradient. Default 1e-08.
        frequency: after how many updates the basis is renewed, at least 1. Default 10.
        max_size: how long an axis is at most that has a basis, at least 1. Default 10000.
        weight_decay: lambda, decoupled. Default 0.01.
        **options: Keras's own arguments and `skip_nonfinite`: see `AdaptiveOptimizer`.

    Slots: m and v, of the variable's shape; L and Q, the factors and bases of all axes that have them in one vector.

    Raises:
        ValueError, TypeError: for an argument out of range, of the wrong kind or unknown.

    Source: Vyas et al., "SOAP: improving and stabilizing Shampoo using Adam", ICLR 2025.

    Example:

    >>> optimizer = Soap(learning_rate=0.5, weight_decay=None)
    >>> theta = keras.Variable([[1.0, 2.0], [2.0, 1.0]])
    >>> for _ in range(2):
    ...     optimizer.apply([keras.ops.convert_to_tensor([[3.0, 0.0], [0.0, -1.0]])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [[0.5 2. ]
     [2.  1.5]]
    """

    hyperparameters = {
        "beta_1": checks.fraction,
        "beta_2": checks.fraction,
        "shampoo_beta": checks.optional(checks.fraction),
        "epsilon": checks.sole_stabiliser,
        "frequency": checks.count,
        "max_size": checks.count,
    }
    slots = ("m", Slot("v", nonnegative=True), Slot("L", shape=_of_axes), Slot("Q", shape=_of_axes))

    def __init__(
        self,
        learning_rate=0.003,
        beta_1=0.95,
        beta_2=0.95,
        shampoo_beta=None,
        epsilon=1e-8,
        frequency=10,
        max_size=10000,
        weight_decay=0.01,
        **options,
    ):
        super().__init__(
            learning_rate,
            {"weight_decay": weight_decay, **options},
            beta_1=beta_1,
            beta_2=beta_2,
            shampoo_beta=shampoo_beta,
            epsilon=epsilon,
            frequency=frequency,
            max_size=max_size,
        )

    def about(self, path, shape, hyperparameters):
        """The axes that have a basis."""
        turned = len(shape) > 1 and math.prod(shape) > 0
        return {"axes": tuple(a for a, n in enumerate(shape) if turned and n <= hyperparameters["max_size"])}

    def rule(self, h, theta, g, m, v, L, Q):
        lengths = [theta.shape[axis] for axis in h.axes]
        # A variable whose first gradient comes later has no basis until then.
        first = ops.all(ops.equal(Q, 0.0)) if h.axes else ops.equal(h.t, 1)
        L, Q = matrices.unpack(L, 1, lengths), matrices.unpack(Q, 1, lengths)
        k = maximum(h.t - 1, ops.ones_like(h.t))

        def turned(x, by):
            """x with its axes multiplied by these matrices."""
            for axis, matrix in zip(h.axes, by, strict=True):
                x = matrices.multiplied(x[None], axis, matrix)[0]
            return x

        to_basis = [matrices.transposed(matrix) for matrix in Q]
        m = ops.where(first, m, h.beta_1 * m + (1 - h.beta_1) * g)
        v = ops.where(first, v, h.beta_2 * v + (1 - h.beta_2) * turned(g, to_basis) ** 2)
        d = turned(turned(m, to_basis) / (sqrt(v) + h.epsilon), Q)
        # A first gradient that is not finite shows, although nothing moves.
        delta = h.eta * (sqrt(debias(h.beta_2, k)) / debias(h.beta_1, k) * d + 0.0 * g)

        beta = h.beta_2 if h.shampoo_beta is None else h.shampoo_beta
        L = [beta * old + (1 - beta) * matrices.gram(g[None], axis) for axis, old in zip(h.axes, L, strict=True)]
        if h.axes:
            made = lambda: (v, [matrices.eigenvectors(factor) for factor in L])  # noqa: E731
            v, Q = ops.cond(first, made, lambda: h.every(h.frequency, lambda: self.renewed(h, v, L, Q), (v, Q)))
        return delta, (m, v, matrices.pack(L), matrices.pack(Q))

    def renewed(self, h, v, L, Q):
        """The bases of the factors, and v with its entries in their order."""
        bases = []
        for axis, factor, basis in zip(h.axes, L, Q, strict=True):
            basis, order = matrices.power_iteration(factor, basis)
            v = ops.take(v, order[0], axis=axis)
            bases.append(basis)
        return v, bases
