"""Gradients of some rows of a table."""

from typing import Any, NamedTuple

from keras import ops


class Rows(NamedTuple):
    """The gradient of some rows of a table, for an update of these rows alone.

    Attributes:
        ids: ids of the rows, sorted, each as often as it was looked up.
        values: for each id the sum over all occurrences of its row, so equal ids have equal values.
        first: 1 for the first occurrence of each row, 0 for the others.
    """

    ids: Any
    values: Any
    first: Any

    @property
    def once(self):
        """The values with each row once and zeros for repeats, for norms."""
        return self.values * along_rows(self.first, self.values)


class Norm(NamedTuple):
    """Replaces the `Rows` of a gradient where only their norm is needed."""

    norm: Any


def measured(gradient):
    """A tensor with the norm of the gradient, which may be dense, `Rows` or `Norm`."""
    if isinstance(gradient, Rows):
        return gradient.once
    return gradient.norm if isinstance(gradient, Norm) else gradient


def stretch(gradient, begin, end):
    """The gradient of the rows from `begin` to `end`, from a dense gradient."""
    values = gradient[begin:end]
    return Rows(ops.arange(begin, begin + len(values), dtype="int32"), values, ops.ones(len(values), values.dtype))


def along_rows(vector, tensor):
    """The vector, reshaped to be multiplied with the rows of the tensor."""
    return ops.reshape(vector, (-1, *[1] * (len(tensor.shape) - 1)))
