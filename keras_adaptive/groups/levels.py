"""How many levels there are between each variable of a model and the output."""

from collections import defaultdict
from typing import Any

from keras_adaptive.groups.blocks import parts_of
from keras_adaptive.groups.graph import is_stack, model_in


class Levels:
    """The variables of a model by depth: the number of levels with a kernel after theirs."""

    def __init__(self, model):
        self.depths: dict[Any, int] = defaultdict(int)
        self.variables: dict[int, Any] = {}
        self.embeddings: list[Any] = []
        self._descend(model, 0)
        deepest = max(self.depths.values(), default=0)
        for variable in [*self.embeddings, *(v for v in model.weights if id(v) not in self.variables)]:
            self._place(variable, deepest)
        # A shared layer may leave a depth without a variable.
        order = sorted({self.depths[key] for key in self.variables}, reverse=True)
        self.levels = [[v for key, v in self.variables.items() if self.depths[key] == depth] for depth in order]

    def _place(self, variable, depth):
        """Places a variable. One of a layer that is called several times stays at the first call."""
        self.variables[id(variable)] = variable
        self.depths[id(variable)] = max(self.depths[id(variable)], depth)

    def _descend(self, model, depth):
        """Places the variables of a model that `depth` levels follow; returns how many levels follow its inputs."""
        needs: dict[Any, int] = defaultdict(lambda: depth)
        for part in reversed(parts_of(model, is_last=depth == 0)):
            if part.kind == "others":
                for node in reversed(part.nodes):
                    _pass_on(needs, [node], self._before(node, needs[node]))
                continue
            after = max(needs[node] for node in part.nodes)
            for node in part.nodes:
                self._take(node, after)
            _pass_on(needs, part.nodes, after + bool(part.kernels))
        return max(needs.values(), default=depth)

    def _before(self, node, after):
        inner = model_in(node.layer)
        if inner is not None:
            return self._descend(inner, after)
        if is_stack(node.layer):
            before = self._descend(node.layer, after)
            for variable in node.layer.weights:
                if id(variable) not in self.variables and not any(variable is other for other in self.embeddings):
                    self._place(variable, max(before - 1, after))
            return before
        self._take(node, after)
        if node.embeds:
            # Called on tokens it is on the first level; called on the outputs of layers it is an output layer.
            return after + bool(_projections(node.layer) and any(n.weighted for n in node.before))
        return after + bool(node.kernels)

    def _take(self, node, depth):
        projections = _projections(node.layer)
        for variable in [] if node.layer is None else node.layer.weights:
            if any(variable is projection for projection in projections):
                self._place(variable, 0)
            elif node.embeds:
                self.embeddings.append(variable)
                # The first level is at least this deep, even if it holds nothing else.
                self.depths["embeddings"] = max(self.depths["embeddings"], depth)
            else:
                self._place(variable, depth)


def merged(levels, most):
    """At most `most` levels: neighbours are merged evenly. The last level, that of the output, stays separate."""
    if most is None or len(levels) <= most:
        return levels
    *earlier, last = levels
    if most == 1:
        return [[variable for level in levels for variable in level]]
    fewer: list[list[Any]] = [[] for _ in range(most - 1)]
    for place, level in enumerate(earlier):
        fewer[place * (most - 1) // len(earlier)].extend(level)
    return [*fewer, last]


def _pass_on(needs, nodes, depth):
    for before in {n for node in nodes for n in node.before} - {*nodes}:
        needs[before] = max(needs[before], depth)


def _projections(layer):
    """The weights of an embedding that only its output side uses."""
    found = [] if layer is None else [getattr(one, "reverse_embeddings", None) for one in layer._flatten_layers()]
    return [variable for variable in found if variable is not None]
