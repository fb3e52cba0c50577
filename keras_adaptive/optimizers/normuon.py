"""NorMuon."""

import keras
from keras import ops
from keras.ops import sqrt

from keras_adaptive import companions, matrices
from keras_adaptive.core import checks
from keras_adaptive.core.numerics import norm
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class NorMuon(AdaptiveOptimizer):
    """NorMuon: Muon, in which every neuron's part of the step is divided by the root of its own second moment.

        m_t = momentum m_{t-1} + (1 - momentum) g_t                           m_0 = 0
        u_t = momentum m_t + (1 - momentum) g_t  if nesterov, else  m_t
        o_t = the matrix of u_t after `steps` of Muon's polynomial
        v_t = beta_2 v_{t-1} + (1 - beta_2) mean(o_t o_t) of every column     v_0 = 0
        H_t = o_t / (sqrt(v_t) + 1e-8)
        theta_t = theta_{t-1} - eta_t s H_t norm(o_t) / (norm(H_t) + 1e-8)
        s = sqrt(max(1, columns / rows))  with scale "original",  0.2 sqrt(max(rows, columns))  with "moonlight"
        where the columns of a kernel's matrix are its last output_axes axes

        A companion has the step of AdamW with companion_beta_1, companion_beta_2 and companion_epsilon,
        at companion_learning_rate_multiplier eta_t: see Muon.

    A column is a neuron's, in the matrix that Muon makes of a kernel too. The second moment is not corrected for its
    start at zero, which cancels: the step is as long as Muon's.

    Args:
        learning_rate: eta: a real number of at least 0, a LearningRateSchedule or a callable. Default 0.02.
        momentum: weight of the last average of the gradient, in [0, 1). Default 0.95.
        beta_2: weight of the last second moment of a neuron, in [0, 1). Default 0.95.
        nesterov: look ahead along the new average. Default True.
        steps: how often the polynomial is applied, at least 1. Default 5.
        scale: "original" or "moonlight", which moves every element about as much as AdamW. Default "original".
        companion_learning_rate_multiplier: what a companion's eta is multiplied by, in its weight decay too, at least
            0. Default 0.015.
        companion_beta_1: as in AdamW, in [0, 1). Default 0.9.
        companion_beta_2: as in AdamW, in [0, 1). Default 0.95.
        companion_epsilon: stabiliser outside of the root, above 0, in units of the gradient. Default 1e-10.
        companion: which variables are companions: all (True), those with at most one axis or the name bias, gamma, beta
            or scale ("auto"), or none (False; a vector is a matrix of one row). `companion_groups` says it of
            embeddings and output layers. Default "auto".
        output_axes: how many of the last axes are a kernel's outputs, at least 1, or "auto": 2 of a kernel with three
            axes in a layer that is called query, key or value, else 1. Default "auto".
        **options: Keras's own arguments and `skip_nonfinite`: see `AdaptiveOptimizer`.

    Slots: m, of the variable's shape; v, with one number for each column; of a companion both are of its shape.

    Raises:
        ValueError, TypeError: for an argument out of range, of the wrong kind or unknown.

    Source: Li et al., "NorMuon: making Muon more efficient and scalable", arXiv 2510.05491, 2025.

    Example:

    >>> optimizer = NorMuon(learning_rate=0.5)
    >>> theta = keras.Variable([[1.0, 0.0], [0.0, 1.0]])
    >>> optimizer.apply([keras.ops.convert_to_tensor([[2.0, 0.0], [0.0, -2.0]])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(1))
    [[0.4 0. ]
     [0.  1.6]]
    """

    hyperparameters = {
        "momentum": checks.fraction,
        "beta_2": checks.fraction,
        "nesterov": checks.flag,
        "steps": checks.count,
        "scale": checks.one_of("original", "moonlight"),
        "output_axes": checks.auto_or(checks.count),
        **companions.HYPERPARAMETERS,
    }
    slots = ("m", Slot("v", shape=lambda shape, h: shape if h["companion"] else (h["columns"],), nonnegative=True))

    def __init__(
        self,
        learning_rate=0.02,
        momentum=0.95,
        beta_2=0.95,
        nesterov=True,
        steps=5,
        scale="original",
        companion_learning_rate_multiplier=0.015,
        companion_beta_1=0.9,
        companion_beta_2=0.95,
        companion_epsilon=1e-10,
        companion="auto",
        output_axes="auto",
        **options,
    ):
        super().__init__(
            learning_rate,
            options,
            momentum=momentum,
            beta_2=beta_2,
            nesterov=nesterov,
            steps=steps,
            scale=scale,
            companion_learning_rate_multiplier=companion_learning_rate_multiplier,
            companion_beta_1=companion_beta_1,
            companion_beta_2=companion_beta_2,
            companion_epsilon=companion_epsilon,
            companion=companion,
            output_axes=output_axes,
        )

    def about(self, path, shape, hyperparameters):
        return companions.about(path, shape, hyperparameters)

    def rule(self, h, theta, g, m, v):
        if h.companion:
            return companions.adam(h, g, m, v)
        m = h.momentum * m + (1 - h.momentum) * g
        u = h.momentum * m + (1 - h.momentum) * g if h.nesterov else m
        o = matrices.newton_schulz(matrices.as_matrix(u, h.columns), h.steps)
        v = h.beta_2 * v + (1 - h.beta_2) * ops.sum(o * o, axis=0) / o.shape[0]
        H = o / (sqrt(v) + 1e-8)
        H = H * (norm(o) / (norm(H) + 1e-8))
        return h.eta * h.s * ops.reshape(H, theta.shape), (m, v)
