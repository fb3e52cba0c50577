"""The parts of a model that are one level each: residual blocks, modules with branches, chains of layers."""

from dataclasses import dataclass

from keras_adaptive.groups.graph import Node, calls, holds_weights, model_in, segments

# A block of the published nets has at most ten kernels. A part with many more between two cuts is not a block.
MOST_KERNELS = 16


@dataclass(eq=False)
class Part:
    """Calls between two cuts of the graph.

    One level: a "block", a block that concatenates to its input ("growth"), a "pair" of blocks, a "chain" of single
    layers. Each call of the kind "others" may be a level.
    """

    nodes: list[Node]
    kind: str

    @property
    def kernels(self):
        return sum(len(node.kernels) for node in self.nodes)

    def has(self, word):
        """Whether the class name of one of its layers contains the word."""
        return any(word in type(node.operation).__name__ for node in self.nodes)


def parts_of(model, is_last):
    parts: list[Part] = []
    for segment in segments(calls(model)):
        _add(parts, Part(segment, _kind(segment)))
    if any(part.kind in ("block", "growth", "pair") for part in parts):
        parts = _chained(parts)
    if is_last:
        parts = _with_output_apart(parts)
    return parts


def _kind(segment):
    part, last = Part(segment, ""), segment[-1]
    entry = {before for node in segment for before in node.before if before.weighted} - {*segment}
    # A part that enlarges comes after a part that reduces. Both together, as in a U-Net, are not a block.
    enlarges = part.has("UpSampling") or part.has("Transpose")
    starts = any(node.embeds or (node.kernels and not any(n.weighted for n in node.before)) for node in segment)
    if last.merges and entry and 0 < part.kernels <= MOST_KERNELS and not enlarges and not starts:
        name = type(last.operation).__name__
        if "Multiply" in name:
            return "gate"
        return "growth" if "Concat" in name and entry.intersection(last.before) else "block"
    return "chain" if len(segment) == 1 and _is_plain(last) else "others"


def _is_plain(node):
    """Whether it is a single layer: not a model, an embedding, or a layer that is made of layers (except Keras's)."""
    layer = node.layer
    if layer is None or not layer.weights:
        return True
    if model_in(layer) is not None or node.embeds:
        return False
    return type(layer).__module__.startswith("keras.") or not holds_weights(layer)


def _add(parts, part):
    """Adds a part. A "growth" joins a "growth" before it, and the second half of a transformer's block the first."""
    if part.kind == "growth" and parts and parts[-1].kind == "growth":
        parts[-1].nodes += part.nodes
        return
    if part.kind == "block" and not part.has("Attention") and not part.has("Conv"):
        place = len(parts) - 1
        while place >= 0 and parts[place].kind == "chain" and not parts[place].kernels:
            place -= 1
        if place >= 0 and parts[place].kind == "block" and parts[place].has("Attention"):
            nodes = [node for between in parts[place:] for node in between.nodes]
            del parts[place:]
            # A third block starts another level.
            parts.append(Part([*nodes, *part.nodes], "pair"))
            return
    parts.append(part)


def _chained(parts):
    """Makes the layers of a chain between blocks one level; mostly they are a block without a residual."""
    chained: list[Part] = []
    for part in parts:
        single = part.kind in ("chain", "gate")
        if single and chained and chained[-1].kind == "chain":
            chained[-1].nodes += part.nodes
        else:
            chained.append(Part(list(part.nodes), "chain" if single else part.kind))
    return chained


def _with_output_apart(parts):
    """Makes the layer that computes the output a separate level."""
    for place in reversed(range(len(parts))):
        part = parts[place]
        if part.kernels:
            if part.kind == "chain":
                cut = max(i for i, node in enumerate(part.nodes) if node.kernels)
                halves = [part.nodes[:cut], part.nodes[cut:]]
                parts[place : place + 1] = [Part(nodes, "chain") for nodes in halves if nodes]
            break
    return parts
