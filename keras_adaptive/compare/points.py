"""The quasi-random points of the search spaces. They were drawn before any run, and are part of the repository."""

import functools
import json
import zlib
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("points.json")
AXES = 4


def drawn(name: str, count: int) -> list[list[float]]:
    """The first points of a scrambled Halton sequence between 0 and 1 whose seed is the name."""
    from scipy.stats import qmc

    points = qmc.Halton(AXES, scramble=True, rng=np.random.default_rng(zlib.crc32(name.encode()))).random(count)
    return [[round(float(place), 4) for place in point] for point in points]


@functools.cache
def _stored() -> dict[str, list[list[float]]]:
    return json.loads(FILE.read_text("utf-8"))


def of(name: str, count: int) -> list[list[float]]:
    """The points with this name; drawn now if the repository has none, as for a class that is new."""
    found = _stored().get(name) or drawn(name, count)
    return found[:count]
