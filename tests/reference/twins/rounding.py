"""The random bits of stochastic rounding."""

import hashlib

import numpy as np


def rounding_bits(seed, index, role, t, shape):
    """The 16 random bits for each element, in uint32: rounding.py's definition has them in int32."""
    word = hashlib.sha256(f"{seed}/{index}/{role}".encode()).digest()
    first, second = (np.array([int.from_bytes(word[i : i + 4], "little")], "uint32") for i in (0, 4))

    def mixed(x, key):
        x = (x ^ x >> 16) * np.uint32(0x85EBCA6B)
        x = (x ^ x >> 13 ^ key) * np.uint32(0xC2B2AE35)
        return x ^ x >> 16

    start, key = mixed(first + np.uint32(t), np.uint32(0)), mixed(second + np.uint32(t), np.uint32(0))
    places = np.arange(np.prod(shape, dtype=int), dtype="uint32").reshape(shape)
    return (mixed(places + start, key) & np.uint32(0xFFFF)).astype("int64")
