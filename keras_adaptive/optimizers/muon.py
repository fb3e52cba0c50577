"""Muon."""

import keras
from keras import ops

from keras_adaptive import companions, matrices
from keras_adaptive.core import checks
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.slots import Slot


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Muon(AdaptiveOptimizer):
    """Muon: the momentum of a matrix, made nearly orthogonal; AdamW for the variables that are its companions.

        m_t = momentum m_{t-1} + (1 - momentum) g_t                           m_0 = 0
        u_t = momentum m_t + (1 - momentum) g_t  if nesterov, else  m_t
        o_t = the matrix of u_t, divided by norm(u_t) + 1e-7, after `steps` times
              A = X X^T,  X <- 3.4445 X + (-4.7750 A + 2.0315 A A) X
        theta_t = theta_{t-1} - eta_t s o_t
        s = sqrt(max(1, columns / rows))  with scale "original",  0.2 sqrt(max(rows, columns))  with "moonlight"
        where the columns of a kernel's matrix are its last output_axes axes

        Of a companion, with beta_1 for companion_beta_1 and so on:
        m_t = beta_1 m_{t-1} + (1 - beta_1) g_t                               m_0 = 0
        v_t = beta_2 v_{t-1} + (1 - beta_2) g_t g_t                           v_0 = 0
        m_hat_t = m_t / (1 - companion_beta_1^t),  v_hat_t = v_t / (1 - companion_beta_2^t)
        theta_t = theta_{t-1} - companion_learning_rate_multiplier eta_t m_hat_t / (sqrt(v_hat_t) + companion_epsilon)

    So the matrix goes from a layer's inputs to its outputs: (inputs, outputs) of a dense layer, (height width channels,
    filters) of a convolution, (inputs, heads size) of attention's projections to the heads and (heads size, outputs) of
    the one from them. Rows are counted in that matrix; the authors' code takes its scale from the two last axes of a
    convolution before it is flattened. The products have all digits of float32, where the authors' have those of
    bfloat16; but TensorFlow's on a TPU have them only after
    `tf.config.experimental.enable_tensor_float_32_execution(False)`. Keras's class leaves every kernel with more than
    two axes to AdamW, and has the output layer among the matrices.

    Args:
        learning_rate: eta: a real number of at least 0, a LearningRateSchedule or a callable. Default 0.02. With
            "moonlight" it is that of AdamW.
        momentum: weight of the last average of the gradient, in [0, 1). Default 0.95.
        nesterov: look ahead along the new average. Default True.
        steps: how often the polynomial is applied, at least 1. Default 5: singular values come into [0.68, 1.14], but
            those below a thousandth of the norm are left behind.
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

    Slots: m; of a companion v too; each of the variable's shape.

    Raises:
        ValueError, TypeError: for an argument out of range, of the wrong kind or unknown.

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

    hyperparameters = {
        "momentum": checks.fraction,
        "nesterov": checks.flag,
        "steps": checks.count,
        "scale": checks.one_of("original", "moonlight"),
        "output_axes": checks.auto_or(checks.count),
        **companions.HYPERPARAMETERS,
    }
    slots = ("m", Slot("v", when="companion", nonnegative=True))

    def __init__(
        self,
        learning_rate=0.02,
        momentum=0.95,
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
        return h.eta * h.s * ops.reshape(o, theta.shape), (m, v)
