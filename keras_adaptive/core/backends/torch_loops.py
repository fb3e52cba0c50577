"""The update of a bucket as loops over the elements, compiled by torch: few passes over the memory."""

import contextlib
import dataclasses
import math
import threading
from typing import Any, Literal

import keras
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from keras_adaptive.core.backends import torch_pieces

# torch's recording affects all threads.
ALONE = threading.Lock()
# Shape of the sample tensors for compilation. The lengths differ: with equal lengths torch would assume equal ones.
SHAPE = (1024, 1536)


def begun(transaction, buckets, gradients, values, scalars, shared):
    """The loops of this step by bucket; each is compiled at the first step in which the bucket has a gradient.

    Raises:
        ValueError: torch cannot compile here.
    """
    common = {name: number for name, number in scalars.items() if torch.as_tensor(number).ndim == 0}, shared
    known, loops = transaction.cache.setdefault("loops", {}), {}
    for state, bucket, gradient, of_one in zip(transaction.states, buckets, gradients, values, strict=True):
        if bucket is None or bucket in loops:
            continue
        if bucket not in known:
            known[bucket] = _made(transaction, state, bucket[0].kind, gradient, of_one, common)
        # Otherwise it is the reason why there is no loop.
        if isinstance(known[bucket], Loop):
            loops[bucket] = known[bucket]
            loops[bucket].begin(common)
    return loops


def not_compiled(transaction):
    """Why variables that had a gradient are updated without a loop, by the place of the variable."""
    if "loops" not in transaction.cache:
        return {}
    found = {}
    for bucket in transaction.buckets:
        for place in bucket.places:
            values = {role: v.value for role, v in transaction.variables(transaction.states[place]).items()}
            loop = transaction.cache["loops"].get((bucket, values["theta"].device))
            why = bucket.why_apart or torch_pieces.why_alone(values) or loop
            if any(place in places for places in bucket.stacks):
                why = "its matrices are multiplied together with those of variables of the same shape"
            if isinstance(why, str):
                found[place] = why
    return found


class NotRecorded(Exception):
    """torch cannot record the update."""


def _made(transaction, state, kind, gradient, values, common):
    """The loop, or the reason why there is none if the rule cannot be recorded."""
    try:
        loop = Loop(transaction, state, kind, gradient, values, common)
    except NotRecorded as error:
        return str(error)
    try:
        loop.compile(common, state)
    except (RuntimeError, torch._dynamo.exc.TorchDynamoException) as error:
        reason = " ".join(str(error).split("\n\n")[0].split())
        raise ValueError(
            "`jit_update` must be False or 'auto' if torch.compile does not work. "
            f"Received: jit_update=True, and torch.compile says: {reason}"
        ) from error
    return loop


class Loop:
    """The recorded update of the variables of a bucket.

    Args:
        transaction: the transaction.
        state, kind, gradient, values: those of one of the variables.
        common: the scalars of the step and what is shared, by name: tensors without axes.
    """

    def __init__(self, transaction, state, kind, gradient, values, common):
        self.device = gradient.device
        self.written: set[str] = set()
        indices = torch.arange(len(transaction.states), dtype=torch.int32, device=self.device)
        self.indices = indices if kind.noisy else indices[state.index]
        shapes = None if kind.shape is None else {role: value.shape for role, value in values.items()}

        def update(numbers, index, gradient, *tensors):
            scalars, shared = keras.tree.pack_sequence_as(common, numbers)
            flat = dict(zip(values, tensors, strict=True))
            before = flat
            if shapes is not None:
                gradient = gradient.reshape(kind.shape)
                before = {role: tensor.reshape(shapes[role]) for role, tensor in flat.items()}
            one = dataclasses.replace(state, index=index)
            after = transaction.one(one, transaction.clock(scalars), shared, gradient, before)
            for role, tensor in flat.items():
                if after[role] is not before[role]:
                    self.written.add(role)
                    tensor.copy_(after[role].reshape(tensor.shape))

        scales = {f"{name}_scale" for name in state.slots}
        self.samples: Any = [
            torch.ones(_shape(tensor, kind, role in scales), dtype=tensor.dtype, device=self.device)
            for role, tensor in {"gradient": gradient, **values}.items()
        ]
        numbers = self._numbers(common)
        mode: Literal["symbolic", "fake"] = "symbolic" if kind.shape is None else "fake"
        recorded = _recorded(make_fx(update, tracing_mode=mode), numbers, indices[state.index], *self.samples)
        self.of_numbers, self.of_tensors = _split(recorded, len(numbers) + 1)
        self.any_size = kind.shape is None

    def compile(self, common, state):
        """Compiles the loop with torch, for one of the variables; otherwise it would run as it was recorded."""
        self.of_tensors = torch.compile(self.of_tensors, dynamic=self.any_size)
        self.begin(common)
        self.of_tensors(*self._numbers_of(state), *self.samples)
        self.samples = None

    def begin(self, common):
        """Computes the numbers that all elements of a variable share in this step, for all variables together."""
        found = self.of_numbers(*self._numbers(common), self.indices)
        # For a noisy kind, numbers that depend on the variable's index are vectors over all variables.
        self.numbers = [number.unbind() if number.ndim else number for number in found]

    def __call__(self, piece):
        gradient, values = piece.flat()
        self.of_tensors(*self._numbers_of(piece.state), gradient, *values.values())
        piece.written(self.written)

    def _numbers(self, common):
        return [torch.as_tensor(number, device=self.device) for number in keras.tree.flatten(common)]

    def _numbers_of(self, state):
        return [number[state.index] if isinstance(number, tuple) else number for number in self.numbers]


def _recorded(record, *inputs):
    """The recorded graph.

    Raises:
        NotRecorded: for example, the numbers decide what the rule computes.
    """
    try:
        with _errors_of_torch():
            return record(*inputs)
    # torch may raise any class for what it cannot record, within the user's rule. An error of the rule itself is raised
    # again in this step, because the rule then runs operation by operation.
    except Exception as error:
        first = " ".join(str(error).strip().split("\n")[0].split())
        said = ": ".join(filter(None, (type(error).__name__, first)))
        raise NotRecorded(f"torch cannot record its update ({said})") from error


@contextlib.contextmanager
def _errors_of_torch():
    """Context in which Keras does not add its own message to the errors of its operations."""
    if not keras.config.is_traceback_filtering_enabled():
        yield
        return
    keras.config.disable_traceback_filtering()
    try:
        yield
    finally:
        keras.config.enable_traceback_filtering()


def _shape(tensor, kind, is_scale):
    """The shape in which a loop takes the tensor: the variable's shape, or a sample of any size."""
    if kind.shape is not None:
        return tensor.shape or (1,)
    return (SHAPE[0], 1) if is_scale else SHAPE if kind.scaled else (math.prod(SHAPE),)


def _split(recorded, count):
    """Splits off what depends only on numbers, so that it is not computed again for each element.

    Args:
        recorded: a graph.
        count: how many of its first inputs are numbers.
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
    copies: dict[Any, Any] = {}
    for node in nodes:
        if node in numbers:
            copies[node] = before.node_copy(node, copies.__getitem__)
    before.output([copies[node] for node in needed])
    copies = {node: rest.placeholder(node.name) for node in needed}
    for node in nodes:
        if node not in numbers:
            copies[node] = rest.node_copy(node, copies.__getitem__)
    return torch.fx.GraphModule(recorded, before), torch.fx.GraphModule(recorded, rest)
