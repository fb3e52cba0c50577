"""The random bits of stochastic rounding."""

import hashlib

import numpy as np


def rounding_bits(seed, index, role, t, shape):
    """The 16 random bits for each element, in uint32: rounding.py's definition has them in int32."""
    digest = hashlib.sha256(f"{seed}/{role}".encode()).digest()
    words = [np.array([int.from_bytes(digest[i : i + 4], "little")], "uint32") for i in (0, 4, 8)]

    def mixed(x, key):
        x = (x ^ x >> 16) * np.uint32(0x85EBCA6B)
        x = (x ^ x >> 13 ^ key) * np.uint32(0xC2B2AE35)
        return x ^ x >> 16

    of_variable = mixed(words[0] + np.uint32(index), np.uint32(0))
    start, key = (mixed(word + np.uint32(t), of_variable) for word in words[1:])
    places = np.arange(np.prod(shape, dtype=int), dtype="uint32").reshape(shape)
    return (mixed(places + start, key) & np.uint32(0xFFFF)).astype("int64")
