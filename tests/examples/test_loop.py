"""The training step that examples without `fit` share."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.on("tensorflow")


def ends(run, backend, *arguments):
    done = run(Path(__file__).with_name("loop_script.py"), *arguments, backend=backend)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "backend", ["jax", *(pytest.param(each, marks=pytest.mark.full) for each in ("tensorflow", "torch"))]
)
def test_it_trains_as_keras_does_and_begins_again(run, backend):
    """To the rounding: `train_on_batch` is the same step."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    one = ends(run, backend)
    np.testing.assert_allclose(one["first"], one["keras"], atol=1e-5)
    np.testing.assert_array_equal(one["first"], one["again"])
    assert np.max(np.abs(np.subtract(one["first"], one["other"]))) > 0.01


@pytest.mark.full
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_replicas_train_as_one_device_does(run, backend):
    one, two = ends(run, backend), ends(run, backend, "--replicas", 2)
    assert one["loss"] == pytest.approx(two["loss"], rel=1e-4)
    for name in ("first", "again", "other"):
        np.testing.assert_allclose(one[name], two[name], atol=1e-5)
