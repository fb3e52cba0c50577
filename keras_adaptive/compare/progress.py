"""The progress of a comparison. It goes to stderr, so that stdout has only the tables."""

import contextlib
import sys
import time

import keras

from keras_adaptive.compare import protocol
from keras_adaptive.compare.workloads import WORKLOADS

# Updates of the transformer take this many times as long as others.
WEIGHT = {"text": 20, "text-wide": 50, "digits-large-batch": 10}


class Progress:
    """Keras's progress bar over the expected work, with the time that is left.

    Args:
        cells: what is to be done.
        lines: the results so far.
    """

    def __init__(self, cells, lines):
        self.total = sum(_work(cell.workload) * _count(cell, lines) for cell in cells)
        self.done = 0
        self.bar = keras.utils.Progbar(max(self.total, 1), unit_name="work")
        self.begin = time.time()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._show(self.done, finalize=True)

    def tick(self, line):
        """One run is done."""
        self.done += _work(line["workload"])
        self.bar.unit_name = f"work - {line['contender']}, {line['workload']}"
        self._show(min(self.done, self.total - 1))

    def _show(self, done, finalize=None):
        with contextlib.redirect_stdout(sys.stderr):
            self.bar.update(done, finalize=finalize)


def _work(workload):
    return WORKLOADS[workload].steps * WEIGHT.get(workload, 1) // 50


def _count(cell, lines):
    """How many runs a cell has yet to do. What depends on results that are missing is not known: a typical number."""
    try:
        runs = cell.runs(lines)
    except (KeyError, ValueError):
        return 42
    later = (
        30 if any(run.track == "search" for run in runs) else 10 if any(run.track == "target" for run in runs) else 0
    )
    return len(runs) + later


__all__ = ["Progress", "protocol"]
