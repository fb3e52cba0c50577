"""A process that trains: `python -m keras_adaptive.compare.worker`, with a job a line on stdin and results on stdout.

A job is a JSON object with the names of a workload and a contender, and a list of `runs`. For each run one line comes
back, and then an empty one. The job with `"time": true` measures the time of a step instead.
"""

import datetime
import importlib.metadata
import json
import platform
import sys
from typing import Any

import keras
import numpy as np

import keras_adaptive
from keras_adaptive.compare import lines, protocol, rules
from keras_adaptive.compare.backends.jax import Trainer, device
from keras_adaptive.compare.contenders import find
from keras_adaptive.compare.workloads import WORKLOADS

ROUNDS = 9
REFERENCE = "AdamW"


class Worker:
    """Answers jobs. The trainer of the last job is used again, since its step is compiled.

    Args:
        lanes: runs at once.
    """

    def __init__(self, lanes: int):
        self.lanes = lanes
        self.name: tuple[str, str] | None = None
        self.trainer: Any = None
        self.reference: Any = None

    def answers(self, job):
        """The lines of a job."""
        workload, contender = job["workload"], job["contender"]
        if self.name != (workload, contender):
            self.trainer = Trainer(WORKLOADS[workload], find(contender), self.lanes)
            self.name = workload, contender
        if job.get("time"):
            yield self._line(protocol.Run(workload, contender, "time", 0, 0)) | self._times()
            return
        runs = [protocol.Run(**run) for run in job["runs"]]
        given = [(protocol.settings(find(contender), run.track, run.number), run.seed, run.reads_test) for run in runs]
        for run, (settings, _, _), trained in zip(runs, given, self.trainer.run(given), strict=True):
            line = self._line(run) | {"settings": settings, "curve": lines.numbers(trained.curve)}
            yield line | ({} if trained.test is None else {"test": lines.numbers([trained.test])[0]})

    def _line(self, run):
        return {
            **vars(run),
            "state_bytes": self.trainer.state_bytes,
            "parameters": sum(int(np.prod(v.shape)) for v in self.trainer.model.trainable_variables),
            "setup": self.trainer.workload.setup,
            "data": self.trainer.data.sha256,
            "rule": rules.now(run.contender),
            "device": device(),
            "versions": versions(),
            "date": datetime.date.today().isoformat(),
        }

    def _times(self):
        """Seconds of a step, and those of AdamW measured in turn with it."""
        workload = self.trainer.workload
        if self.reference is None or self.reference.workload is not workload:
            self.reference = Trainer(workload, find(REFERENCE))
        pairs = [(self.trainer.seconds_per_step(), self.reference.seconds_per_step()) for _ in range(ROUNDS)]
        ours, theirs = np.median(pairs, axis=0)
        return {"seconds": float(f"{ours:.4g}"), "seconds_of_adamw": float(f"{theirs:.4g}")}


def versions() -> dict[str, str]:
    found = {name: importlib.metadata.version(name) for name in ("jax", "keras")}
    return {"python": platform.python_version(), "keras_adaptive": keras_adaptive.__version__, **found}


def main():
    keras.config.set_floatx("float32")
    worker = Worker(int(sys.argv[1]))
    # What other code prints must not come between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    for row in sys.stdin:
        for line in worker.answers(json.loads(row)):
            print(json.dumps(line), file=answers, flush=True)
        print(file=answers, flush=True)


if __name__ == "__main__":
    main()
