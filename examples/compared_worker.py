"""The comparisons of keras_compared.py by name, and the process that measures some of them on one backend."""

import json
import logging
import sys
import time
from pathlib import Path

import strategies
from compared_counting import Accumulation, Bfloat16Weights, LambWithDecay
from compared_layers import MuonOnAttention, RepeatedWords
from compared_replicas import ClippingOnReplicas, InfinityOnOneReplica
from compared_state import ResumedAfterUnfreezing, ScheduleFree

COMPARISONS = {
    "bfloat16": Bfloat16Weights(),
    "accumulation": Accumulation(),
    "muon": MuonOnAttention(),
    "clipping": ClippingOnReplicas(),
    "infinity": InfinityOnOneReplica(),
    "unfrozen": ResumedAfterUnfreezing(),
    "schedule-free": ScheduleFree(),
    "lamb": LambWithDecay(),
    "words": RepeatedWords(),
}


def main():
    """Takes the order of keras_compared.py, and writes the numbers to the file that it names."""
    import keras
    from lecture_lab import Lab

    # What is restored from a file, for every seed.
    logging.getLogger("keras_adaptive").setLevel(logging.ERROR)
    order = json.loads(sys.argv[1])
    replicas = order["replicas"]
    devices = strategies.take(*(("mirrored", replicas) if replicas > 1 else ("cpu", None)))
    lab, numbers = Lab(devices, order["seeds"], order["quick"]), {}
    for name in order["names"]:
        begin = time.perf_counter()
        numbers[name] = COMPARISONS[name].measure(lab)
        where = keras.backend.backend() + (f", {replicas} replicas" if replicas > 1 else "")
        print(f"{name}: {where}, seeds {len(lab.seeds)}, {time.perf_counter() - begin:.1f} s", flush=True)
    Path(order["file"]).write_text(json.dumps(numbers), "utf-8")


if __name__ == "__main__":
    main()
