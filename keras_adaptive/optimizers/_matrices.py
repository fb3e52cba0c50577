"""Linear algebra of the optimizers that treat a variable as a matrix, or multiply each of its axes by a matrix.

Functions for one axis work on many blocks at once. The blocks are a tensor of shape (blocks, *block), and the matrices
of one axis have the shape (blocks, length, length). A slot holds the matrices of all axes in one vector.
"""

import math
from dataclasses import dataclass
from functools import cached_property

from keras import ops

from keras_adaptive.core.backends import running as backends
from keras_adaptive.core.math.numerics import norm

# Muon's quintic polynomial: singular values in (0, 1] come near 1 in 5 steps.
QUINTIC = (3.4445, -4.7750, 2.0315)


# A variable as matrices


@dataclass(frozen=True)
class View:
    """A variable seen as one tensor, or as several independent tensors.

    Args:
        shape: of the variable.
        groups: for each axis of the tensors, the axes of the variable that it consists of.
        batch: the axes of the variable along which each place has a separate tensor.
        parts: an axis, and how many tensors stand one after the other along it; or None.
    """

    shape: tuple[int, ...]
    groups: tuple[tuple[int, ...], ...]
    batch: tuple[int, ...] = ()
    parts: tuple[int, int] | None = None

    @cached_property
    def cut(self):
        """The shape with the axis of the parts split in two: the part, and the place in it."""
        if self.parts is None:
            return self.shape
        axis, count = self.parts
        return (*self.shape[:axis], count, self.shape[axis] // count, *self.shape[axis + 1 :])

    @cached_property
    def order(self):
        """The axes of `cut`: first those that count tensors, then those of each group."""
        part = len(self.shape) if self.parts is None else self.parts[0]
        moved = [[axis + (axis >= part) for axis in axes] for axes in (self.batch, *self.groups)]
        return [*([] if self.parts is None else [part]), *(axis for axes in moved for axis in axes)]

    @cached_property
    def lengths(self):
        """The shape of each tensor."""
        sizes = [math.prod(self.shape[axis] for axis in axes) for axes in self.groups]
        if self.parts is not None:
            axis, count = self.parts
            sizes = [n // count if axis in of_one else n for n, of_one in zip(sizes, self.groups, strict=True)]
        return tuple(sizes)

    @property
    def several(self):
        return bool(self.batch) or self.parts is not None

    @cached_property
    def count(self):
        """How many tensors there are."""
        return math.prod(self.shape[axis] for axis in self.batch) * (1 if self.parts is None else self.parts[1])

    @property
    def leading(self):
        """The leading axes before those of each tensor: none if there is only one tensor."""
        return (self.count,) if self.several else ()

    def of(self, x):
        """The variable's values as (count, *lengths), or as `lengths` if there is one tensor."""
        x = ops.reshape(x, self.cut) if self.parts is not None else x
        x = ops.transpose(x, self.order) if self.order != sorted(self.order) else x
        return _shaped(x, (*self.leading, *self.lengths))

    def tensors(self, x):
        """The variable's values as (count, *lengths), also if there is one tensor."""
        return _shaped(self.of(x), (self.count, *self.lengths))

    def back(self, x):
        """The result of `of` or `tensors` in the variable's shape again."""
        x = _shaped(x, [self.cut[axis] for axis in self.order])
        if self.order != sorted(self.order):
            x = ops.transpose(x, [self.order.index(axis) for axis in range(len(self.order))])
        return _shaped(x, self.shape)


def _shaped(x, shape):
    return x if tuple(x.shape) == tuple(shape) else ops.reshape(x, shape)


def as_matrices(role, output_axes="auto"):
    """A variable as matrices from a layer's inputs to its outputs; without them, its last axis is the columns.

    Args:
        role: of the variable.
        output_axes: the number of trailing axes that are the columns of one matrix, or "auto": as the role says.
    """
    if output_axes == "auto" and role.is_matrix:
        return View(role.shape, (role.inputs, role.outputs), role.batch, role.parts)
    axes = tuple(range(len(role.shape)))
    first = max(0, len(axes) - (1 if output_axes == "auto" else output_axes))
    return View(role.shape, (axes[:first], axes[first:]))


def by_axes(role):
    """A variable for optimizers that treat each axis of a tensor separately.

    A layer's inputs are one axis, however many axes the kernel has for them, and so are its outputs. Each spatial axis
    of a convolution stays an axis, and so does every axis of a variable without a layer.
    """
    if role.is_vector and not role.apart:
        return View(role.shape, (tuple(range(len(role.shape))),))
    groups: list[tuple[int, ...]] = [(axis,) for axis in role.apart]
    groups += [tuple(axis for axis in axes if axis not in role.apart) for axes in (role.inputs, role.outputs)]
    named = {axis for axes in (role.batch, *groups) for axis in axes}
    groups.append(tuple(axis for axis in range(len(role.shape)) if axis not in named))
    return View(role.shape, tuple(sorted(axes for axes in groups if axes)), role.batch, role.parts)


def step_scale(scale, rows, columns):
    """The factor of Muon's orthogonal matrix, for the scale "original" or "moonlight"."""
    if scale == "moonlight":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1.0, columns / rows))


