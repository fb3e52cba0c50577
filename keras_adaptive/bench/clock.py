"""Times of calls that alternate, so that what disturbs the machine disturbs all of them."""

import gc
import statistics
import time
from collections.abc import Callable, Sequence

# After the first call, which compiles.
WARM_UP = 2


def seconds(call: Callable[[], object]) -> float:
    """How long one call takes."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def rounds(calls: Sequence[Callable[[], object]], repeats: int, tick: Callable[[], object]) -> list[list[float]]:
    """For each call its seconds in each round; a round makes every call once, in turns from the first and the last."""
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
    """The median over the rounds of how many times as long the one takes as the other."""
    return statistics.median(a / b for a, b in zip(times, others, strict=True))
