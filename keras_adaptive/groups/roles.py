"""What a variable is: one answer for all parts that treat embeddings, kernels, biases and norms differently.

The layer that owns a variable decides, not its name. Names are the last resort, and then `Role.source` says so.
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
# The fields of a role that are stored with the optimizer, beside path and shape.
FIELDS = ("kind", "inputs", "outputs", "batch", "apart", "parts", "heads", "purpose", "source")


@dataclass(frozen=True)
class Role:
    """What one variable is.

    Attributes:
        path, shape: of the variable.
        kind: "embedding", "output" (the kernel of a model's output layer), "bias", "norm" (scales and offsets),
            "kernel", or "other" (not a matrix, or not known to be one).
        inputs, outputs: the axes of a layer's inputs and outputs, which are the rows and columns of its matrix. Empty
            for variables that are not matrices.
        batch: axes along which each place has a separate matrix, such as the experts of a mixture.
        apart: axes that stay separate for optimizers that treat each axis of a tensor separately, such as the spatial
            axes of a convolution. For them, the other inputs are one axis, and so are the other outputs.
        parts: an axis, and how many matrices stand one after the other along it, such as the gates of an LSTM; or None.
        heads: the axis of the heads of attention, or None.
        purpose: "query", "key" or "value" for a kernel of attention with heads, "scale" or "offset" for a norm's factor
            or summand; or None.
        source: where this comes from: a layer, a group, the name or the shape.
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
        """The role of a variable as it was decided. JSON turns tuples into lists, which are turned back here."""
        stored: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in decision["role"].items()}
        return cls(decision["path"], tuple(decision["shape"]), **stored)

    @property
    def stored(self) -> dict[str, Any]:
        """The role as `decide` returns it."""
        return {name: getattr(self, name) for name in FIELDS}

    def seen_by(self, *askers: str) -> "Role":
        """The role as these parts of the package see it. The first part with a different view counts.

        All parts see the same role, except in a state of version 0.1.0, where they disagreed.
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
        """The rows, the columns and the number of its matrices; None if it is not a matrix."""
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
        said: for each the arguments that its groups give. "role", "inputs", "outputs" and "batch" count here.
        known: what this function returned before the optimizer was saved, which holds for those variables; VERSION_0_1
            for an optimizer that was saved by that version, whose matrices stay the same; or None.

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
    """The owners without wrappers, such as SpectralNormalization, that hold the variables of the layer inside."""
    layers_inside = {id(layer.layer) for layer, _ in owners if isinstance(layer, keras.layers.Wrapper)}
    inner = [(layer, attribute) for layer, attribute in owners if not isinstance(layer, keras.layers.Wrapper)]
    return inner if any(id(layer) in layers_inside for layer, _ in inner) else owners


def _found(found, place, described, outputs, variable):
    """The role according to the owners, or else to the name or the shape."""
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
    """The role of a variable without a known layer: by its own name, and then by its shape."""
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
    """The role with the kind and the axes that groups give. Axes that they do not name follow from the others."""
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
        # Only the batch axes were named: the outputs stay the same, or are the last axis.
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
    """The axes counted from the start; negative ones were counted from the end."""
    if any(not -len(shape) <= axis < len(shape) for axis in axes):
        raise ValueError(
            f"`{name}` of a group must be axes of {path!r}, which has the shape {shape}; correct them. "
            f"Received: {_listed({name: axes})}"
        )
    return tuple(axis % len(shape) for axis in axes)


def _listed(named):
    return ", ".join(f"{name}={axes}" for name, axes in named.items())
