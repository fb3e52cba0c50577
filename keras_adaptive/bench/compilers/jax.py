"""The compiler itself, which JAX brings, and the program of JAX's update."""

import functools
import time
from dataclasses import dataclass
from typing import Any

import jax
from jax._src.lib import _jax
from jax.experimental import topologies
from jax.interpreters import mlir

__all__ = ["Program", "program"]


@dataclass(frozen=True)
class Program:
    """What the compiler made.

    Attributes:
        text: the program as it is scheduled.
        temporary_bytes: of memory that it needs besides what it is given and gives back.
        seconds: how long the compiler took.
    """

    text: str
    temporary_bytes: int
    seconds: float


@functools.cache
def device():
    """One chip of a v5e, of which only the compiler exists."""
    # Without the bounds the smallest v5e is a host of four chips.
    return topologies.get_topology_desc("v5e:1x1", platform="tpu", chips_per_host_bounds=(1, 1, 1)).devices[0]


def program(optimizer, variables, rows=None):
    if rows:
        raise ValueError(f"A JAX gradient has no rows of its own. Received: rows={rows!r}")
    sharding = jax.sharding.SingleDeviceSharding(device())

    def described(variables):
        return [jax.ShapeDtypeStruct(v.shape, v.value.dtype, sharding=sharding) for v in variables]

    optimizer.build(variables)

    def step(thetas, kept, grads):
        return optimizer.stateless_apply(kept, grads, thetas)

    # Given back in the order in which they are donated, as Keras's trainer does: the compiler is told that each result
    # takes the first buffer of its size, and where that is another variable's it needs a copy.
    given = (described(variables), described(optimizer.variables), described(variables))
    lowered = jax.jit(step, donate_argnums=(0, 1)).lower(*given)
    begun = time.perf_counter()
    executable: Any = lowered.compile()
    seconds = time.perf_counter() - begun
    return Program(executable.as_text(), executable.memory_analysis().temp_size_in_bytes, seconds)


def compile_stablehlo(stablehlo):
    """The Program of a module in StableHLO, as TensorFlow's bridge writes it."""
    with mlir.make_ir_context() as context:
        context.allow_unregistered_dialects = True
        module = mlir.ir.Module.parse(stablehlo)
        # The bridge writes an operation that JAX's dialects do not have, and that changes no value.
        copies = []

        def collect(operation):
            if operation.name == "mhlo.copy":
                copies.append(operation)
            return mlir.ir.WalkResult.ADVANCE

        module.operation.walk(collect)
        for copy in copies:
            copy.results[0].replace_all_uses_with(copy.operands[0])
            copy.erase()
        begun = time.perf_counter()
        executable = device().client.compile(module, _jax.DeviceList((device(),)), _jax.CompileOptions())
        seconds = time.perf_counter() - begun
    text = executable.hlo_modules()[0].to_string()
    return Program(text, executable.get_compiled_memory_stats().temp_size_in_bytes, seconds)
