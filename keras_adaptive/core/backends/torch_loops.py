"""One kind of variables' update as loops over their elements, compiled by torch: few passes over the memory."""

import dataclasses
import math

import keras
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

# How large the tensors are that it is compiled with: it takes any size, but the compiler may think of these.
SHAPE = (1024, 1024)


def begun(transaction, kinds, gradients, values, scalars, shared):
    """By kind, the loops of this step, each compiled at the first step that has the kind.

    A kind is left out if its rule decides by the numbers what to compute.

    Raises:
        ValueError: torch cannot compile here.
    """
    common = {name: number for name, number in scalars.items() if torch.as_tensor(number).ndim == 0}, shared
    loops = {}
    for state, kind, gradient, of_one in zip(transaction.states, kinds, gradients, values, strict=True):
        if kind is None or kind in loops:
            continue
        key = ("loop", kind)
        if key not in transaction.cache:
            try:
                transaction.cache[key] = Loop(transaction, state, kind[0], gradient, of_one, common)
            except (DataDependentOutputException, GuardOnDataDependentSymNode):
                transaction.cache[key] = None
        loops[kind] = transaction.cache[key]
    loops = {kind: loop for kind, loop in loops.items() if loop is not None}
    for loop in loops.values():
        loop.begin(common)
    return loops


class Loop:
    """The update of all variables of one kind.

    Args:
        transaction: the transaction.
        state, kind, gradient, values: of one of them.
        common: the scalars of the step and what is shared, by name: tensors without axes.
    """

    def __init__(self, transaction, state, kind, gradient, values, common):
        self.device, self.written = gradient.device, set()
        indices = torch.arange(len(transaction.states), dtype=torch.int32, device=self.device)
        self.indices = indices if kind.noisy else indices[state.index]

        def update(numbers, index, gradient, *tensors):
            scalars, shared = keras.tree.pack_sequence_as(common, numbers)
            before = dict(zip(values, tensors, strict=True))
            one = dataclasses.replace(state, index=index)
            after = transaction.one(one, transaction.clock(scalars), shared, gradient, before)
            for role, value in before.items():
                if after[role] is not value:
                    self.written.add(role)
                    value.copy_(after[role])

        def sample(tensor):
            """Of the form that tensors have in a loop."""
            if kind.shape is not None:
                return torch.ones_like(tensor)
            scales = kind.scaled and tensor.numel() < gradient.numel()
            shape = (SHAPE[0], 1) if scales else SHAPE if kind.scaled else (math.prod(SHAPE),)
            return torch.ones(shape, dtype=tensor.dtype, device=self.device)

        samples = [sample(tensor.detach()) for tensor in (gradient, *values.values())]
        numbers = self._numbers(common)
        mode = "symbolic" if kind.shape is None else "fake"
        recorded = make_fx(update, tracing_mode=mode)(numbers, indices[state.index], *samples)
        self.of_numbers, of_tensors = _split(recorded, len(numbers) + 1)
        self.of_tensors = torch.compile(of_tensors, fullgraph=True, dynamic=kind.shape is None)
        self.begin(common)
        try:
            self.of_tensors(*self._numbers_of(state), *samples)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = " ".join(str(error).split("\n\n")[0].split())
            raise ValueError(
                "`jit_update` must be False or 'auto' where torch.compile does not work. "
                f"Received: jit_update=True, and torch.compile says: {reason}"
            ) from error

    def begin(self, common):
        """Computes what is the same for all elements of a variable in this step, for all variables together."""
        found = self.of_numbers(*self._numbers(common), self.indices)
        # Of a noisy kind, those that the variable's index is in are vectors.
        self.numbers = [number.unbind() if number.ndim else number for number in found]

    def __call__(self, piece):
        gradient, values = piece.flat()
        self.of_tensors(*self._numbers_of(piece.state), gradient, *values.values())
        piece.written(self.written)

    def _numbers(self, common):
        return [torch.as_tensor(number, device=self.device) for number in keras.tree.flatten(common)]

    def _numbers_of(self, state):
        return [number[state.index] if isinstance(number, tuple) else number for number in self.numbers]


def _split(recorded, count):
    """What is computed from numbers alone, so that it is not computed again for each element; and the rest.

    Args:
        recorded: a graph, of which so many of the first inputs are numbers.
    """
    nodes = list(recorded.graph.nodes)
    numbers = set(nodes[:count])
    for node in nodes:
        found = getattr(recorded, node.target) if node.op == "get_attr" else node.meta.get("val")
        is_number = node.op != "placeholder" and getattr(found, "ndim", None) == 0
        if is_number and numbers.issuperset(node.all_input_nodes):
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
