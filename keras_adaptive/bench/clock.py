"""Times of alternating calls, so that a disturbance of the machine affects all of them."""

import gc
import statistics
import time
from collections.abc import Callable, Sequence

# Rounds that are not measured, after the first call, which compiles.
WARM_UP = 2


def seconds(call: Callable[[], object]) -> float:
    """How long one call takes."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def rounds(calls: Sequence[Callable[[], object]], repeats: int, tick: Callable[[], object]) -> list[list[float]]:
    """The seconds of each call in each round. A round makes every call once; every second round goes backwards."""
    times: list[list[float]] = [[] for _ in calls]
    order = list(range(len(calls)))
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for number in range(WARM_UP + repeats):
            for place in order:
                took = seconds(calls[place])
                if number >= WARM_UP:
                    times[place].append(took)
            order.reverse()
            tick()
    finally:
        if was_enabled:
            gc.enable()
    return times


def ratio(times: Sequence[float], others: Sequence[float]) -> float:
    """The median over the rounds of the ratio of the two times."""
    return statistics.median(a / b for a, b in zip(times, others, strict=True))
