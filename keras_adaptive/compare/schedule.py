"""The learning rate of every step of a run, and the examples in its batches."""

import numpy as np

# The share of the budget over which the learning rate rises.
WARMUP = 0.05


def rates(settings, steps: int) -> np.ndarray:
    """The learning rate of each step, float32.

    Args:
        settings: `learning_rate`, the peak, and one of three schedules. With `horizon`, a warm-up and a cosine that is
            0 from that fraction of the steps on; with horizon 0, a warm-up and then the peak; without, the peak.
        steps: the budget.
    """
    peak, horizon = settings["learning_rate"], settings.get("horizon")
    t = np.arange(steps)
    if horizon is None:
        return np.full(steps, peak, "float32")
    rising = np.minimum(1.0, (t + 1) / (WARMUP * steps))
    if not horizon:
        return (peak * rising).astype("float32")
    begin, end = WARMUP * steps, horizon * steps
    way = np.clip((t - begin) / (end - begin), 0.0, 1.0)
    return (peak * rising * 0.5 * (1 + np.cos(np.pi * way))).astype("float32")


def batches(seed: int, examples: int, batch: int, steps: int) -> np.ndarray:
    """The examples of each batch, in a new order in every pass over the data."""
    random = np.random.default_rng(seed)
    whole = examples // batch
    passes = [random.permutation(examples)[: whole * batch] for _ in range(-(-steps // whole))]
    return np.concatenate(passes).reshape(-1, batch)[:steps].astype("int32")
