"""The parts of a model that are one level each: residual blocks, modules of branches, chains of layers between them."""

from dataclasses import dataclass

from keras_adaptive.groups.graph import Node, calls, holds_weights, model_in, segments

# A block of the published nets has at most ten kernels. What has more between two cuts is no block.
MOST_KERNELS = 16


@dataclass(eq=False)
class Part:
    """Calls between two cuts of the graph: a "block", one that concatenates to what it was given ("growth"), or a
    "chain" of single layers are one level; "others" are levels one by one."""

    nodes: list[Node]
    kind: str

    @property
    def kernels(self):
        return sum(len(node.kernels) for node in self.nodes)

    def has(self, word):
        """Whether the name of the class of one of its layers holds the word."""
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
    # What enlarges has come down before: both ways, as in a U-Net, are no block.
    enlarges = part.has("UpSampling") or part.has("Transpose")
    starts = any(node.embeds or (node.kernels and not any(n.weighted for n in node.before)) for node in segment)
    if last.merges and entry and 0 < part.kernels <= MOST_KERNELS and not enlarges and not starts:
        name = type(last.operation).__name__
        if "Multiply" in name:
            return "gate"
        return "growth" if "Concat" in name and entry.intersection(last.before) else "block"
    return "chain" if len(segment) == 1 and _is_plain(last) else "others"


def _is_plain(node):
    """Whether it is no model, no embedding and no layer that is made of layers, other than Keras's own."""
    layer = node.layer
    if layer is None or not layer.weights:
        return True
    if model_in(layer) is not None or node.embeds:
        return False
    return type(layer).__module__.startswith("keras.") or not holds_weights(layer)


def _add(parts, part):
    """Adds a part; one that grows, and the second half of a transformer's block, belong to the part before."""
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
            # A third block is another level.
            parts.append(Part([*nodes, *part.nodes], "pair"))
            return
    parts.append(part)


def _chained(parts):
    """Between blocks the layers of a chain are one level: those of a block without a residual, mostly."""
    chained: list[Part] = []
    for part in parts:
        single = part.kind in ("chain", "gate")
        if single and chained and chained[-1].kind == "chain":
            chained[-1].nodes += part.nodes
        else:
            chained.append(Part(list(part.nodes), "chain" if single else part.kind))
    return chained


def _with_output_apart(parts):
    """The layer that makes the output is a level of its own."""
    for place in reversed(range(len(parts))):
        part = parts[place]
        if part.kernels:
            if part.kind == "chain":
                cut = max(i for i, node in enumerate(part.nodes) if node.kernels)
                halves = [part.nodes[:cut], part.nodes[cut:]]
                parts[place : place + 1] = [Part(nodes, "chain") for nodes in halves if nodes]
            break
    return parts
