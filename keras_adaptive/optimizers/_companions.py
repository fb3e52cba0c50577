"""AdamW for the companions: the variables that an optimizer of matrices does not treat as matrices."""

import math

from keras.ops import sqrt

from keras_adaptive.core import checks
from keras_adaptive.core.backends import running as backends
from keras_adaptive.core.fields import flag, fraction, kind, nonnegative, one_of, sole_stabiliser
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.groups.layers import EMBEDDING, OUTPUT
from keras_adaptive.optimizers import _orthogonal as orthogonal
from keras_adaptive.optimizers import _views as views

# The default multiplier of a companion's learning rate. With "moonlight" the learning rate is already that of AdamW.
MULTIPLIERS = {"original": 0.015, "moonlight": 1.0, "spectral": 0.015}


class WithCompanions(AdaptiveOptimizer):
    """Base of the optimizers of matrices, which leave all other variables to AdamW."""

    stacks = True
    steps = kind(checks.count_to(100))(5, "number of times that a polynomial is applied")
    coefficients = kind(orthogonal.coefficients)(
        "quintic",
        "the polynomials that bring singular values to 1",
        '"quintic" is that of Muon\'s authors. "polar_express" is the table of the paper The Polar Express with its '
        "safety factor 1.01; it comes nearer to 1. Of a list each step takes the next one, and later steps the last",
        static=True,
    )
    matmul_dtype = one_of(
        ("auto", "float32", "bfloat16"),
        "auto",
        "dtype of the matrix products",
        'With "auto", the bfloat16 of the authors\' code where an accelerator multiplies it faster, and float32 '
        "elsewhere. float32 is float64 for float64 weights",
    )
    per_head = flag(
        False,
        "each head of attention has a separate matrix",
        "It holds for kernels of the attention layers of Keras and KerasHub that have an axis of heads. "
        '`Group("query|key", per_head=True)` asks for it there alone',
    )
    scale = one_of(
        ("original", "moonlight", "spectral"),
        "original",
        'length of the step of a matrix; with "moonlight" each element moves about as much as with AdamW, and with '
        '"spectral" the outputs change alike at every width',
    )
    companion_learning_rate_multiplier = nonnegative(
        None,
        "multiplier of eta for companions, also in their weight decay",
        'None is 1 with scale "moonlight", whose eta is already that of AdamW, and 0.015 with the others',
        static=True,
    )
    companion_beta_1 = fraction(0.9, "beta_1 of companions")
    companion_beta_2 = fraction(0.95, "beta_2 of companions")
    companion_epsilon = sole_stabiliser(1e-10, "stabiliser of companions outside of the root, in units of the gradient")
    companion = kind(checks.auto_or(checks.flag))(
        "auto",
        'which variables are companions: all (True), none (False), or all but the kernels of hidden layers ("auto")',
        'With "auto", the layer that owns a variable decides. Biases, norms, embeddings and depthwise kernels are '
        "companions. So are the kernels of the output layer, if the model is Sequential or functional. For other "
        "models, name the output layer with `companion_groups`. A variable without a layer is a companion if it has "
        "one axis or more than two. With False a vector is a matrix of one row",
    )
    output_axes = kind(checks.auto_or(checks.count))(
        "auto",
        "number of trailing axes that are a kernel's outputs; all other axes are its inputs",
        'With "auto", the layer decides, or a `Group` with inputs, outputs or batch',
    )

    def about(self, role, h):
        """Whether a variable is a companion. If not, its matrices, the scale `s` of their step, and their dtype."""
        companion, view = h.companion, views.as_matrices(role, h.output_axes, h.per_head)
        if math.prod(role.shape) == 0 or companion is True or (companion == "auto" and _is_left(role, h)):
            multiplier = h.companion_learning_rate_multiplier
            multiplier = MULTIPLIERS[h.scale] if multiplier is None else multiplier
            return {"companion": True, "elementwise": True, "learning_rate_multiplier": multiplier}
        halved = h.matmul_dtype == "bfloat16" or (h.matmul_dtype == "auto" and backends.multiplies_bfloat16())
        s = orthogonal.step_scale(h.scale, *view.lengths)
        return {"companion": False, "view": view, "s": s, "dtype": "bfloat16" if halved else None}

    def orthogonal(self, h, u):
        """The matrices of u, made nearly orthogonal."""
        return orthogonal.newton_schulz(h.variable.view.of(u), h.steps, h.coefficients, h.variable.dtype)


def _is_left(role, h):
    """Whether the authors leave a variable to AdamW: all but the matrices between embedding and output.

    A depthwise kernel is a matrix for each channel. If depth_multiplier is 1, that matrix is a single column, and
    making it orthogonal only normalizes it. So a depthwise kernel is left to AdamW too.
    """
    if role.is_vector or role.kind in (EMBEDDING, OUTPUT):
        return True
    if h.output_axes != "auto":
        return False
    return not role.is_matrix or (bool(role.batch) and min(role.matrices[:2]) == 1)


def adam(h, g, m, v):
    """The step of one companion variable, and its new slots."""
    m = h.companion_beta_1 * m + (1 - h.companion_beta_1) * g
    v = h.companion_beta_2 * v + (1 - h.companion_beta_2) * g * g
    m_hat, v_hat = m / h.debias(h.companion_beta_1), v / h.debias(h.companion_beta_2)
    return h.eta * m_hat / (sqrt(v_hat) + h.companion_epsilon), (m, v)
