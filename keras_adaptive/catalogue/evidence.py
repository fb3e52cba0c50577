"""What the stored runs of `compare` say about one class."""

import functools

import numpy as np

from keras_adaptive.compare import lines as files
from keras_adaptive.compare import protocol
from keras_adaptive.compare.contenders import CONTENDERS
from keras_adaptive.compare.report import REFERENCE
from keras_adaptive.compare.results import Results
from keras_adaptive.compare.workloads import WORKLOADS

HEAD = ("problem", "best rate of 7", "loss, defaults", "loss, 7 rates", "loss, 15 trials", f"{REFERENCE}'s losses")
# From the page of a class.
RULES = "../compare/README.md"
NOTE = (
    "The best of seven learning rates half a decade apart, and the median loss on the test data: with the defaults, "
    "with the best of the seven rates, with the best of 15 trials. Smaller is better. "
    f"[The problems, the rules and all optimizers]({RULES})."
)


@functools.cache
def _results() -> Results:
    return Results(files.read(files.STORED), protocol.FULL, list(WORKLOADS))


def parts(name: str, table) -> list:
    """The tables of the contenders of a class, and how to read them; nothing if there is none.

    Args:
        name: of the class.
        table: makes a table of a head and lines.
    """
    results = _results()
    found = [one for one in CONTENDERS.values() if one.cls == name and one.name in results.names]
    made = []
    for one in found:
        if len(found) > 1:
            made.append(f"{one.name}:")
        made.append(table(HEAD, [_line(results, one.name, workload) for workload in results.workloads]))
    return [*made, NOTE] if made else []


def _line(results, name, workload):
    rate = results.chosen(name, workload, "fresh-rates")[0]["settings"]["learning_rate"]
    ways = ("defaults", "rate", "trials")
    ours, theirs = (
        [f"{np.median(results.losses(one, workload, way)):.3g}" for way in ways] for one in (name, REFERENCE)
    )
    return [workload, f"{rate:.3g}", *ours, ", ".join(theirs)]
