"""Linear algebra of the optimizers that treat a variable as a matrix, or turn each of its axes by a matrix.

What is done axis by axis is done to many blocks at once: a tensor of shape (blocks, *block), and for each axis of the
block matrices of shape (blocks, length, length). A slot holds the matrices of all axes in one vector.
"""

import math
from dataclasses import dataclass
from functools import cached_property

from keras import ops

from keras_adaptive.core import backends
from keras_adaptive.core.numerics import norm

# Attention's projections to the heads have kernels of shape (inputs, heads, size of a head).
TO_HEADS = ("query", "key", "value")
# Muon's quintic polynomial: singular values in (0, 1] come near 1 in 5 steps.
QUINTIC = (3.4445, -4.7750, 2.0315)


# A variable as one matrix


def columns(path, shape, output_axes):
    """How many columns a variable has as a matrix from its inputs to its outputs, which are its last axes.

    Args:
        path: of the variable.
        shape: of the variable; a vector is one row.
        output_axes: how many of the axes are outputs; "auto": one, but two of a kernel with three axes whose layer is
            named as attention's projections to the heads are.
    """
    if output_axes == "auto":
        layer = path.split("/")[-2:-1]
        output_axes = 2 if len(shape) == 3 and layer and layer[0] in TO_HEADS else 1
    return math.prod(shape[max(0, len(shape) - output_axes) :])


def as_matrix(x, columns):
    return ops.reshape(x, (math.prod(x.shape) // columns, columns))


def step_scale(scale, shape, columns):
    """What Muon multiplies an orthogonal matrix by: "original" or "moonlight"."""
    rows = math.prod(shape) // columns
    if scale == "moonlight":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1.0, columns / rows))


def newton_schulz(u, steps):
    """u with all singular values near 1: the polynomial brings them into [0.68, 1.14], tiny ones are left behind."""
    a, b, c = QUINTIC
    tall = u.shape[0] > u.shape[1]
    x = ops.transpose(u) if tall else u
    x = normalized(x)
    for _ in range(steps):
        gram = backends.matmul(x, ops.transpose(x))
        x = a * x + backends.matmul(b * gram + c * backends.matmul(gram, gram), x)
    return ops.transpose(x) if tall else x


def normalized(x):
    """x / (norm + 1e-7), of a matrix whose squares may overflow.

    It is first divided by its largest element: the branch that `norm` has on a CPU would keep XLA from computing the
    products of several matrices at once.
    """
    if 0 in x.shape:
        return x
    largest = ops.max(ops.abs(x))
    unit = ops.where(largest > 0.0, largest, ops.ones_like(largest))
    x = x / unit
    return x / (ops.sqrt(ops.sum(ops.square(x))) + 1e-7 / unit)


# A tensor as blocks


def merged(shape, largest):
    """The shape without axes of length 1, and neighbours made one axis as long as that is not longer than `largest`."""
    axes: list[int] = []
    for length in shape:
        if axes and axes[-1] * length <= largest:
            axes[-1] *= length
        elif length != 1:
            axes.append(length)
    return tuple(axes)


@dataclass(frozen=True)
class Blocks:
    """How a tensor is cut into blocks of one shape. The last ones of an axis are filled up with zeros.

    Args:
        shape: of the tensor, which has elements. A scalar counts as a vector of one.
        largest: how long a block's axis is at most.
        merge: whether neighbouring axes that are not longer than that together are made one.
    """

    shape: tuple[int, ...]
    largest: int
    merge: bool = False

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
        return math.prod(self.grid)

    @property
    def order(self):
        return len(self.axes)

    def split(self, x):
        """The tensor as (count, *block)."""
        x = ops.reshape(x, self.axes)
        whole = [n * length for n, length in zip(self.grid, self.block, strict=True)]
        if whole != list(self.axes):
            x = ops.pad(x, [(0, full - length) for full, length in zip(whole, self.axes, strict=True)])
        x = ops.reshape(x, [n for pair in zip(self.grid, self.block, strict=True) for n in pair])
        x = ops.transpose(x, [*range(0, 2 * self.order, 2), *range(1, 2 * self.order, 2)])
        return ops.reshape(x, (self.count, *self.block))

    def join(self, x):
        """What `split` made, as the tensor again."""
        x = ops.reshape(x, (*self.grid, *self.block))
        x = ops.transpose(x, [axis for place in range(self.order) for axis in (place, self.order + place)])
        x = ops.reshape(x, [n * length for n, length in zip(self.grid, self.block, strict=True)])
        return ops.reshape(x[tuple(slice(length) for length in self.axes)], self.shape)


# The matrices of all axes as one vector


def packed_shape(count, lengths):
    """Of the vector that holds, for axes of these lengths, `count` matrices each; None for no axis."""
    return (count * sum(length * length for length in lengths),) if lengths else None


def pack(matrices):
    return ops.concatenate([ops.reshape(matrix, (-1,)) for matrix in matrices]) if matrices else 0.0


def unpack(vector, count, lengths):
    """What was packed: for each axis its matrices, of shape (count, length, length)."""
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
    """Of every block the inner products of its slices along this axis."""
    rows = unfolded(x, axis)
    return backends.matmul(rows, transposed(rows))


def multiplied(x, axis, matrices):
    """Blocks, along this axis multiplied by the block's matrix from the left."""
    moved = ops.moveaxis(x, axis + 1, 1)
    product = backends.matmul(matrices, unfolded(x, axis))
    return ops.moveaxis(ops.reshape(product, moved.shape), 1, axis + 1)


def transposed(matrices):
    return ops.swapaxes(matrices, -1, -2)


def norms(x):
    """The Euclidean norm of every block, of a shape that multiplies blocks; squares neither overflow nor vanish."""
    return norm(x, tuple(range(1, len(x.shape))))


# Eigenvectors


def inverse_root(matrices, root, epsilon):
    """(matrix + epsilon I)^(-1/root) of symmetric matrices; what rounding made negative is shifted to 0."""
    values, vectors = backends.eigh(matrices)
    lowest = ops.min(values, axis=-1, keepdims=True)
    values = values - ops.where(lowest < 0.0, lowest, ops.zeros_like(lowest)) + epsilon
    powers = ops.exp(ops.log(values) * (-1.0 / root))
    return backends.matmul(vectors * powers[..., None, :], transposed(vectors))


def eigenvectors(matrices):
    """As columns, that of the largest eigenvalue first."""
    _, vectors = backends.eigh(matrices)
    return ops.flip(vectors, axis=-1)


def power_iteration(matrices, vectors):
    """The next estimate of the eigenvectors, in the falling order of their eigenvalues, and the old places of them."""
    products = backends.matmul(matrices, vectors)
    order = ops.argsort(-ops.sum(vectors * products, axis=-2), axis=-1)
    places = ops.broadcast_to(order[..., None, :], products.shape)
    vectors, _ = ops.qr(ops.take_along_axis(products, places, axis=-1))
    return vectors, order
