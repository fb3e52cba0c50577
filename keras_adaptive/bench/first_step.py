"""Time and peak memory of the first step of `fit`, each measured in a separate process.

The model has four dense layers with 50 million parameters in total. The optimizer is built in the step, as in `fit`.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from keras_adaptive.bench import peers
from keras_adaptive.bench.report import OURS
from keras_adaptive.bench.specification import parse

INPUTS, UNITS = 1024, (4096, 4096, 4096, 3072)
STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class FirstStep:
    """One row: an optimizer of the package, or Keras's class.

    Attributes:
        optimizer: the optimizer of the package, with its arguments.
        by: "keras_adaptive" or "Keras".
        parameters: the number of the model's parameters.
        peak_bytes: the rise of the process's memory during the step, at its peak.
        seconds: the time of the first step.
        error: why there are no numbers.
        workload: what was measured, for the picture.
    """

    optimizer: str
    by: str
    parameters: int = 0
    peak_bytes: int = 0
    seconds: float = 0.0
    error: str = ""
    workload: str = "the first step of fit"

    @property
    def failed(self) -> bool:
        return bool(self.error)


def missing() -> str:
    """Why the memory of a process cannot be read here, or an empty string."""
    return "" if STATUS.exists() else "the memory of a process is read from /proc, which only Linux has"


def measured(specifications, size, tick):
    """A row for each optimizer and for Keras's. `tick` is called with the name of what was measured."""
    for specification in specifications:
        for by in (OURS, "Keras"):
            if by == OURS or peers.class_of_keras(specification.name) is not None:
                yield _in_a_process(str(specification), by, size)
        tick(str(specification))


def _in_a_process(specification, by, size):
    command = [sys.executable, "-m", "keras_adaptive.bench.first_step", specification, by, str(size)]
    environment = os.environ | {"KERAS_BACKEND": keras.backend.backend()}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        return FirstStep(specification, by, error=done.stderr.strip().splitlines()[-1])
    return FirstStep(specification, by, **json.loads(done.stdout.splitlines()[-1]))


def step(specification, by, size):
    """The numbers of one row, measured in this process."""
    (chosen,) = parse(specification, {})
    optimizer = chosen.make() if by == OURS else peers.of_keras(chosen)
    inputs, *units = (max(1, int(n * size**0.5)) for n in (INPUTS, *UNITS))
    model = keras.Sequential([keras.Input((inputs,)), *[keras.layers.Dense(n) for n in units]])
    model.compile(optimizer, "mse")
    x, y = np.ones((8, inputs), "float32"), np.ones((8, units[-1]), "float32")
    # Resets the peak of the memory.
    Path("/proc/self/clear_refs").write_text("5")
    before, start = _memory("VmRSS"), time.perf_counter()
    model.train_on_batch(x, y)
    seconds = time.perf_counter() - start
    return {"parameters": model.count_params(), "peak_bytes": _memory("VmHWM") - before, "seconds": seconds}


def _memory(name):
    """The memory in bytes by Linux's names: VmRSS is the current one, VmHWM the peak."""
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(lines[name].split()[0]) * 1024


HEAD = ("optimizer", "by", "parameters", "peak MB", "first step s")


def line(row: FirstStep) -> list[str]:
    """A row of the table as texts."""
    if row.error:
        return [row.optimizer, row.by, "failed", "", ""]
    return [row.optimizer, row.by, f"{row.parameters:,}", f"{row.peak_bytes / 1e6:.0f}", f"{row.seconds:.2f}"]


if __name__ == "__main__":
    print(json.dumps(step(sys.argv[1], sys.argv[2], float(sys.argv[3]))))
