"""How a slot is stored: in the dtype of the arithmetic, in bfloat16, or in codes of eight bits with scales."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_adaptive.core.math import numerics, rounding
from keras_adaptive.core.math.numerics import constant

Shape = tuple[int, ...]
# With at least this many codes per scale, the codes take nearly all of the memory.
SHORTEST_ROW = 64


class Part(NamedTuple):
    """One of the optimizer's variables in which a slot is stored."""

    dtype: str
    shape: Shape
    initial: float


@dataclass(frozen=True)
class Codec:
    """How a slot is stored: in the dtype of the arithmetic.

    Args:
        compute_dtype: the dtype of the arithmetic.
        nonnegative: the slot is never negative.
    """

    compute_dtype: str
    nonnegative: bool = False

    def parts(self, name: str, shape: Shape, initial: float = 0.0) -> dict[str, Part]:
        """The variables, by role, that a slot of this name, shape and initial value needs."""
        return {name: Part(self.compute_dtype, shape, initial)}

    def decode(self, name: str, values: Mapping[str, Any]):
        """The slot as the rule reads it, from the values of its variables by role."""
        return values[name]

    def encode(self, name: str, tensor, noise) -> dict[str, Any]:
        """The values of its variables by role, from the slot as the rule returns it."""
        return {name: tensor}


class BFloat16Codec(Codec):
    """Stored in bfloat16, always with stochastic rounding."""

    def parts(self, name, shape, initial=0.0):
        return {name: Part("bfloat16", shape, initial)}

    def decode(self, name, values):
        return ops.cast(values[name], self.compute_dtype)

    def encode(self, name, tensor, noise):
        return {name: rounding.to_bfloat16(tensor, noise(name, tensor.shape))}


class Int8Codec(Codec):
    """Stored in codes of eight bits, with stochastic rounding, and one scale for each row: its largest magnitude.

    A row is the last axis, or as many of the last axes as hold `SHORTEST_ROW` elements. In units of its scale,

        int8, codes k from 1 to 127:   ((k + 3) / 130)^4, and -k is the negative of that
        uint8, codes k from 1 to 255:  ((k + 7) / 262)^8, for a slot that is never negative

    Code 0 is 0. The powers preserve the relative size of small values: two neighbours differ by 3 % at the top and by a
    factor of 2.6 at the bottom. The root of the smallest second moment, 8.7e-7, is the smallest first moment. In uint8
    a positive value below the smallest code is stored as that code and not as 0. This makes a step that is divided by
    its root smaller, not larger. A row that holds an infinity or a NaN is NaN when it is read.
    """

    def parts(self, name, shape, initial=0.0):
        top = 255 if self.nonnegative else math.copysign(127, initial)
        return {
            name: Part("uint8" if self.nonnegative else "int8", shape, top if initial else 0),
            f"{name}_scale": Part(self.compute_dtype, _of_scales(shape), abs(initial)),
        }

    def decode(self, name, values):
        codes = ops.cast(values[name], self.compute_dtype)
        size = self._level(ops.abs(codes)) * values[f"{name}_scale"]
        return ops.where(codes < 0.0, -size, size)

    def encode(self, name, tensor, noise):
        shape = tuple(tensor.shape)
        scale = self._scale(tensor, shape)
        usable = ops.logical_and(ops.isfinite(scale), scale > 0.0)
        # A compiler multiplies by the reciprocal, which may count as zero for the largest numbers.
        shrunk = ops.where(scale > 1.0, constant(0.25, scale.dtype), 1.0)
        x = ops.where(usable, tensor, 0.0) * shrunk
        x = x / ops.where(usable, scale * shrunk, 1.0)
        size = ops.abs(x)
        first, last = (1.0, 254.0) if self.nonnegative else (0.0, 126.0)
        k = ops.floor(self._place(size))
        k = ops.where(k > last, constant(last, k.dtype), ops.where(k < first, constant(first, k.dtype), k))
        lower, upper = self._level(k), self._level(k + 1.0)
        # The bits are whole numbers; each stands for the middle of its interval.
        threshold = (ops.cast(noise(name, shape), self.compute_dtype) + 0.5) * 2.0**-16
        k = k + ops.cast(size - lower > threshold * (upper - lower), self.compute_dtype)
        # For a nonnegative slot, only 0 is stored as code 0.
        codes = ops.where(x > 0.0, k, 0.0) if self.nonnegative else ops.where(x < 0.0, -k, k)
        return {name: ops.cast(codes, "uint8" if self.nonnegative else "int8"), f"{name}_scale": scale}

    def _level(self, k):
        """The value of the code k, at least 0."""
        root = ops.square((k + 7.0) / 262.0) if self.nonnegative else (k + 3.0) / 130.0
        return ops.where(k > 0.0, ops.square(ops.square(root)), 0.0)

    def _place(self, size):
        """The inverse of `_level`, also between the codes."""
        root = ops.sqrt(ops.sqrt(size))
        return 262.0 * ops.sqrt(root) - 7.0 if self.nonnegative else 130.0 * root - 3.0

    def _scale(self, tensor, shape):
        """The largest magnitude of each row; infinite where the row holds an infinity or a NaN."""
        of_scales = _of_scales(shape)
        axes = tuple(axis for axis, length in enumerate(of_scales) if length != shape[axis])
        size = ops.where(ops.isfinite(tensor), ops.abs(tensor), constant(math.inf, self.compute_dtype))
        if 0 in shape:
            return ops.zeros(of_scales, self.compute_dtype)
        return ops.max(size, axis=axes, keepdims=True) if axes else size


def _of_scales(shape):
    """The shape of the scales: the slot's shape with 1 for the axes that share a scale."""
    rows = len(shape)
    while rows and (rows == len(shape) or math.prod(shape[rows:]) < SHORTEST_ROW):
        rows -= 1
    return (*shape[:rows], *[1] * (len(shape) - rows))


CODECS = {"float32": Codec, "bfloat16": BFloat16Codec, "int8": Int8Codec}


def recoded(codec: Codec, name: str, shape: Shape, saved: Mapping[str, Any]) -> dict[str, Any]:
    """A slot that was saved with any `slot_dtype`, in the form of this codec: arrays by role.

    To and from eight bits the slot is decoded, and rounded to the nearest code. Other dtypes are cast when they are
    assigned.

    Raises:
        ValueError: codes without their scales.
    """
    then, now = str(saved[name].dtype), codec.parts(name, shape)[name].dtype
    stored = Int8Codec(codec.compute_dtype, nonnegative=then == "uint8")
    scale = f"{name}_scale"
    of_slot = {role: saved[role] for role in (name, scale) if role in saved}
    if then == now or not {then, now} & {"int8", "uint8"}:
        return of_slot
    tensors = {role: numerics.constant(array, codec.compute_dtype) for role, array in of_slot.items()}
    tensor = tensors[name]
    if then in ("int8", "uint8"):
        expected, given = _of_scales(shape), getattr(saved.get(scale), "shape", None)
        if given != expected:
            raise ValueError(f"The saved {scale!r} must have shape {expected}. Received: {given}")
        tensor = stored.decode(name, tensors)
    encoded = codec.encode(name, tensor, rounding.to_nearest)
    return {role: np.asarray(ops.convert_to_numpy(part)) for role, part in encoded.items()}
