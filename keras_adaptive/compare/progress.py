"""The progress of a comparison. It goes to stderr, so that stdout has only the tables."""

import contextlib
import sys

import keras

from keras_adaptive.compare import protocol
from keras_adaptive.compare.workloads import WORKLOADS

# A run on these takes as many times as long as its updates would on the others.
WEIGHT = {"text": 20, "text-wide": 50, "digits-large-batch": 10}


class Progress:
    """Keras's progress bar over the expected work, with the time that is left.

    Args:
        cells: what is to be done.
        lines: the results so far.
        how: the protocol.
    """

    def __init__(self, cells, lines, how: protocol.Protocol):
        self.total = max(1, sum(_work(cell.workload) * _count(cell, lines, how) for cell in cells))
        self.done = 0
        self.bar = keras.utils.Progbar(self.total, unit_name="work")

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._show(self.done, finalize=True)

    def tick(self, line):
        """One run is done."""
        self.done = min(self.done + _work(line["workload"]), self.total)
        self.bar.unit_name = f"work - {line['contender']}, {line['workload']}"
        if self.done < self.total:
            self._show(self.done)

    def _show(self, done, finalize=None):
        with contextlib.redirect_stdout(sys.stderr):
            self.bar.update(done, finalize=finalize)


def _work(workload):
    return WORKLOADS[workload].steps * WEIGHT.get(workload, 1) // 50


def _count(cell, lines, how):
    """How many runs a cell has yet to do, those that its next ones decide included."""
    reported = how.held_out if WORKLOADS[cell.workload].settings_of else how.studies * how.fresh
    reported += how.fresh if how.rates and not WORKLOADS[cell.workload].settings_of else 0
    try:
        runs = cell.runs(lines)
    except protocol.Incomplete:
        # What it needs has yet to run; of a contender that is new, nothing has.
        return reported
    tracks = {run.track for run in runs}
    if "target" in tracks:
        return len(runs) + len(protocol.FRESH["target-fresh"])
    return len(runs) + (reported if tracks & {"search", "rates", "defaults"} else 0)
