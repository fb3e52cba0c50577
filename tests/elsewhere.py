"""Runs of pytest in other worlds, beside this one."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import worlds

SECONDS = 3000


class Elsewhere:
    """Runs the tests of other worlds one after the other, while this process goes on.

    A run is known by its world and by the marker expression that chooses its tests.
    """

    def __init__(self):
        self._queue = ThreadPoolExecutor(max_workers=1)
        self._runs = {}
        self._running = None

    def begin(self, world, chosen):
        """Puts a run into the queue, once."""
        if (world, chosen) not in self._runs and worlds.missing(world) is None:
            self._runs[world, chosen] = self._queue.submit(self._run, world, chosen)

    def result(self, world, chosen):
        """Waits for the run: its exit status and what it printed."""
        self.begin(world, chosen)
        return self._runs[world, chosen].result()

    def closing_lines(self):
        """What pytest said last in every run that has ended."""
        for (world, chosen), run in self._runs.items():
            if run.done() and not run.cancelled():
                yield f"{world}, {chosen}: {run.result()[1].strip().splitlines()[-1]}"

    def close(self):
        """Ends what is still running; nothing else begins."""
        self._queue.shutdown(wait=False, cancel_futures=True)
        if self._running is not None:
            self._running.kill()

    def _run(self, world, chosen):
        here = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        options = ["-q", "-m", chosen, "-p", "no:cacheprovider", "-p", "no:xdist"]
        self._running = subprocess.Popen(
            [sys.executable, "-m", "pytest", str(Path(__file__).parent), *options],
            env={**here, **worlds.environment(world)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            output, _ = self._running.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            self._running.kill()
            output = f"{self._running.communicate()[0]}\nended after {SECONDS} s"
        status, self._running = self._running.returncode, None
        return status, output
