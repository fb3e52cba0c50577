"""The calls of layers in a model, in order, and where the graph can be cut."""

from dataclasses import dataclass, field
from typing import Any

import keras

# An embedding with more uses, such as one of relative positions, stands beside the blocks.
USES_OF_A_RESIDUAL = 2


@dataclass(eq=False)
class Node:
    """One call of an operation in a model, and the calls that compute its inputs."""

    operation: Any
    before: list["Node"] = field(default_factory=list)
    uses: int = 0

    def __post_init__(self):
        self.layer = self.operation if isinstance(self.operation, keras.Layer) else None
        weights = [] if self.layer is None else self.layer.weights
        self.weighted: bool = bool(weights) or any(node.weighted for node in self.before)
        # A layer that is an embedding only by its name, and projects the output of a kernel, is a step between stages,
        # such as those of SegFormer.
        behind = any(node.behind_a_kernel for node in self.before)
        self.embeds = _looks_up(self.layer) or (
            type(self.layer).__name__.endswith("Embedding") and not (behind and holds_weights(self.layer))
        )
        self.kernels = [] if self.embeds else [weight for weight in weights if len(weight.shape) > 1]
        self.behind_a_kernel: bool = behind or bool(self.kernels)
        for node in set(self.before):
            node.uses += 1

    @property
    def merges(self):
        """Whether it has no weights and merges the outputs of several layers with weights."""
        return not (self.layer and self.layer.weights) and sum(n.weighted for n in set(self.before)) > 1

    @property
    def stands_beside(self):
        """Whether the graph can be cut although its output is still used later."""
        return not self.weighted or (self.embeds and self.uses > USES_OF_A_RESIDUAL)


def calls(model):
    """The calls of a functional or Sequential model in an order in which they can run; else the model's layers."""
    outputs = keras.tree.flatten(getattr(model, "outputs", None) or [])
    if not outputs:
        nodes = [Node(None)]
        for layer in model._flatten_layers(include_self=False, recursive=False):
            nodes.append(Node(layer, nodes[-1:]))
        return nodes
    begins = {id(tensor) for tensor in keras.tree.flatten(model.inputs)}
    found: dict[Any, Node] = {}

    def call(tensor):
        operation, index, _ = tensor._keras_history
        return id(tensor) if id(tensor) in begins else (id(operation), index)

    waiting = list(reversed(outputs))
    while waiting:
        operation, index, _ = waiting[-1]._keras_history
        is_begin = id(waiting[-1]) in begins
        inputs = [] if is_begin else operation._inbound_nodes[index].input_tensors
        missing = [tensor for tensor in inputs if call(tensor) not in found]
        if missing:
            waiting.extend(reversed(missing))
            continue
        tensor = waiting.pop()
        if call(tensor) not in found:
            found[call(tensor)] = Node(None if is_begin else operation, [found[call(t)] for t in inputs])
    return list(found.values())


def segments(nodes):
    """The calls between the cuts. A cut is where all later calls depend on one call alone."""
    last_use = {before: place for place, node in enumerate(nodes) for before in node.before}
    segment: list[Node] = []
    live: set[Node] = set()
    for place, node in enumerate(nodes):
        segment.append(node)
        live = {other for other in {*live, node} if last_use.get(other, -1) > place and not other.stands_beside}
        if live <= {node}:
            yield segment
            segment = []
    if segment:
        yield segment


def model_in(layer):
    """The model that the layer is, or that a wrapper such as TimeDistributed holds."""
    inner = layer.layer if isinstance(layer, keras.layers.Wrapper) else layer
    return inner if isinstance(inner, keras.Model) else None


def is_stack(layer):
    """Whether the layer holds a list of transformer blocks, such as the encoder of KerasHub's ViT."""

    def attends(part):
        return isinstance(part, keras.Layer) and any(
            "Attention" in type(inner).__name__ for inner in part._flatten_layers(include_self=False)
        )

    lists = [value for value in vars(layer).values() if isinstance(value, list)] if layer is not None else []
    return any(len(value) > 1 and all(map(attends, value)) for value in lists)


def _looks_up(layer):
    """Whether the layer is an Embedding or holds one."""
    if layer is None or isinstance(layer, keras.Model):
        return False
    return any(isinstance(part, keras.layers.Embedding) for part in [layer, *vars(layer).values()])


def holds_weights(layer):
    """Whether layers inside this layer have weights."""
    return any(part.weights for part in layer._flatten_layers(include_self=False))
