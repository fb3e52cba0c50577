"""How much work there is, for the progress bar."""

from keras_adaptive.compare import protocol
from keras_adaptive.compare.workloads import WORKLOADS

# A run on these takes as many times as long as its updates would on the others.
WEIGHT = {"text": 20, "text-wide": 50, "digits-large-batch": 10}


def total(cells, lines, how: protocol.Protocol) -> int:
    """The expected work of all cells.

    Args:
        cells: what is to be done.
        lines: the results so far.
        how: the protocol.
    """
    return max(1, sum(of_run(cell.workload) * _count(cell, lines, how) for cell in cells))


def of_run(workload: str) -> int:
    """The work of a run."""
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
