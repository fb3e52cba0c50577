"""The processes that train, and who does what next."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from keras_adaptive.compare.protocol import Run

# Two processes with one thread each take less time than one with two.
ONE_THREAD = {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
    "OMP_NUM_THREADS": "1",
    "JAX_ENABLE_X64": "0",
}
# The compiler looks for the fastest of several programs, which takes longer than these small runs.
ACCELERATOR = {
    "XLA_FLAGS": "--xla_gpu_autotune_level=0",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    # Otherwise products would have ten bits.
    "JAX_DEFAULT_MATMUL_PRECISION": "highest",
    "JAX_ENABLE_X64": "0",
}
COMMAND = [sys.executable, "-m", "keras_adaptive.compare.worker"]


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


class Worker:
    """A process that trains, and the last lines that it wrote to stderr."""

    def __init__(self, process: subprocess.Popen):
        self.process = process
        self.said: list[str] = []
        # A pipe that nobody reads would stop the process when it is full.
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def _listen(self):
        for row in self.process.stderr or ():
            self.said = [*self.said, row][-30:]

    def answers(self, job) -> Iterator[dict]:
        """The lines of a job.

        Raises:
            Failed: the process ended before its answer did.
        """
        try:
            print(json.dumps(job), file=self.process.stdin, flush=True)
            for row in self.process.stdout or ():
                if not row.strip():
                    return
                yield json.loads(row)
        except BrokenPipeError:
            # What it said on stderr is the reason.
            pass
        status = self.process.wait()
        self.listener.join()
        raise Failed(f"the process ended with status {status}\n{''.join(self.said)}")

    def end(self) -> None:
        self.process.kill()
        self.listener.join()
        # It closes the pipes and waits.
        with self.process:
            pass


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
        self.stopped = False
        self.workers: list[Worker] = []

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
            # After an interrupt the threads end as well, since no cell is left for them.
            with self.changed:
                self.stopped = True
                self.changed.notify_all()
            for worker in self.workers:
                worker.process.kill()
            for thread in threads:
                thread.join()
            for worker in self.workers:
                worker.end()

    def _work(self, cells):
        worker = None
        while (cell := self._next(cells)) is not None:
            try:
                while runs := self._runs(cell):
                    worker = worker or self._started()
                    self._ask(worker, cell, runs)
            except Exception as error:
                # In a thread it would be lost. The process may still be answering.
                if worker is not None:
                    worker.process.kill()
                worker = None
                self._end(cell, f"{type(error).__name__}: {error}")
            else:
                self._end(cell)

    def _end(self, cell, failure=None):
        with self.changed:
            cell.done, cell.failed = failure is None, failure is not None
            self.failures += [f"{cell.contender} on {cell.workload}: {failure}"] if failure else []
            self.changed.notify_all()

    def _runs(self, cell):
        with self.changed:
            return cell.runs(self.lines)

    def _next(self, cells):
        """A cell whose needs are complete; None if none is left."""
        with self.changed:
            while not self.stopped and (waiting := [cell for cell in cells if not cell.taken]):
                for cell in waiting:
                    if failed := [other for other in cell.needs if other.failed]:
                        cell.taken = True
                        self._end(cell, f"it needs {failed[0].contender} on {failed[0].workload}")
                    elif all(other.done for other in cell.needs):
                        cell.taken = True
                        return cell
                self.changed.wait(1.0)
        return None

    def _started(self):
        environment = {**os.environ, **(ONE_THREAD if self.lanes == 1 else ACCELERATOR), "KERAS_BACKEND": "jax"}
        process = subprocess.Popen(
            [*COMMAND, str(self.lanes)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.workers.append(started := Worker(process))
        return started

    def _ask(self, worker, cell, runs):
        job = {"workload": cell.workload, "contender": cell.contender, "runs": [asdict(run) for run in runs]}
        job["time"] = any(run.track == "time" for run in runs)
        for line in worker.answers(job):
            with self.changed:
                self.lines.append(line)
                self.write(line)
