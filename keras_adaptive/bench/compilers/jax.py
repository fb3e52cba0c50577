"""The compiler, which is used through JAX, and the program of JAX's update."""

import contextlib
import functools
import time
from dataclasses import dataclass
from typing import Any

import jax
from jax._src.lib import _jax
from jax.experimental import topologies
from jax.interpreters import mlir

from keras_adaptive.core.backends import jax as backends

__all__ = ["Program", "program"]


@dataclass(frozen=True)
class Program:
    """The result of the compiler.

    Attributes:
        text: the scheduled program.
        temporary_bytes: the memory that it needs in addition to its inputs and outputs.
        seconds: how long the compiler took.
        operations: the floating-point operations of one device; None if unknown.
        state_bytes: what one of several devices stores between updates; None for one device, which stores all.
    """

    text: str
    temporary_bytes: int
    seconds: float
    operations: float | None = None
    state_bytes: int | None = None


@functools.cache
def device():
    """One chip of a v5e, for the compiler only."""
    # Without the bounds the smallest v5e is a host of four chips.
    return topologies.get_topology_desc("v5e:1x1", platform="tpu", chips_per_host_bounds=(1, 1, 1)).devices[0]


def program(optimizer, variables, rows=None):
    if rows:
        raise ValueError(f"`rows` must be empty: gradients of JAX are dense. Received: rows={rows!r}")
    sharding = jax.sharding.SingleDeviceSharding(device())

    def described(variables):
        return [jax.ShapeDtypeStruct(v.shape, v.value.dtype, sharding=sharding) for v in variables]

    def step(thetas, kept, grads):
        return optimizer.stateless_apply(kept, grads, thetas)

    # The results are in the order of the donated arguments, as in Keras's trainer. The compiler gives each result the
    # first donated buffer of its size; if that belonged to another variable, it would need a copy.
    with _for_a_tpu():
        optimizer.build(variables)
        given = (described(variables), described(optimizer.variables), described(variables))
        lowered = jax.jit(step, donate_argnums=(0, 1)).lower(*given)
    begun = time.perf_counter()
    executable: Any = lowered.compile()
    seconds = time.perf_counter() - begun
    return Program(executable.as_text(), executable.memory_analysis().temp_size_in_bytes, seconds)


@contextlib.contextmanager
def _for_a_tpu():
    """Context in which updates are traced and lowered as on a TPU."""
    mesh = jax.sharding.Mesh([device()], ("only",))
    backends.TARGET = "tpu"
    try:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            yield
    finally:
        backends.TARGET = None


def compile_stablehlo(stablehlo):
    """The Program of a StableHLO module from TensorFlow's bridge."""
    with mlir.make_ir_context() as context:
        context.allow_unregistered_dialects = True
        module = mlir.ir.Module.parse(stablehlo)
        # The bridge writes an operation that JAX's dialects do not have. It changes no value.
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
