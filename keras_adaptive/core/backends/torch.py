"""torch: gradients are dense and already summed over processes, and every operation runs immediately."""

import contextlib
import functools
import math

import keras
import torch
from torch._subclasses.fake_tensor import FakeTensor

from keras_adaptive.core.backends import torch_loops, torch_pieces

HAS_ROWS = False
# Number of elements that are updated at a time. On a CPU larger temporaries would not fit the cache; on an accelerator
# smaller ones would take less time than their launch.
IN_CACHE, ON_ACCELERATOR = 2**18, 2**25


def read(variable, ids=None):
    return variable.value if ids is None else variable.value[ids]


def assign(variable, value, ids=None):
    variable.assign(value if ids is None else variable.value.index_put((ids,), value))


def is_variable(thing):
    return isinstance(thing, keras.Variable)


def accepted(gradient):
    """Gradients that are sparse by elements, and not by rows, are made dense."""
    return gradient.to_dense() if is_sparse(gradient) and gradient.sparse_dim() != 1 else gradient


def is_sparse(gradient):
    return isinstance(gradient, torch.Tensor) and gradient.is_sparse


def fault_of_rows(gradient, shape):
    # torch checks them when the tensor is made.
    return None


def is_symbolic(value):
    # torch.compile notices when a Python number has changed, and compiles again.
    return False


def rows_and_values(gradient):
    gradient = gradient.coalesce()
    return gradient.indices()[0], gradient.values()


def lookups(gradient, rows):
    return rows_and_values(gradient)


def occurrences(gradient):
    # Repeated rows of a sparse gradient may already have been summed.
    return None


def known_shape(gradient):
    return tuple(gradient.shape)


def mapped(function, gradient):
    if not is_sparse(gradient):
        return function(gradient)
    gradient = gradient.coalesce()
    values = function(gradient.values())
    return torch.sparse_coo_tensor(
        gradient.indices(), values, gradient.shape, check_invariants=False, is_coalesced=True
    )


def matmul(a, b):
    return torch.matmul(a, b)


def eigh(matrix):
    # torch raises for a matrix that is not finite.
    finite = torch.isfinite(matrix).all(dim=-1, keepdim=True).all(dim=-2, keepdim=True)
    values, vectors = torch.linalg.eigh(torch.where(finite, matrix, 0.0))
    return torch.where(finite[..., 0], values, torch.nan), torch.where(finite, vectors, torch.nan)


def is_accelerated():
    return torch.cuda.is_available()


def multiplies_bfloat16():
    return is_accelerated() and torch.cuda.is_bf16_supported(including_emulation=False)


def stacks():
    return is_accelerated()


def divided(function, *tensors):
    return function(*tensors)


def check_context(optimizer):
    """On torch the optimizer can be applied in every context."""


def sum_over_replicas(gradients):
    return gradients


def max_over_replicas(tensor):
    return tensor


def beside(variable):
    return contextlib.nullcontext()


def building():
    return contextlib.nullcontext()


def slot_layout(variable, shape, shard):
    if shard:
        raise ValueError(
            "`shard_state` must be False unless the backend is JAX; it needs a keras.distribution. "
            "Received: shard_state=True"
        )
    return getattr(variable, "_layout", None) if shape == tuple(variable.shape) else None


def rarely(condition, function, usual):
    # A branch would have to wait for a GPU, and a recorded loop has no branches.
    known = condition.device.type == "cpu" and not isinstance(condition, FakeTensor)
    return usual if known and not condition else function()


def known(condition):
    return condition if torch.compiler.is_compiling() else bool(condition)


def at_hand(tensor):
    return tensor.item() if tensor.device.type == "cpu" and not torch.compiler.is_compiling() else None


def jitted(cache, key, function):
    return function


def opaque(function):
    return function


def undifferentiated(function):
    return torch.no_grad()(function)


def is_compiling():
    return torch.compiler.is_compiling()


@functools.cache
def _keep_freed_memory():
    """Makes the allocator of glibc hold freed memory.

    It may return freed memory to the system, and fetch it again for each temporary of a step. After it has freed a
    block of nearly 32 MiB, it holds twice as much.
    """
    torch.empty(2**25 - 2**13, dtype=torch.uint8, device="cpu")


def transact(transaction, go, gradients, scalars):
    if go is not True and not bool(go):
        return
    variables = [transaction.variables(state) for state in transaction.states]
    old, common = [_read(of_one) for of_one in variables], _read(transaction.common)
    if not is_compiling():
        _keep_freed_memory()
    clock = transaction.clock(scalars)
    shared, new_common = transaction.measure(gradients, clock, old, common)
    if is_compiling():
        # The caller's full step is compiled: nothing has to be split or joined.
        buckets, most = [None] * len(old), math.inf
    else:
        buckets = torch_pieces.buckets(transaction, gradients, old)
        most = ON_ACCELERATOR if is_accelerated() else IN_CACHE
    compiled = transaction.jit_update is True
    # A constraint is the user's code and may raise, so all constraints are called before anything is written.
    constrained = {
        state: transaction.one(state, clock, shared, gradient, values)
        for state, gradient, values in zip(transaction.states, gradients, old, strict=True)
        if state.constraint is not None
    }
    with torch_loops.ALONE if compiled else contextlib.nullcontext():
        loops = torch_loops.begun(transaction, buckets, gradients, old, scalars, shared) if compiled else {}
        for piece in torch_pieces.pieces(transaction, buckets, gradients, old, most, whole=loops):
            if piece.bucket in loops:
                loops[piece.bucket](piece)
            else:
                piece.assign(constrained.get(piece.state) or piece.updated(transaction, clock, shared))
    _assign(common, new_common)


def not_compiled(transaction):
    return torch_loops.not_compiled(transaction) if transaction.jit_update is True else {}


def _read(variables):
    return {role: read(variable) for role, variable in variables.items()}


def _assign(before, after):
    for role, value in before.items():
        if after[role] is not value:
            value.copy_(after[role])


def outside_of_steps(optimizer):
    return contextlib.nullcontext()


def snapshot(variable):
    return read(variable).detach().clone()


@torch.no_grad()
def assign_everywhere(target, source, projected=None):
    target.assign(source if projected is None else projected(source))


def describe_in_checkpoints(optimizer, describe, check):
    """Only TensorFlow has checkpoints that bypass the optimizer."""
