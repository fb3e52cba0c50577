"""Stochastic rounding to bfloat16, and the random bits for it.

A number between two neighbours is rounded up with the probability that makes the mean exact. Rounding to nearest loses
every change smaller than half of the spacing, which in bfloat16 is 1/512 of the number.

The bits are a hash. So all replicas and all backends have the same bits without a state to save, and one pass over the
memory computes, rounds and writes. They are computed in int32, which all backends and TPUs have.
"""

import hashlib
import math

import numpy as np
from keras import ops

from keras_adaptive.core.math.numerics import constant


def to_bfloat16(x, bits):
    """The tensor in bfloat16, each element rounded up or down at random; NaN and infinities do not change.

    The float32 is masked and then cast, which is exact. Taking its upper half directly would cost a TPU another pass.

    Args:
        x: a tensor of real numbers.
        bits: int32 of the same shape, uniform in [0, 2^16).
    """
    x = ops.cast(x, "float32")
    pattern = ops.bitwise_and(ops.view(x, "int32") + bits, constant(-(2**16), "int32"))
    # The bits must not be added to the pattern of a NaN.
    return ops.cast(ops.where(ops.isfinite(x), ops.view(pattern, "float32"), x), "bfloat16")


def to_nearest(role: str, shape):
    """Replaces `Noise`: the bits that round to the nearest number."""
    return constant(2**15, "int32")


class Noise:
    """The random bits of one variable in one update.

    Args:
        seed: a whole number of at least 0.
        index: the variable's place among the trained variables; it may be an integer tensor.
        t: the number of the update: an integer tensor.
        rows: the ids of the rows of the variable that are updated; None for all of them.
        length: the number of elements of a row of the variable; None if it is that of the tensors.
    """

    def __init__(self, seed: int, index: int, t, rows=None, length: int | None = None):
        self.seed, self.index, self.t, self.rows, self.length = seed, index, t, rows, length

    def __call__(self, role: str, shape):
        """int32 of this shape, uniform in [0, 2^16), for the tensor with this role."""
        words = np.frombuffer(hashlib.sha256(f"{self.seed}/{role}".encode()).digest()[:12], "<i4")
        of_variable = _mixed(ops.cast(self.index, "int32") + int(words[0]), 0)
        start, key = (_mixed(self.t + int(word), of_variable) for word in words[1:])
        # With only one key, all bits would be parts of the same sequence.
        places = _positions(shape, self.rows, self.length)
        return ops.bitwise_and(_mixed(places + start, key), constant(2**16 - 1, "int32"))


def _positions(shape, rows=None, row_length=None):
    """The place of each element in row-major order, in a shape that broadcasts to this one; only of `rows`, if given.

    It has one iota per axis: a single long one would have to be reshaped, and could not count beyond int32.
    """
    places = constant(0, "int32")
    for axis, length in enumerate(shape):
        of_rows = axis == 0 and rows is not None
        if length != 1 or of_rows:
            stride = row_length if of_rows and row_length else math.prod(shape[axis + 1 :])
            stride = stride if stride < 2**31 else int(np.array(stride).astype("int32"))
            along = [-1 if other == axis else 1 for other in range(len(shape))]
            counted = ops.cast(rows, "int32") if of_rows else ops.arange(length, dtype="int32")
            places = places + ops.reshape(counted, along) * stride
    return places


def _mixed(x, key):
    """MurmurHash3's 32-bit finalizer, with a key before its second multiplication: every bit depends on every bit."""
    x = (x ^ _shifted(x, 16)) * _signed(0x85EBCA6B)
    x = (x ^ _shifted(x, 13) ^ key) * _signed(0xC2B2AE35)
    return x ^ _shifted(x, 16)


def _shifted(x, places):
    """x shifted to the right, filled with zeros from the left."""
    arithmetic = ops.bitwise_right_shift(x, constant(places, "int32"))
    return ops.bitwise_and(arithmetic, constant(2 ** (32 - places) - 1, "int32"))


def _signed(pattern):
    return pattern - 2**32
