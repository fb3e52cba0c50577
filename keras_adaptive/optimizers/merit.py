"""MERIT."""

import math

import keras
from keras import ops
from keras.ops import sqrt

from keras_adaptive.core.fields import fraction, rate, sole_stabiliser
from keras_adaptive.core.math.linalg import largest
from keras_adaptive.core.math.numerics import clip, maximum
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.state.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Merit(AdaptiveOptimizer):
    """MERIT: a trust ratio for every element, from the largest magnitudes of its row, its column and the matrix.

        m_t = beta_1 m_{t-1} + (1 - beta_1) g_t                               m_0 = 0
        v_t = beta_2 v_{t-1} + (1 - beta_2) g_t g_t                           v_0 = 0
        u_t = m_t / (sqrt(v_t) + epsilon) + weight_decay theta_{t-1}
        W = |theta_{t-1}|,  U = |u_t|
        row_i = max_j W_ij / max_j U_ij,  column_j = max_i W_ij / max_i U_ij,  whole = max_ij W_ij / max_ij U_ij
        R_ij = max(row_i, column_j, whole)
        theta_t = theta_{t-1} - eta_t clip(R u_t, -1, 1)

    R_ij is 1 where one of the four maxima of its row and its column is 0. The averages are not corrected for their
    start at zero. A variable of more than two axes is a matrix whose columns are its last axis. A variable of fewer
    axes has one ratio, R = max W / max U, and is decayed like the others. No element moves by more than eta.

    Slots: m and v, of the variable's shape.

    Defaults: all are those of the authors' code.

    Start with: a learning rate of 2e-4 with beta_2 0.95 and weight_decay 0.01, which is the authors' setting for GPT-2.
    With it GPT-2 Medium took batches of 6,000 sequences without a loss of quality. Add the warm-up and decay of AdamW.

    Pitfalls:

    - A vector that begins at zero, such as a bias, takes one step of eta. From then on its largest step is eta times
      its own largest element.
    - With any weight_decay above 0, a row of an embedding that is never looked up shrinks by at least eta of itself in
      each step. Give embeddings weight_decay 0 in a `Group`.
    - The authors scale and decay biases and norms too. `no_decay_on_vectors()` leaves them out of the decay.
    - It is published for language models in large batches only.

    Differs from:

    - The authors' code: the same numbers for matrices and vectors. Of a variable with more axes it takes only the first
      two for the maxima.
    - `Lamb`: one ratio of Euclidean norms for a variable, corrected averages, and no bound of an element's step.

    Source: Luo, Zheng, Qin, Zhu, Liu and You, ICML 2025, arXiv:2508.20577.

    Example:

    >>> optimizer = Merit(learning_rate=0.5)
    >>> theta = keras.Variable([[0.5, 0.25], [0.5, 0.0]])
    >>> optimizer.apply([keras.ops.convert_to_tensor([[4.0, -4.0], [4.0, 4.0]])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [[ 0.25  0.5 ]
     [ 0.25 -0.25]]
    """

    learning_rate = rate(0.001)
    beta_1 = fraction(0.9, "decay rate of the moving average of the gradient")
    beta_2 = fraction(0.999, "decay rate of the moving average of the squared gradient")
    epsilon = sole_stabiliser(1e-06, "stabiliser outside of the root, in units of the gradient")
    slots = ("m", Slot("v", nonnegative=True))
    decay = "rule"

    def rule(self, h, theta, g, m, v):
        m = h.beta_1 * m + (1 - h.beta_1) * g
        v = h.beta_2 * v + (1 - h.beta_2) * g * g
        u = m / (sqrt(v) + h.epsilon) + h.weight_decay * theta
        return h.eta * clip(self.ratio(ops.abs(theta), ops.abs(u)) * u, 1.0), (m, v)

    def ratio(self, W, U):
        """R, in the variable's shape, or one number for it."""
        if len(W.shape) <= 1:
            return quotient(largest(W), largest(U))[0]
        shape = W.shape
        W, U = (ops.reshape(x, (math.prod(shape[:-1]), shape[-1])) for x in (W, U))
        row, row_exists = quotient(largest(W, 1), largest(U, 1))
        column, column_exists = quotient(largest(W, 0), largest(U, 0))
        whole, _ = quotient(largest(W), largest(U))
        R = maximum(maximum(row, column), whole)
        return ops.reshape(ops.where(ops.logical_and(row_exists, column_exists), R, ops.ones_like(R)), shape)


def quotient(w, u):
    """w / u, or 1 where one of them is 0; and where both are not 0."""
    exists = ops.logical_not(ops.logical_or(ops.equal(w, 0), ops.equal(u, 0)))
    return ops.where(exists, w / ops.where(exists, u, ops.ones_like(u)), ops.ones_like(u)), exists
