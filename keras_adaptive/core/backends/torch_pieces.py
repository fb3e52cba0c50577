"""What torch updates at once: some rows of a large variable, or many small variables as if they were one.

Operation by operation, what is computed for some rows is in the cache, and gone before the next; and small variables
take as many calls of torch as large ones.
"""

import math
from typing import Any

import torch
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

from keras_adaptive.core.math.rows import stretch


class Piece:
    """A variable, or some rows of one.

    Attributes:
        state: the variable's.
        bucket: its `Bucket` and device, or None.
        gradient, values: what `Transaction.one` takes.
    """

    def __init__(self, state, bucket, gradient, values):
        self.state, self.bucket, self.gradient, self.values = state, bucket, gradient, values

    def assign(self, new):
        """Takes new values, by role."""
        for role, value in self.values.items():
            if new[role] is not value:
                value.copy_(new[role])

    def flat(self):
        """The gradient and the values as vectors, or as rows of one scale each, if each element is updated by itself.

        Each has an axis at least. What is written to these values is written to the variable once `written` is told of
        which.
        """
        kind = self.bucket[0].kind
        rows_of_scales = min(value.numel() for value in self.values.values())

        def shaped(tensor):
            shape = (rows_of_scales, -1) if kind.scaled else (-1,)
            shape = shape if kind.shape is None else tensor.shape or (1,)
            # Of a view torch would note what it is a view of, and compile anew for each such shape.
            return tensor.reshape(shape).data

        return shaped(self.gradient.contiguous()), {role: shaped(value) for role, value in self.values.items()}

    def written(self, roles):
        """The flat values are the variable's own memory."""


class Joined(Piece):
    """All elements of several variables of one bucket, as if they were those of the first."""

    def __init__(self, pieces):
        first = pieces[0]
        self.targets = {role: [piece.values[role] for piece in pieces] for role in first.values}
        gradient = _flatten_dense_tensors([piece.gradient for piece in pieces])
        values = {role: _flatten_dense_tensors(targets) for role, targets in self.targets.items()}
        super().__init__(first.state, first.bucket, gradient, values)

    def assign(self, new):
        changed = {role: new[role] for role, value in self.values.items() if new[role] is not value}
        self.values.update(changed)
        self.written(changed)

    def flat(self):
        return self.gradient, self.values

    def written(self, roles):
        for role in roles:
            targets = self.targets[role]
            torch._foreach_copy_(targets, _unflatten_dense_tensors(self.values[role], targets))


def buckets(transaction, gradients, values):
    """For each variable its `Bucket` and its device; None where it is updated by itself in this step."""
    found: list[Any] = [None] * len(values)
    for bucket in transaction.buckets:
        for place in bucket.places if bucket.kind is not None else ():
            gradient = gradients[place]
            if gradient is not None and gradient.numel() and why_alone(values[place]) is None:
                found[place] = bucket, gradient.device
    return found


def why_alone(values) -> str | None:
    """Why a variable of a bucket is updated by itself, in words; None if it need not be.

    Args:
        values: of it and of what is stored for it, by role.
    """
    # Places of random bits in one row are counted in int32.
    if values["theta"].numel() >= 2**31:
        return "it has 2**31 elements or more"
    if not all(value.is_contiguous() for value in values.values()):
        return "it, or what is stored for it, is not contiguous in memory"
    return None


def pieces(transaction, buckets, gradients, values, most, whole):
    """The pieces, each made when the caller asks for it.

    Args:
        transaction: the transaction.
        buckets, gradients, values: along its states.
        most: how many elements a piece of some rows, or of several variables, may have.
        whole: buckets of which a variable is left as it is, however large.
    """
    small: dict = {}
    for state, bucket, gradient, of_one in zip(transaction.states, buckets, gradients, values, strict=True):
        piece, size = Piece(state, bucket, gradient, of_one), math.prod(state.shape)
        # To join what is larger would cost more than the calls that it saves.
        if bucket is not None and bucket[0].joins and size <= most / 4:
            small.setdefault(bucket, []).append(piece)
        elif size <= most or gradient is None or not transaction.divisible(state) or bucket in whole:
            yield piece
        else:
            yield from _of_rows(piece, max(1, most * state.shape[0] // size))
    for alike in small.values():
        for some in _up_to(most, alike):
            yield Joined(some) if len(some) > 1 else some[0]


def _of_rows(piece, length):
    """Pieces of that many rows."""
    for begin in range(0, piece.state.shape[0], length):
        end = begin + length
        # What has no axis is the same for all of them.
        values = {role: value[begin:end] if value.ndim else value for role, value in piece.values.items()}
        yield Piece(piece.state, None, stretch(piece.gradient, begin, end), values)


def _up_to(most, pieces):
    """Lists of pieces with at most so many elements together."""
    some: list[Piece] = []
    size = 0
    for piece in pieces:
        size += piece.gradient.numel()
        if size > most:
            yield some
            some, size = [], piece.gradient.numel()
        some.append(piece)
    yield some
