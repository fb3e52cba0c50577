"""Linear algebra of the optimizers that treat a variable as a matrix, or multiply each of its axes by a matrix.

Functions for one axis work on many blocks at once. The blocks are a tensor of shape (blocks, *block), and the matrices
of one axis have the shape (blocks, length, length). A slot holds the matrices of all axes in one vector. Where several
variables are stacked, their blocks stand one after the other, and their slots are the rows of one tensor.
"""

import math
from dataclasses import dataclass
from functools import cached_property

from keras import ops

from keras_adaptive.core.backends import running as backends
from keras_adaptive.core.math.numerics import norm

# A tensor as blocks


def merged(shape, largest):
    """The shape without axes of length 1, with neighbours merged while the result is at most `largest` long."""
    axes: list[int] = []
    for length in shape:
        if axes and axes[-1] * length <= largest:
            axes[-1] *= length
        elif length != 1:
            axes.append(length)
    return tuple(axes)


@dataclass(frozen=True)
class Blocks:
    """How a tensor is cut into blocks of one shape. The last blocks of an axis are padded with zeros.

    Args:
        shape: of the tensor, which must not be empty. A scalar counts as a vector of one element.
        largest: the largest length of a block's axis.
        merge: whether neighbouring axes that together are at most that long are merged.
        tensors: how many tensors of that shape there are, along a first axis.
    """

    shape: tuple[int, ...]
    largest: int
    merge: bool = False
    tensors: int = 1

    @cached_property
    def axes(self):
        """The shape that is cut."""
        return (merged(self.shape, self.largest) if self.merge else self.shape) or (1,)

    @cached_property
    def block(self):
        return tuple(min(length, self.largest) for length in self.axes)

    @cached_property
    def grid(self):
        """How many blocks there are along each axis."""
        return tuple(-(-length // of_block) for length, of_block in zip(self.axes, self.block, strict=True))

    @property
    def count(self):
        return self.tensors * math.prod(self.grid)

    @property
    def order(self):
        return len(self.axes)

    def split(self, x):
        """The tensors, along a first axis, as blocks along a first axis."""
        tensors = x.shape[0]
        x = ops.reshape(x, (tensors, *self.axes))
        whole = [n * length for n, length in zip(self.grid, self.block, strict=True)]
        if whole != list(self.axes):
            ends = [(0, full - length) for full, length in zip(whole, self.axes, strict=True)]
            x = ops.pad(x, [(0, 0), *ends])
        x = ops.reshape(x, [tensors, *(n for pair in zip(self.grid, self.block, strict=True) for n in pair)])
        x = ops.transpose(x, [0, *range(1, 2 * self.order, 2), *range(2, 2 * self.order + 1, 2)])
        return ops.reshape(x, (-1, *self.block))

    def join(self, x):
        """The result of `split` as the tensors again."""
        x = ops.reshape(x, (-1, *self.grid, *self.block))
        places = [axis for place in range(1, self.order + 1) for axis in (place, self.order + place)]
        x = ops.transpose(x, [0, *places])
        x = ops.reshape(x, [-1, *(n * k for n, k in zip(self.grid, self.block, strict=True))])
        x = x[(slice(None), *(slice(length) for length in self.axes))]
        return ops.reshape(x, (-1, *self.shape))


# The matrices of all axes as one vector


def packed_shape(count, lengths):
    """The shape of the vector that holds `count` matrices for each of these lengths; None without lengths."""
    return (count * sum(length * length for length in lengths),) if lengths else None


def pack(matrices, like):
    """The matrices of each axis as the vector from which they were unpacked, or as a vector for each variable."""
    if not matrices:
        return 0.0
    return ops.concatenate([ops.reshape(matrix, (*like.shape[:-1], -1)) for matrix in matrices], axis=-1)


def unpack(vector, count, lengths):
    """The matrices of each axis, each of shape (blocks, length, length).

    Args:
        vector: of one variable, or those of several.
        count: of the matrices that each variable has for an axis.
        lengths: of the axes.
    """
    matrices, start = [], 0
    for length in lengths:
        end = start + count * length * length
        matrices.append(ops.reshape(vector[..., start:end], (-1, length, length)))
        start = end
    return matrices


def missing(matrices, like):
    """For each block, whether its matrices are all zero since none were computed yet; it broadcasts to the blocks."""
    zero = ops.all(ops.equal(matrices[0], 0.0), axis=(-2, -1))
    return ops.reshape(zero, (-1, *(1 for _ in like.shape[1:])))


# Each axis by a matrix


def unfolded(x, axis):
    """Blocks as matrices that have this axis as their rows."""
    x = ops.moveaxis(x, axis + 1, 1)
    return ops.reshape(x, (x.shape[0], x.shape[1], math.prod(x.shape[2:])))


def gram(x, axis):
    """For every block, the inner products of its slices along this axis."""
    rows = unfolded(x, axis)
    return backends.matmul(rows, transposed(rows))


def multiplied(x, axis, matrices):
    """The blocks, each multiplied along this axis by its matrix from the left."""
    moved = ops.moveaxis(x, axis + 1, 1)
    product = backends.matmul(matrices, unfolded(x, axis))
    return ops.moveaxis(ops.reshape(product, moved.shape), 1, axis + 1)


def reordered(x, axis, places):
    """The blocks, each with its entries along this axis taken from these places."""
    shape = [x.shape[0], *(1 for _ in x.shape[1:])]
    shape[axis + 1] = x.shape[axis + 1]
    places = ops.broadcast_to(ops.reshape(places, shape), x.shape)
    return ops.take_along_axis(x, places, axis=axis + 1)


def transposed(matrices):
    return ops.swapaxes(matrices, -1, -2)


def norms(x):
    """The Euclidean norm of every block, in a shape that broadcasts; squares neither overflow nor underflow."""
    return norm(x, tuple(range(1, len(x.shape))))


# Eigenvectors


def inverse_root(matrices, root, epsilon):
    """(matrix + epsilon I)^(-1/root) of symmetric matrices, first shifted if rounding made eigenvalues negative."""
    return backends.divided(lambda x: _inverse_root(x, root, epsilon), matrices)


def _inverse_root(matrices, root, epsilon):
    values, vectors = backends.eigh(matrices)
    lowest = ops.min(values, axis=-1, keepdims=True)
    values = values - ops.where(lowest < 0.0, lowest, ops.zeros_like(lowest)) + epsilon
    powers = ops.exp(ops.log(values) * (-1.0 / root))
    return backends.matmul(vectors * powers[..., None, :], transposed(vectors))


def eigenvectors(matrices):
    """The eigenvectors as columns, largest eigenvalue first."""
    _, vectors = backends.divided(backends.eigh, matrices)
    return ops.flip(vectors, axis=-1)


def power_iteration(matrices, vectors):
    """The next estimate of the eigenvectors, by descending eigenvalue, and their old places."""
    return backends.divided(_power_iteration, matrices, vectors)


def _power_iteration(matrices, vectors):
    products = backends.matmul(matrices, vectors)
    order = ops.argsort(-ops.sum(vectors * products, axis=-2), axis=-1)
    places = ops.broadcast_to(order[..., None, :], products.shape)
    vectors, _ = ops.qr(ops.take_along_axis(products, places, axis=-1))
    return vectors, order