def newton_schulz(u, steps):
    """u with all singular values near 1: the polynomial brings them into [0.68, 1.14], except for tiny ones.

    u is a matrix, or any number of matrices along leading axes.
    """
    a, b, c = QUINTIC
    tall = u.shape[-2] > u.shape[-1]
    x = transposed(u) if tall else u
    x = normalized(x)
    for _ in range(steps):
        gram = backends.matmul(x, transposed(x))
        x = a * x + backends.matmul(b * gram + c * backends.matmul(gram, gram), x)
    return transposed(x) if tall else x


def normalized(x):
    """x / (norm + 1e-7) of every matrix, although squares may overflow.

    x is first divided by its largest element. `norm` is not used: its branch on a CPU would keep XLA from computing the
    products of several matrices at once.
    """
    if 0 in x.shape:
        return x
    largest = ops.max(ops.abs(x), axis=(-2, -1), keepdims=True)
    unit = ops.where(largest > 0.0, largest, ops.ones_like(largest))
    x = x / unit
    return x / (ops.sqrt(ops.sum(ops.square(x), axis=(-2, -1), keepdims=True)) + 1e-7 / unit)


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
        """The tensors as (count, *block)."""
        x = ops.reshape(x, (self.tensors, *self.axes))
        whole = [n * length for n, length in zip(self.grid, self.block, strict=True)]
        if whole != list(self.axes):
            ends = [(0, full - length) for full, length in zip(whole, self.axes, strict=True)]
            x = ops.pad(x, [(0, 0), *ends])
        x = ops.reshape(x, [self.tensors, *(n for pair in zip(self.grid, self.block, strict=True) for n in pair)])
        x = ops.transpose(x, [0, *range(1, 2 * self.order, 2), *range(2, 2 * self.order + 1, 2)])
        return ops.reshape(x, (self.count, *self.block))

    def join(self, x):
        """The result of `split` as (tensors, *shape) again."""
        x = ops.reshape(x, (self.tensors, *self.grid, *self.block))
        places = [axis for place in range(1, self.order + 1) for axis in (place, self.order + place)]
        x = ops.transpose(x, [0, *places])
        x = ops.reshape(x, [self.tensors, *(n * k for n, k in zip(self.grid, self.block, strict=True))])
        x = x[(slice(None), *(slice(length) for length in self.axes))]
        return ops.reshape(x, (self.tensors, *self.shape))


# The matrices of all axes as one vector


def packed_shape(count, lengths):
    """The shape of the vector that holds `count` matrices for each of these lengths; None without lengths."""
    return (count * sum(length * length for length in lengths),) if lengths else None


def pack(matrices):
    return ops.concatenate([ops.reshape(matrix, (-1,)) for matrix in matrices]) if matrices else 0.0


def unpack(vector, count, lengths):
    """The matrices of each axis from the packed vector, each of shape (count, length, length)."""
    matrices, start = [], 0
    for length in lengths:
        end = start + count * length * length
        matrices.append(ops.reshape(vector[start:end], (count, length, length)))
        start = end
    return matrices


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
    values, vectors = backends.eigh(matrices)
    lowest = ops.min(values, axis=-1, keepdims=True)
    values = values - ops.where(lowest < 0.0, lowest, ops.zeros_like(lowest)) + epsilon
    powers = ops.exp(ops.log(values) * (-1.0 / root))
    return backends.matmul(vectors * powers[..., None, :], transposed(vectors))


def eigenvectors(matrices):
    """The eigenvectors as columns, largest eigenvalue first."""
    _, vectors = backends.eigh(matrices)
    return ops.flip(vectors, axis=-1)


def power_iteration(matrices, vectors):
    """The next estimate of the eigenvectors, by descending eigenvalue, and their old places."""
    products = backends.matmul(matrices, vectors)
    order = ops.argsort(-ops.sum(vectors * products, axis=-2), axis=-1)
    places = ops.broadcast_to(order[..., None, :], products.shape)
    vectors, _ = ops.qr(ops.take_along_axis(products, places, axis=-1))
    return vectors, order
