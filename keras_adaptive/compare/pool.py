"""The processes that train, and who does what next."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from keras_adaptive.compare.protocol import Run

# Two processes with one thread each take less time than one with two.
ONE_THREAD = {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
    "OMP_NUM_THREADS": "1",
}
# The compiler looks for the fastest of several programs, which takes longer than these small runs.
ACCELERATOR = {
    "XLA_FLAGS": "--xla_gpu_autotune_level=0",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    # Otherwise products would have ten bits.
    "JAX_DEFAULT_MATMUL_PRECISION": "highest",
}


@dataclass
class Cell:
    """What one process does at a stretch: the runs of one optimizer on one workload.

    Attributes:
        workload, contender: their names.
        runs: returns what is yet to run, given all lines so far.
        needs: the cells that must be complete before.
    """

    workload: str
    contender: str
    runs: Callable[[list], list[Run]]
    needs: list["Cell"] = field(default_factory=list)
    done: bool = False
    failed: bool = False
    taken: bool = False


class Failed(Exception):
    """A process ended before it had answered."""


class Pool:
    """Runs cells in several processes and collects their lines.

    Args:
        lines: the results so far.
        processes: how many.
        lanes: runs at once in each; 1 on a CPU.
        write: called with each new line.
    """

    def __init__(self, lines: list, processes: int, lanes: int, write: Callable[[dict], Any]):
        self.lines, self.processes, self.lanes, self.write = lines, processes, lanes, write
        self.changed = threading.Condition()
        self.failures: list[str] = []
        self.workers: list[subprocess.Popen] = []

    def run(self, cells: list[Cell]) -> None:
        """Completes all cells.

        What a process could not do is in `failures` afterwards, and everything else is done.
        """
        threads = [threading.Thread(target=self._work, args=(cells,), daemon=True) for _ in range(self.processes)]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.2)
        finally:
            for worker in self.workers:
                worker.kill()

    def _work(self, cells):
        worker = None
        while (cell := self._next(cells)) is not None:
            try:
                while runs := self._runs(cell):
                    worker = worker or self._started()
                    self._ask(worker, cell, runs)
            except Failed as failure:
                worker = None
                self._end(cell, str(failure))
            except Exception as error:
                # In a thread it would be lost.
                self._end(cell, f"{cell.contender} on {cell.workload}: {type(error).__name__}: {error}")
            else:
                self._end(cell)

    def _end(self, cell, failure=None):
        with self.changed:
            cell.done, cell.failed = failure is None, failure is not None
            self.failures += [failure] if failure else []
            self.changed.notify_all()

    def _runs(self, cell):
        with self.changed:
            return cell.runs(self.lines)

    def _next(self, cells):
        """A cell whose needs are complete; None if none is left."""
        with self.changed:
            while waiting := [cell for cell in cells if not cell.taken]:
                for cell in waiting:
                    if any(other.failed for other in cell.needs):
                        cell.taken = cell.failed = True
                    elif all(other.done for other in cell.needs):
                        cell.taken = True
                        return cell
                self.changed.wait(1.0)
        return None

    def _started(self):
        environment = {**os.environ, **(ONE_THREAD if self.lanes == 1 else ACCELERATOR), "KERAS_BACKEND": "jax"}
        command = [sys.executable, "-m", "keras_adaptive.compare.worker", str(self.lanes)]
        worker = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        # Nobody waits for what it says on stderr, unless it fails.
        threading.Thread(target=self._listen, args=(worker,), daemon=True).start()
        self.workers.append(worker)
        return worker

    def _listen(self, worker):
        worker.said = []
        for row in worker.stderr:
            worker.said = [*worker.said, row][-30:]

    def _ask(self, worker, cell, runs):
        job = {"workload": cell.workload, "contender": cell.contender, "runs": [asdict(run) for run in runs]}
        job["time"] = any(run.track == "time" for run in runs)
        print(json.dumps(job), file=worker.stdin, flush=True)
        for row in worker.stdout:
            if not row.strip():
                return
            line = json.loads(row)
            with self.changed:
                self.lines.append(line)
                self.write(line)
        worker.wait()
        raise Failed(f"{cell.contender} on {cell.workload}:\n{''.join(worker.said)}")
