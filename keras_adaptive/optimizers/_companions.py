"""AdamW for the companions: the variables that an optimizer of matrices does not treat as matrices."""

import math

from keras.ops import sqrt

from keras_adaptive.core import checks
from keras_adaptive.core.fields import fraction, kind, nonnegative, one_of, sole_stabiliser
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.groups.layers import EMBEDDING, OUTPUT
from keras_adaptive.optimizers import _orthogonal as orthogonal
from keras_adaptive.optimizers import _views as views

# The default multiplier of a companion's learning rate. With "moonlight" the learning rate is already that of AdamW.
MULTIPLIERS = {"original": 0.015, "moonlight": 1.0}


class WithCompanions(AdaptiveOptimizer):
    """Base of the optimizers of matrices, which leave all other variables to AdamW."""

    stacks = True
    steps = kind(checks.count_to(100))(5, "number of times that the polynomial is applied")
    scale = one_of(
        ("original", "moonlight"),
        "original",
        'length of the step of a matrix; with "moonlight" each element moves about as much as with AdamW',
    )
    companion_learning_rate_multiplier = nonnegative(
        None,
        "multiplier of eta for companions, also in their weight decay",
        'None is 0.015 with scale "original", and 1 with "moonlight", whose eta is already that of AdamW',
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
        """Whether a variable is a companion. If not, its matrices and the scale `s` of their step."""
        companion, view = h.companion, views.as_matrices(role, h.output_axes)
        if math.prod(role.shape) == 0 or companion is True or (companion == "auto" and _is_left(role, h)):
            multiplier = h.companion_learning_rate_multiplier
            multiplier = MULTIPLIERS[h.scale] if multiplier is None else multiplier
            return {"companion": True, "elementwise": True, "learning_rate_multiplier": multiplier}
        return {"companion": False, "view": view, "s": orthogonal.step_scale(h.scale, *view.lengths)}


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
