"""Runs the tests of every other world, each in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import worlds

pytestmark = pytest.mark.on("tensorflow")
HERE = Path(__file__).parent


OTHERS = [world for world in worlds.WORLDS if world != worlds.MAIN]


@pytest.mark.parametrize("world", [pytest.param(w, marks=[pytest.mark.full] * (w in worlds.FULL)) for w in OTHERS])
def test_world(world):
    reason = worlds.missing(world)
    if reason:
        pytest.skip(reason)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    command = [sys.executable, "-m", "pytest", str(HERE), "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        command, env={**environment, **worlds.environment(world)}, capture_output=True, text=True, timeout=1500
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
    assert " passed" in done.stdout
