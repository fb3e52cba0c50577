"""What version 0.1.0 took a variable for: by its name, and each part of the package by a rule of its own.

An optimizer that it saved keeps that: the shapes and dtypes of its slots, and its steps.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from keras_adaptive.groups.layers import BIAS, EMBEDDING, KERNEL, NORM, complete, matrix

VERSION = "0.1.0"
SOURCE = f"version {VERSION}"


def legacy(path: str, shape: Sequence[int]) -> dict[str, Any]:
    """The role that optimizers saw, with each axis for itself where axes are treated one by one."""
    if _is_vector(path, shape):
        return complete({"kind": BIAS, "apart": tuple(range(len(shape))), "source": SOURCE})
    layer = ["", *path.split("/")][-2]
    outputs = 2 if len(shape) == 3 and layer in ("query", "key", "value") else 1
    axes = range(len(shape))
    return complete({**matrix(axes[:-outputs], axes[-outputs:]), "apart": tuple(axes), "source": SOURCE})


def seen_by(asker: str, path: str, shape: Sequence[int]) -> dict[str, Any]:
    """What this part of the package saw otherwise, as fields of a `Role`."""
    return _SEEN[asker](path, shape) if asker in _SEEN else {}


def _is_vector(path, shape):
    return len(shape) <= 1 or path.split("/")[-1].split(":")[0] in ("bias", "gamma", "beta", "scale")


def _embedding_if(is_embedding):
    return lambda path, shape: {"kind": EMBEDDING} if is_embedding(path) else {}


def _tiger(path, shape):
    """Steps in units of a row's root mean square, but for vectors."""
    return {"kind": EMBEDDING} if "embeddings" in path and not _is_vector(path, shape) else {}


def _adam_mini(path, shape):
    """Blocks: a scale as a whole, a row of an embedding, a head of queries and keys, and else an output neuron."""
    layer, name = ["", *path.lower().split(":")[0].split("/")][-2:]
    ndim, axes = len(shape), tuple(range(len(shape)))
    words = set(re.findall("[a-z]+", f"{layer} {name}")) if ndim == 3 else set()
    cut = max(ndim - (2 if words & {"query", "key", "value"} else 1), 0)
    said = {"kind": KERNEL, "inputs": axes[:cut], "outputs": axes[cut:]}
    if name == "bias":
        return said | {"kind": BIAS}
    if ndim <= 1:
        return said | ({"kind": NORM, "purpose": "scale"} if name in ("gamma", "scale") else {"kind": BIAS})
    if re.fullmatch("(?!reverse).*embeddings?", name):
        # A row had all axes but the first.
        return said | {"kind": EMBEDDING} | ({} if cut == 1 else {"inputs": (), "outputs": ()})
    return said | ({"heads": 1, "purpose": "query"} if words & {"query", "key"} else {})


_SEEN: dict[str, Callable[[str, Sequence[int]], dict[str, Any]]] = {
    "AdamMini": _adam_mini,
    "Tiger": _tiger,
    # Which slots were never in eight bits.
    "slots": _embedding_if(lambda path: any("embedding" in part.lower() for part in path.split("/")[-2:])),
    # By the pattern that was its default.
    "CowClip": _embedding_if(lambda path: re.search("embeddings$", path) is not None),
    # Of which tables it was noted which update each row's slots are of.
    "rows": _embedding_if(lambda path: path.split(":")[0].endswith("embeddings")),
}
