"""Gradient centralization: subtracts from the gradient of each output its mean."""

from keras_adaptive.core.math.numerics import mean
from keras_adaptive.core.step.stage import Place, Stage
from keras_adaptive.groups.roles import EMBEDDING


class Centralize(Stage):
    """g <- g - mean(g over the inputs of each output of a layer).

    For a variable without a known layer, the last axis is the outputs. Vectors and embeddings are not centralized: the
    inputs of an embedding are its rows, and most rows have no gradient. With coupled weight decay the penalty is part
    of the gradient, as in the authors' code.

    Source: Yong, Huang, Hua and Zhang, "Gradient Centralization: A New Optimization Technique for Deep Neural
    Networks", ECCV 2020.
    """

    place, option = Place.GRADIENT, "centralize"
    couples_elements = passes_again = needs_full_gradient = True

    @classmethod
    def of(cls, optimizer):
        return cls() if optimizer.centralize else None

    def applies_to(self, variable):
        return not variable.role.is_vector and variable.role.kind != EMBEDDING

    def reads(self, variable):
        """The axes of the inputs."""
        return variable.role.inputs if variable.role.is_matrix else tuple(range(len(variable.shape) - 1))

    def on_gradient(self, step, theta, g):
        return g - mean(g, self.reads(step.state), keepdims=True)
