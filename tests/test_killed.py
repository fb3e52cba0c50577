"""Training that is killed in mid-epoch and resumed in a new process ends like uninterrupted training."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import worlds
from support import difference

pytestmark = [pytest.mark.full, pytest.mark.on("tensorflow", "jax")]
SCRIPT = Path(__file__).with_name("killed.py")


def run(folder, how, kill_at, output):
    folder.mkdir(exist_ok=True)
    command = [sys.executable, str(SCRIPT), str(folder), how, str(kill_at), str(output)]
    environment = {**os.environ, **worlds.environment(worlds.current())}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize(
    ("how", "begins"), [("batches", 12), pytest.param("epoch", 8, marks=pytest.mark.variant), ("checkpoint", 10)]
)
def test_killed_and_resumed_training_matches_uninterrupted_training(how, begins, tmp_path):
    killed = run(tmp_path / "a", how, 13, tmp_path / "never.npz")
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert not (tmp_path / "never.npz").exists()
    resumed = run(tmp_path / "a", how, 0, tmp_path / "resumed.npz")
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert f"begins after {begins} steps" in resumed.stdout
    whole = run(tmp_path / "b", how, 0, tmp_path / "whole.npz")
    assert whole.returncode == 0, whole.stderr[-2000:]
    assert "begins after 0 steps" in whole.stdout
    with np.load(tmp_path / "resumed.npz") as a, np.load(tmp_path / "whole.npz") as b:
        assert difference(list(a.values()), list(b.values())) == 0.0
