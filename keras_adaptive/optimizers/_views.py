"""A variable seen as matrices, or as tensors of which each axis is multiplied by a matrix."""

import math
from dataclasses import dataclass
from functools import cached_property

from keras import ops


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
        """The variable's values as (count, *lengths), or as `lengths` if there is one tensor.

        Axes of x before those of the variable stay as they are: several variables may be stacked along them.
        """
        stacked = tuple(x.shape[: len(x.shape) - len(self.shape)])
        x = _transposed(_shaped(x, (*stacked, *self.cut)), len(stacked), self.order)
        return _shaped(x, (*stacked, *self.leading, *self.lengths))

    def tensors(self, x):
        """All tensors of the variable, or of the stacked variables, along one first axis."""
        stacked = math.prod(x.shape[: len(x.shape) - len(self.shape)])
        return _shaped(self.of(x), (stacked * self.count, *self.lengths))

    def back(self, x, like):
        """The result of `of` or `tensors` in the shape of `like`, the variable or the stacked variables."""
        stacked = tuple(like.shape[: len(like.shape) - len(self.shape)])
        x = _shaped(x, (*stacked, *(self.cut[axis] for axis in self.order)))
        x = _transposed(x, len(stacked), [self.order.index(axis) for axis in range(len(self.order))])
        return _shaped(x, like.shape)


def _shaped(x, shape):
    return x if tuple(x.shape) == tuple(shape) else ops.reshape(x, shape)


def _transposed(x, stacked, order):
    """x with its axes in this order, behind the first `stacked` axes."""
    if order == sorted(order):
        return x
    return ops.transpose(x, [*range(stacked), *(stacked + axis for axis in order)])


def as_matrices(role, output_axes="auto", per_head=False):
    """A variable as matrices from a layer's inputs to its outputs; without them, its last axis is the columns.

    Args:
        role: of the variable.
        output_axes: the number of trailing axes that are the columns of one matrix, or "auto": as the role says.
        per_head: each head of attention has a separate matrix.
    """
    if output_axes == "auto" and role.is_matrix:
        heads = () if role.heads is None or not per_head else (role.heads,)
        groups = tuple(tuple(axis for axis in axes if axis not in heads) for axes in (role.inputs, role.outputs))
        # A kernel of which an axis of the matrix is nothing but the heads stays one matrix.
        return View(role.shape, groups, (*role.batch, *heads), role.parts) if all(groups) else as_matrices(role)
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
