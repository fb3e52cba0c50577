"""What a variable is: the one answer for all that treat embeddings, kernels, biases and norms differently.

The layer that owns a variable decides, not its name: names are the last resort, and `Role.source` says so.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras

from keras_adaptive.core.state.matching import match
from keras_adaptive.groups import layers, models, owners, roles_of_0_1_0
from keras_adaptive.groups.layers import BIAS, EMBEDDING, KERNEL, KINDS, NORM, OTHER, OUTPUT, complete
from keras_adaptive.groups.roles_of_0_1_0 import VERSION as VERSION_0_1

__all__ = ["BIAS", "EMBEDDING", "KERNEL", "KINDS", "NORM", "OTHER", "OUTPUT", "Role", "decide"]

Axes = tuple[int, ...]
# What is stored of a role with the optimizer; path and shape stand beside it.
FIELDS = ("kind", "inputs", "outputs", "batch", "apart", "parts", "heads", "purpose", "source")


@dataclass(frozen=True)
class Role:
    """What one variable is.

    Attributes:
        path, shape: of the variable.
        kind: "embedding", "output" (the kernel of a model's output layer), "bias", "norm" (scales and offsets),
            "kernel", or "other": what is no matrix, or not known to be one.
        inputs, outputs: the axes of a layer's inputs and of its outputs, which are the rows and the columns of its
            matrix. Empty for what is no matrix.
        batch: axes along which each place has a matrix of its own, such as the experts of a mixture.
        apart: those of the others that are axes for themselves to optimizers which treat each axis of a tensor by
            itself, such as the places of a convolution. The other inputs are one axis to them, and the other outputs.
        parts: an axis and how many matrices stand one after the other along it, such as the gates of an LSTM; or None.
        heads: the axis that is the heads of attention, or None.
        purpose: "query", "key" or "value" for a kernel of attention with heads, "scale" or "offset" for what a norm
            multiplies by or adds; or None.
        source: what says so, in words.
    """

    path: str
    shape: Axes
    kind: str = OTHER
    inputs: Axes = ()
    outputs: Axes = ()
    batch: Axes = ()
    apart: Axes = ()
    parts: tuple[int, int] | None = None
    heads: int | None = None
    purpose: str | None = None
    source: str = ""

    @classmethod
    def of(cls, decision: Mapping[str, Any]) -> "Role":
        """The role of a variable as it was decided; JSON makes lists of tuples."""
        stored: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in decision["role"].items()}
        return cls(decision["path"], tuple(decision["shape"]), **stored)

    @property
    def stored(self) -> dict[str, Any]:
        """What `decide` returns of it."""
        return {name: getattr(self, name) for name in FIELDS}

    def seen_by(self, *askers: str) -> "Role":
        """The role for these parts of the package, of which the first that says anything counts.

        It is the same for all, but in version 0.1.0 they disagreed.
        """
        if self.source != roles_of_0_1_0.SOURCE:
            return self
        views = (roles_of_0_1_0.seen_by(asker, self.path, self.shape) for asker in askers)
        return replace(self, **next(filter(None, views), {}))

    @property
    def is_matrix(self) -> bool:
        return bool(self.inputs and self.outputs)

    @property
    def is_vector(self) -> bool:
        """Whether it counts as a vector, however many axes the layer gives it."""
        return len(self.shape) <= 1 or self.kind in (BIAS, NORM)

    @property
    def matrices(self) -> tuple[int, int, int] | None:
        """The rows and columns of its matrices, and how many there are; None for what is no matrix."""
        if not self.is_matrix:
            return None
        rows, columns, count = (self._size(axes) for axes in (self.inputs, self.outputs, self.batch))
        return rows, columns, count * (self.parts[1] if self.parts else 1)

    def _size(self, axes):
        size = math.prod(self.shape[axis] for axis in axes)
        return size // self.parts[1] if self.parts and self.parts[0] in axes else size


def decide(variables: Sequence[Any], described: Sequence[dict], said: Sequence[dict], known) -> list[dict]:
    """The "path", "shape" and "role" of each variable, the role as a dictionary of `FIELDS`.

    Args:
        variables: Keras's variables, or the backend's own.
        described: for each its "path" and "shape".
        said: for each what its groups say together, of which "role", "inputs", "outputs" and "batch" count here.
        known: what this function returned before the optimizer was saved, which stands for those variables;
            VERSION_0_1 for an optimizer that was saved by that version, whose matrices it keeps; or None.

    Raises:
        ValueError: for axes of a group that do not fit its variable.
    """
    decided = [{"path": one["path"], "shape": list(one["shape"])} for one in described]
    if known == VERSION_0_1:
        return [one | {"role": roles_of_0_1_0.legacy(one["path"], one["shape"])} for one in decided]
    saved, current = ([(one["path"], tuple(one["shape"])) for one in side] for side in (known or [], decided))
    stored = {new: known[old]["role"] for old, new in match(saved, current).pairs}
    if len(stored) < len(decided):
        found = owners.find(variables, [path for path, _ in current])
        outputs = models.outputs_of(found.models, variables)
    for place, (one, of_one) in enumerate(zip(decided, said, strict=True)):
        if place in stored:
            one["role"] = stored[place]
        else:
            one["role"] = _stated(of_one, one, _found(found, place, one, outputs, variables[place]))
    return decided


# What the layers say


def _inner(owners):
    """Without the wrappers, such as SpectralNormalization, that hold what the layer inside of them owns."""
    layers_inside = {id(layer.layer) for layer, _ in owners if isinstance(layer, keras.layers.Wrapper)}
    inner = [(layer, attribute) for layer, attribute in owners if not isinstance(layer, keras.layers.Wrapper)]
    return inner if any(id(layer) in layers_inside for layer, _ in inner) else owners


def _found(found, place, described, outputs, variable):
    """The role as the owners say, or else the name or the shape."""
    path, shape = described["path"], tuple(described["shape"])
    said: dict[tuple, dict] = {}
    for layer, attribute in _inner(found.of_variable.get(place, ())):
        role = layers.of_layer(layer, attribute, shape, variable)
        if role is not None:
            role = complete(role)
            parents = found.parents.get(id(layer), ())
            if role["kind"] == KERNEL and role["parts"] is None:
                role["parts"] = layers.fused(parents, role)
            role |= layers.of_attention(parents, role, shape)
            said[tuple(role[name] for name in FIELDS if name not in ("heads", "purpose", "source"))] = role
    if len(said) > 1:
        sources = " and ".join(sorted(role["source"] for role in said.values()))
        return complete({"kind": OTHER, "source": f"unknown: {sources}, which hold it, disagree"})
    if said:
        (role,) = said.values()
        return role | {"kind": OUTPUT} if role["kind"] == KERNEL and place in outputs else role
    role = complete(_by_name(path, shape))
    if not found.of_variable.get(place) and owners.hidden():
        role["source"] += ", since gc.freeze() hides the layers"
    return role


def _by_name(path, shape):
    """Where no layer says anything: by the variable's own name, and then by its shape."""
    name = path.split("/")[-1].split(":")[0]
    if name in ("gamma", "beta", "scale"):
        return {"kind": NORM, "purpose": layers.of_norm(name), "source": f"name {name}"}
    if "bias" in name.split("_") and not name.endswith("kernel"):
        return {"kind": BIAS, "source": f"name {name}"}
    if sum(length != 1 for length in shape) <= 1 and len(shape) != 2:
        return {"kind": OTHER, "source": "shape"}
    if name == "reverse_embeddings":
        return {**layers.matrix(range(len(shape) - 1), (len(shape) - 1,)), "kind": OUTPUT, "source": f"name {name}"}
    if name.endswith(("embedding", "embeddings")):
        return {**layers.matrix(range(len(shape) - 1), (len(shape) - 1,)), "kind": EMBEDDING, "source": f"name {name}"}
    if len(shape) == 2:
        return {**layers.matrix((0,), (1,)), "source": "shape"}
    return {"kind": OTHER, "apart": tuple(range(len(shape))), "source": "unknown axes"}


# What the groups say


def _stated(said, described, role):
    """The role as groups say: its kind, its axes, or both; the axes that they do not name follow from the others."""
    path, shape = described["path"], tuple(described["shape"])
    if "role" in said:
        role = role | {"kind": said["role"], "source": "group"}
    named = {name: said[name] for name in ("inputs", "outputs", "batch") if name in said}
    if not named:
        return role
    axes = {name: _places(name, given, path, shape) for name, given in named.items()}
    batch = axes.get("batch", ())
    rest = [axis for axis in range(len(shape)) if axis not in batch]
    inputs: Any = axes.get("inputs")
    outputs: Any = axes.get("outputs")
    if inputs is None and outputs is None:
        # Only the batch axes were named: the outputs are what they were, or the last axis.
        outputs = tuple(axis for axis in role["outputs"] if axis not in batch) or tuple(rest[-1:])
    if outputs is None:
        outputs = tuple(axis for axis in rest if axis not in inputs)
    if inputs is None:
        inputs = tuple(axis for axis in rest if axis not in outputs)
    if sorted((*inputs, *outputs, *batch)) != list(range(len(shape))) or not (inputs and outputs):
        raise ValueError(
            f"`inputs`, `outputs` and `batch` of a group must name each axis of {path!r}, {shape}, once, with at least "
            f"one input and one output; correct them. Received: {_listed(named)}"
        )
    kind = role["kind"] if "role" in said or role["kind"] in (EMBEDDING, OUTPUT) else KERNEL
    return complete({"kind": kind, "inputs": inputs, "outputs": outputs, "batch": batch, "source": "group"})


def _places(name, axes, path, shape):
    """Axes counted from the start; those below 0 are counted from the end."""
    if any(not -len(shape) <= axis < len(shape) for axis in axes):
        raise ValueError(
            f"`{name}` of a group must be axes of {path!r}, which has the shape {shape}; correct them. "
            f"Received: {_listed({name: axes})}"
        )
    return tuple(axis % len(shape) for axis in axes)


def _listed(named):
    return ", ".join(f"{name}={axes}" for name, axes in named.items())
