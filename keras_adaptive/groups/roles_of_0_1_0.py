"""The roles of version 0.1.0, which went by names, with a different rule in each part of the package.

An optimizer that was saved by it keeps these roles, and so the shapes and dtypes of its slots, and its steps.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from keras_adaptive.groups.layers import BIAS, EMBEDDING, KERNEL, NORM, complete, matrix

VERSION = "0.1.0"
SOURCE = f"version {VERSION}"


def legacy(path: str, shape: Sequence[int]) -> dict[str, Any]:
    """The role that optimizers saw. Each axis is separate for optimizers that treat axes separately."""
    if _is_vector(path, shape):
        return complete({"kind": BIAS, "apart": tuple(range(len(shape))), "source": SOURCE})
    layer = ["", *path.split("/")][-2]
    outputs = 2 if len(shape) == 3 and layer in ("query", "key", "value") else 1
    axes = range(len(shape))
    return complete({**matrix(axes[:-outputs], axes[-outputs:]), "apart": tuple(axes), "source": SOURCE})


def seen_by(asker: str, path: str, shape: Sequence[int]) -> dict[str, Any]:
    """Where this part of the package saw another role: the fields of a `Role` that differ."""
    return _SEEN[asker](path, shape) if asker in _SEEN else {}


def _is_vector(path, shape):
    return len(shape) <= 1 or path.split("/")[-1].split(":")[0] in ("bias", "gamma", "beta", "scale")


def _embedding_if(is_embedding):
    return lambda path, shape: {"kind": EMBEDDING} if is_embedding(path) else {}


def _tiger(path, shape):
    """Steps in units of the root mean square of a row, except for vectors."""
    return {"kind": EMBEDDING} if "embeddings" in path and not _is_vector(path, shape) else {}


def _adam_mini(path, shape):
    """Blocks: all of a scale, a row of an embedding, a head of queries and keys, else an output neuron."""
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
    # Slots of these were never in eight bits.
    "slots": _embedding_if(lambda path: any("embedding" in part.lower() for part in path.split("/")[-2:])),
    # The default pattern of CowClip.
    "CowClip": _embedding_if(lambda path: re.search("embeddings$", path) is not None),
    # Tables that stored the last step of each row.
    "rows": _embedding_if(lambda path: path.split(":")[0].endswith("embeddings")),
}
