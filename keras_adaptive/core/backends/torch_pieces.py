"""Pieces that torch updates at once: some rows of a large variable, or many small variables as if they were one.

Operation by operation, the temporaries of some rows fit the cache; those of a large variable would not. And small
variables take as many calls of torch as large ones.
"""

import math
from typing import Any

import torch
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

from keras_adaptive.core.math.rows import stretch


class Piece:
    """A variable, or some rows of one.

    Attributes:
        state: the `VariableState`.
        bucket: its `Bucket` and device, or None.
        gradient, values: the arguments of `Transaction.one`.
    """

    def __init__(self, state, bucket, gradient, values):
        self.state, self.bucket, self.gradient, self.values = state, bucket, gradient, values

    def updated(self, transaction, clock, shared):
        """New values, by role."""
        return transaction.one(self.state, clock, shared, self.gradient, self.values)

    def assign(self, new):
        """Writes new values, by role."""
        for role, value in self.values.items():
            if new[role] is not value:
                value.copy_(new[role])

    def flat(self):
        """The gradient and the values as vectors, or as rows with one scale each, if elements are updated separately.

        Each tensor has at least one axis. Writes to these values reach the variable after a call of `written` with
        their roles.
        """
        kind = self.bucket[0].kind
        rows_of_scales = min(value.numel() for value in self.values.values())

        def shaped(tensor):
            shape = (rows_of_scales, -1) if kind.scaled else (-1,)
            shape = shape if kind.shape is None else tensor.shape or (1,)
            # For a view torch would note the base, and compile again for each shape of it.
            return tensor.reshape(shape).data

        return shaped(self.gradient.contiguous()), {role: shaped(value) for role, value in self.values.items()}

    def written(self, roles):
        """Does nothing: the flat values are the variable's memory."""


class Joined(Piece):
    """All elements of several variables of one bucket, as if they belonged to the first."""

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


class Stack:
    """Several variables for which the rule is called once: its operands are stacked, and so are its results."""

    state = bucket = None

    def __init__(self, pieces):
        self.pieces = pieces

    def updated(self, transaction, clock, shared):
        each = [(piece.state, piece.gradient, piece.values) for piece in self.pieces]
        states, gradients, values = zip(*each, strict=True)
        return transaction.some(states, clock, shared, gradients, values)

    def assign(self, new):
        for piece, of_one in zip(self.pieces, new, strict=True):
            piece.assign(of_one)


def stacks(transaction, gradients):
    """The places of the variables of each stack, all on one device."""
    for places in transaction.stacks(gradients):
        on_device: dict = {}
        for place in places:
            on_device.setdefault(gradients[place].device, []).append(place)
        yield from (some for some in on_device.values() if len(some) > 1)


def buckets(transaction, gradients, values):
    """For each variable its `Bucket` and its device; None if it is stacked or updated alone in this step."""
    found: list[Any] = [None] * len(values)
    stacked = {place for places in stacks(transaction, gradients) for place in places}
    for bucket in transaction.buckets:
        for place in bucket.places if bucket.kind is not None else ():
            gradient = gradients[place]
            together = gradient is not None and gradient.numel() and place not in stacked
            if together and why_alone(values[place]) is None:
                found[place] = bucket, gradient.device
    return found


def why_alone(values) -> str | None:
    """Why a variable of a bucket is updated alone; None if it need not be.

    Args:
        values: the values of the variable and of what is stored for it, by role.
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
        buckets, gradients, values: lists in the order of its states.
        most: maximum number of elements of a piece of some rows, or of several variables.
        whole: buckets whose variables are not split, however large.
    """
    small: dict = {}
    each = [Piece(*of_one) for of_one in zip(transaction.states, buckets, gradients, values, strict=True)]
    stacked: set[int] = set()
    for places in stacks(transaction, gradients):
        yield Stack([each[place] for place in places])
        stacked.update(places)
    for piece in [piece for place, piece in enumerate(each) if place not in stacked]:
        state, bucket, gradient, size = piece.state, piece.bucket, piece.gradient, math.prod(piece.state.shape)
        # Joining larger variables would cost more than the calls that it saves.
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
    """Pieces of `length` rows."""
    for begin in range(0, piece.state.shape[0], length):
        end = begin + length
        # A value without an axis is the same for all pieces.
        values = {role: value[begin:end] if value.ndim else value for role, value in piece.values.items()}
        yield Piece(piece.state, None, stretch(piece.gradient, begin, end), values)


def _up_to(most, pieces):
    """Lists of pieces with at most `most` elements together."""
    some: list[Piece] = []
    size = 0
    for piece in pieces:
        size += piece.gradient.numel()
        if size > most:
            yield some
            some, size = [], piece.gradient.numel()
        some.append(piece)
    yield some
