"""The training step that examples without `fit` share."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from cluster import configurations
from scripts import run_at_once

pytestmark = pytest.mark.on("tensorflow")
SCRIPT = Path(__file__).with_name("loop_script.py")


def ends(run, backend, *arguments):
    return said_by(run(SCRIPT, *arguments, backend=backend))


def said_by(done):
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("backend", "arguments"),
    [
        ("jax", []),
        # A strategy of one replica is one too.
        pytest.param("tensorflow", ["--strategy", "mirrored"], marks=pytest.mark.full),
        pytest.param("torch", [], marks=pytest.mark.full),
    ],
)
def test_it_trains_like_keras_and_can_restart(run, backend, arguments):
    """To the rounding: `train_on_batch` is the same step."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    one = ends(run, backend, *arguments)
    np.testing.assert_allclose(one["first"], one["keras"], atol=1e-5)
    np.testing.assert_array_equal(one["first"], one["again"])
    assert np.max(np.abs(np.subtract(one["first"], one["other"]))) > 0.01


@pytest.mark.full
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_replicas_train_like_one_device(run, backend):
    trained_alike(ends(run, backend), ends(run, backend, "--replicas", 2))


@pytest.mark.full
def test_two_workers_train_like_one_device(run, tmp_path):
    one = ends(run, "tensorflow")
    for worker in run_at_once(SCRIPT, configurations(2), ["--strategy", "multiworker"], tmp_path):
        trained_alike(one, said_by(worker))


def trained_alike(one, other):
    assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
    for name in ("first", "again", "other"):
        np.testing.assert_allclose(one[name], other[name], atol=1e-5)
