"""Adaptive gradient clipping: clips each unit's gradient by the norm of the unit's weights."""

from keras import ops

from keras_adaptive.core.math.numerics import maximum, norm
from keras_adaptive.core.step.stage import Place, Stage
from keras_adaptive.groups.roles import OUTPUT


class AdaptiveClip(Stage):
    """g <- g min(1, limit max(||theta||, 1e-3) / max(||g||, 1e-6)), with norms of units.

    A unit is an output of a layer: the norms are over its inputs, or over all elements of a vector. For a variable
    without a known layer, the last axis is the outputs. The output layer is not clipped, as in the paper.

    Source: Brock, De, Smith and Simonyan, "High-Performance Large-Scale Image Recognition Without Normalization", ICML
    2021.
    """

    place, option, clips = Place.CLIP, "agc", True
    couples_elements = passes_again = needs_full_gradient = True

    def __init__(self, limit):
        self.limit = limit

    @classmethod
    def of(cls, optimizer):
        return None if optimizer.agc is None else cls(optimizer.agc)

    def applies_to(self, variable):
        return variable.role.kind != OUTPUT

    def reads(self, variable):
        """The axes of a unit."""
        role, ndim = variable.role, len(variable.shape)
        if role.is_matrix and not role.is_vector:
            return role.inputs
        return tuple(range(ndim if role.is_vector else ndim - 1))

    def on_gradient(self, step, theta, g):
        axes = self.reads(step.state)
        largest, length = self.limit * maximum(norm(theta, axes), 1e-3), norm(g, axes)
        return ops.where(length > largest, g * (largest / maximum(length, 1e-6)), g)
