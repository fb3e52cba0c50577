"""The tests of every other world, each run in a process of its own."""

import pytest
import worlds

pytestmark = pytest.mark.on("tensorflow")
NOTHING_TO_RUN = 5

OTHERS = [world for world in worlds.WORLDS if world != worlds.MAIN]


def rows():
    """`-m` does not reach the other worlds, so the full run asks for their `full` tests by rows of its own."""
    usual, full = "not full and not variant", "full and not variant"
    for world in OTHERS:
        yield pytest.param(world, usual, id=world, marks=[pytest.mark.full] * (world in worlds.FULL))
        if world not in worlds.FULL:
            yield pytest.param(world, full, id=f"{world}-full", marks=pytest.mark.full)


@pytest.mark.parametrize(("world", "chosen"), rows())
def test_world(elsewhere, world, chosen):
    reason = worlds.missing(world)
    if reason:
        pytest.skip(reason)
    status, output = elsewhere.result(world, chosen)
    if chosen.startswith("full") and status == NOTHING_TO_RUN:
        pytest.skip("no test of this world is marked `full`")
    assert status == 0, output[-12000:]
    assert " passed" in output
