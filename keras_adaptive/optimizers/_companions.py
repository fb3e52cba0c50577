"""AdamW for the variables of a model that an optimizer of matrices leaves to it."""

import math

from keras.ops import sqrt

from keras_adaptive.core import checks
from keras_adaptive.core.fields import fraction, kind, nonnegative, one_of, sole_stabiliser
from keras_adaptive.groups.layers import EMBEDDING, OUTPUT
from keras_adaptive.optimizers import _matrices as matrices

# Fields of an optimizer with companions.
STEPS = kind(checks.count_to(100))(5, "how often the polynomial is applied")
SCALE = one_of(
    ("original", "moonlight"), "original", 'length of a step: "moonlight" moves every element about as much as AdamW'
)
LEARNING_RATE_MULTIPLIER = nonnegative(
    None,
    'what a companion\'s eta is multiplied by, in its weight decay too; None: 0.015 with scale "original", and 1 with '
    '"moonlight", whose eta is that of AdamW',
    static=True,
)
BETA_1 = fraction(0.9, "beta_1 of a companion")
BETA_2 = fraction(0.95, "beta_2 of a companion")
EPSILON = sole_stabiliser(1e-10, "stabiliser of a companion outside of the root, in units of the gradient")
COMPANION = kind(checks.auto_or(checks.flag))(
    "auto",
    "which variables are companions: all (True), none (False) or those that are no kernel of a hidden layer",
    'With "auto", the layers that own the variables tell. Biases, norms, embeddings and depthwise kernels are '
    "companions, and so are the kernels of the output layer if the model is Sequential or functional. Other models do "
    "not tell: name their output layer with `companion_groups`. A variable of no layer is a companion if it has one "
    "axis or more than two. With False a vector is a matrix of one row",
)
OUTPUT_AXES = kind(checks.auto_or(checks.count))(
    "auto",
    "how many of the last axes are a kernel's outputs, all others being its inputs",
    'With "auto", its layer says it, or a `Group` with inputs, outputs or batch',
)


# What a companion's learning rate is multiplied by, if the user does not say: with "moonlight" the learning rate is
# AdamW's.
MULTIPLIERS = {"original": 0.015, "moonlight": 1.0}


def about(role, h):
    """Whether a variable is a companion; if it is not, its matrices, and Muon's scale `s` of their step."""
    companion, view = h.companion, matrices.as_matrices(role, h.output_axes)
    if math.prod(role.shape) == 0 or companion is True or (companion == "auto" and _is_left(role, h)):
        multiplier = h.companion_learning_rate_multiplier
        multiplier = MULTIPLIERS[h.scale] if multiplier is None else multiplier
        return {"companion": True, "elementwise": True, "learning_rate_multiplier": multiplier}
    return {"companion": False, "view": view, "s": matrices.step_scale(h.scale, *view.lengths)}


def _is_left(role, h):
    """Whether AdamW is better for a variable, as the authors say: all but the matrices between embedding and output.

    A depthwise kernel is a matrix for each channel, of a single column if depth_multiplier is 1: a vector, for which an
    orthogonal matrix means no more than a norm. So it is left to AdamW too.
    """
    if role.is_vector or role.kind in (EMBEDDING, OUTPUT):
        return True
    if h.output_axes != "auto":
        return False
    return not role.is_matrix or (bool(role.batch) and min(role.matrices[:2]) == 1)


def adam(h, g, m, v):
    """The step of a companion, and its slots."""
    m = h.companion_beta_1 * m + (1 - h.companion_beta_1) * g
    v = h.companion_beta_2 * v + (1 - h.companion_beta_2) * g * g
    m_hat, v_hat = m / h.debias(h.companion_beta_1), v / h.debias(h.companion_beta_2)
    return h.eta * m_hat / (sqrt(v_hat) + h.companion_epsilon), (m, v)
