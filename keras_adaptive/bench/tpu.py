"""What the TPU compiler reports about updates, without a TPU."""

import gc
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import keras

from keras_adaptive.bench import peers
from keras_adaptive.bench.measure import explained, state_bytes
from keras_adaptive.bench.report import OURS
from keras_adaptive.bench.traffic import collective_bytes, hbm_bytes
from keras_adaptive.bench.workloads import Workload, mixed, scaled


def larger_than_vmem(size: float) -> Workload:
    """A variable that is too large for the memory on the chip, where small ones stay between two passes."""
    return Workload("large", "one variable", {"kernel": (scaled(16384, size), 8192)})


WORKLOADS: dict[str, Callable[[float], Workload]] = {"large": larger_than_vmem, "mixed": mixed}


@dataclass(frozen=True)
class Compiled:
    """One row: an optimizer of the package on a workload, or Keras's class.

    Attributes:
        workload: its name.
        optimizer: the optimizer of the package, with its arguments.
        by: "keras_adaptive" or "Keras".
        hbm_bytes: the bytes per parameter that the program moves between HBM and the chip; None if a loop hides them.
        floor_bytes: the fewest bytes per parameter that it must move: it reads gradients, weights and state, and writes
            weights and state.
        temporary_bytes: the memory in addition to the program's inputs and outputs.
        compile_seconds: how long the compiler took.
        operations: the floating-point operations of one device per parameter.
        collective_bytes: the bytes that a device receives from the others in one update, by the kind of transfer.
        error: why there is nothing else, or why the bytes are not counted.
    """

    workload: str
    optimizer: str
    by: str
    hbm_bytes: float | None = None
    floor_bytes: float | None = None
    temporary_bytes: int | None = None
    compile_seconds: float | None = None
    operations: float | None = None
    collective_bytes: dict[str, int] = field(default_factory=dict)
    error: str = ""

    @property
    def failed(self) -> bool:
        return self.temporary_bytes is None


def steps(specifications, workloads) -> int:
    """How often `compiled` calls `tick`."""
    return len(specifications) * len(workloads)


def compiled(specifications, workloads, target: str, tick: Callable[[str], object]):
    """A row for each optimizer and for Keras's, on each workload.

    Args:
        specifications, workloads: the optimizers and the workloads.
        target: "v5e" for one chip, or a topology such as "v5e:2x4": the figures are those of one of its devices.
        tick: called with what was compiled.
    """
    for workload in workloads:
        for specification in specifications:
            for by, made in ((OURS, specification.make()), ("Keras", peers.of_keras(specification))):
                if made is not None:
                    yield _row(workload, str(specification), by, made, target)
                    del made
                    gc.collect()
            tick(f"{specification}, {workload.name}")


def program(optimizer, variables, **given):
    """The Program of one update, as `keras_adaptive.bench.compilers` says."""
    # Imported here, since the names of the workloads are needed also where the compiler is not installed.
    from keras_adaptive.bench.compilers import running as tpu

    return tpu.program(optimizer, variables, **given)


def devices(target: str) -> int:
    """The number of devices: of "v5e:2x4" 8."""
    _, _, shape = target.partition(":")
    return math.prod(int(length) for length in shape.split("x")) if shape else 1


def _program(optimizer, workload, target):
    if devices(target) == 1:
        return program(optimizer, workload.variables(keras.initializers.Zeros()))
    from keras_adaptive.bench.compilers import jax_devices

    return jax_devices.program(optimizer, lambda: workload.variables(keras.initializers.Zeros()), target)


def _row(workload, specification, by, optimizer, target):
    try:
        made = _program(optimizer, workload, target)
    # Any error of the compiler becomes a row of the table, and the others go on.
    except Exception as error:
        return Compiled(workload.name, specification, by, error=explained(error))
    try:
        moved, why = hbm_bytes(made.text) / workload.parameters, ""
    except NotImplementedError as error:
        moved, why = None, explained(error)
    stored = state_bytes(optimizer) if made.state_bytes is None else made.state_bytes
    return Compiled(
        workload.name,
        specification,
        by,
        moved,
        12 + 2 * stored / workload.parameters,
        made.temporary_bytes,
        round(made.seconds, 3),
        None if made.operations is None else made.operations / workload.parameters,
        collective_bytes(made.text),
        error=why,
    )


HEAD = (
    *("workload", "optimizer", "by", "HBM bytes per parameter", "floor", "temporary MB", "compile s"),
    *("operations per parameter", "MB from other devices"),
)


def line(row: Compiled) -> list[str]:
    """A row of the table as texts."""
    names = [row.workload, row.optimizer, row.by]
    if row.temporary_bytes is None:
        return [*names, "failed", *[""] * (len(HEAD) - 4)]
    moved = "in a loop" if row.hbm_bytes is None else f"{row.hbm_bytes:.1f}"
    sizes = [f"{row.floor_bytes:.1f}", f"{row.temporary_bytes / 1e6:.1f}", f"{row.compile_seconds:.2f}"]
    operations = "" if row.operations is None else f"{row.operations:.4g}"
    received = ", ".join(f"{kind} {size / 1e6:.1f}" for kind, size in row.collective_bytes.items())
    return [*names, moved, *sizes, operations, received]
