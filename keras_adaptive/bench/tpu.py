"""What the TPU compiler reports about updates, without a TPU."""

import gc
from collections.abc import Callable
from dataclasses import dataclass

import keras

from keras_adaptive.bench import peers
from keras_adaptive.bench.measure import explained, state_bytes
from keras_adaptive.bench.report import OURS
from keras_adaptive.bench.traffic import hbm_bytes
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
        error: why there is nothing else, or why the bytes are not counted.
    """

    workload: str
    optimizer: str
    by: str
    hbm_bytes: float | None = None
    floor_bytes: float | None = None
    temporary_bytes: int | None = None
    compile_seconds: float | None = None
    error: str = ""

    @property
    def failed(self) -> bool:
        return self.temporary_bytes is None


def steps(specifications, workloads) -> int:
    """How often `compiled` calls `tick`."""
    return len(specifications) * len(workloads)


def compiled(specifications, workloads, tick: Callable[[str], object]):
    """A row for each optimizer and for Keras's, on each workload. `tick` is called with what was compiled."""
    for workload in workloads:
        for specification in specifications:
            for by, made in ((OURS, specification.make()), ("Keras", peers.of_keras(specification))):
                if made is not None:
                    yield _row(workload, str(specification), by, made)
                    del made
                    gc.collect()
            tick(f"{specification}, {workload.name}")


def program(optimizer, variables, **given):
    """The Program of one update, as `keras_adaptive.bench.compilers` says."""
    # Imported here, since the names of the workloads are needed also where the compiler is not installed.
    from keras_adaptive.bench.compilers import running as tpu

    return tpu.program(optimizer, variables, **given)


def _row(workload, specification, by, optimizer):
    try:
        made = program(optimizer, workload.variables(keras.initializers.Zeros()))
    # Any error of the compiler becomes a row of the table, and the others go on.
    except Exception as error:
        return Compiled(workload.name, specification, by, error=explained(error))
    try:
        moved, why = hbm_bytes(made.text) / workload.parameters, ""
    except NotImplementedError as error:
        moved, why = None, explained(error)
    floor = 12 + 2 * state_bytes(optimizer) / workload.parameters
    return Compiled(
        workload.name, specification, by, moved, floor, made.temporary_bytes, round(made.seconds, 3), error=why
    )


HEAD = ("workload", "optimizer", "by", "HBM bytes per parameter", "floor", "temporary MB", "compile s")


def line(row: Compiled) -> list[str]:
    """A row of the table as texts."""
    names = [row.workload, row.optimizer, row.by]
    if row.temporary_bytes is None:
        return [*names, "failed", "", "", ""]
    moved = "in a loop" if row.hbm_bytes is None else f"{row.hbm_bytes:.1f}"
    return [*names, moved, f"{row.floor_bytes:.1f}", f"{row.temporary_bytes / 1e6:.1f}", f"{row.compile_seconds:.2f}"]
