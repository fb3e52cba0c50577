"""One kind of variables' update as a loop over their elements, compiled by torch: each tensor is read and written once."""

import keras
import torch
from torch.fx.experimental.proxy_tensor import make_fx

# How long the vectors are that it is compiled with: it takes any length, but the compiler may think of these.
LENGTH = 2**20


def begun(transaction, kinds, gradients, values, scalars, shared):
    """By kind, the loops of this step, each compiled at the first step that has the kind.

    Raises:
        ValueError: torch cannot compile here.
    """
    of_all = {name: number for name, number in scalars.items() if torch.as_tensor(number).ndim == 0}
    loops = {}
    for state, kind, gradient, of_one in zip(transaction.states, kinds, gradients, values, strict=True):
        if kind is not None and kind not in loops:
            key = ("loop", kind)
            if key not in transaction.cache:
                transaction.cache[key] = Loop(transaction, state, gradient, of_one, (of_all, shared))
            loops[kind] = transaction.cache[key]
            loops[kind].begin((of_all, shared))
    return loops


class Loop:
    """The update of all variables of one kind, whatever their shapes.

    Args:
        transaction: the transaction.
        state, gradient, values: of one of them.
        common: the scalars of the step and what is shared, by name: tensors without axes.
    """

    def __init__(self, transaction, state, gradient, values, common):
        self.written: set[str] = set()

        def update(numbers, gradient, *vectors):
            scalars, shared = keras.tree.pack_sequence_as(common, numbers)
            before = dict(zip(values, vectors, strict=True))
            after = transaction.one(state, transaction.clock(scalars), shared, gradient, before)
            for role, value in before.items():
                if after[role] is not value:
                    self.written.add(role)
                    value.copy_(after[role])

        vectors = [tensor.detach().new_ones(LENGTH) for tensor in (gradient, *values.values())]
        numbers = _flat(common)
        recorded = make_fx(update, tracing_mode="symbolic")(numbers, *vectors)
        self.of_numbers, of_vectors = _split(recorded, len(numbers))
        self.of_vectors = torch.compile(of_vectors, fullgraph=True, dynamic=True)
        self.begin(common)
        try:
            self.of_vectors(*self.numbers, *vectors)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = " ".join(str(error).split("\n\n")[0].split())
            raise ValueError(
                "`jit_update` must be False or 'auto' where torch.compile does not work. Received: jit_update=True, and "
                f"torch.compile says: {reason}"
            ) from error

    def begin(self, common):
        """Computes what is the same for all elements in this step."""
        self.numbers = self.of_numbers(*_flat(common))

    def __call__(self, piece):
        gradient, values = piece.vectors()
        self.of_vectors(*self.numbers, gradient, *values.values())
        piece.written(self.written)


def _flat(common):
    return [torch.as_tensor(number) for number in keras.tree.flatten(common)]


def _split(recorded, count):
    """What is computed from numbers alone, so that it is not computed again for each element; and the rest.

    Args:
        recorded: a graph, of which so many of the first inputs are numbers.
    """
    nodes = list(recorded.graph.nodes)
    numbers = set(nodes[:count])
    for node in nodes[count:]:
        if node.op == "get_attr" or (_is_number(node) and numbers.issuperset(node.all_input_nodes)):
            numbers.add(node)
    needed = [node for node in nodes if node in numbers and not numbers.issuperset(node.users)]

    before, rest = torch.fx.Graph(), torch.fx.Graph()
    copies = {}
    for node in nodes:
        if node in numbers:
            copies[node] = before.node_copy(node, copies.__getitem__)
    before.output([copies[node] for node in needed])
    copies = {node: rest.placeholder(node.name) for node in needed}
    for node in nodes:
        if node not in numbers:
            copies[node] = rest.node_copy(node, copies.__getitem__)
    return torch.fx.GraphModule(recorded, before), torch.fx.GraphModule(recorded, rest)


def _is_number(node):
    return node.op == "call_function" and getattr(node.meta.get("val"), "ndim", None) == 0
