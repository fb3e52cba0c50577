"""Reinforcement learning in a custom loop."""

import numpy as np
import pytest
from scripts import ROOT, everywhere, is_picture, picture_of, refused, result_of

pytestmark = pytest.mark.on("tensorflow")


@everywhere
def test_cartpole_learns_on_every_backend(run, tmp_path, backend, arguments, strategy, replicas):
    """Random pushes keep the pole up for about 22 steps."""
    done = run("train_cartpole.py", "--updates", 20, *arguments, backend=backend)
    result = result_of(done)
    assert float(result.pop("mean_return")) > 150
    assert float(result.pop("first_return")) < 60
    assert float(result.pop("seconds")) > 0
    facts = {"optimizer": "Adam", "backend": backend, "strategy": strategy, "replicas": replicas, "steps": "20"}
    assert result == facts
    assert "update 20: mean return " in done.stdout
    assert is_picture(picture_of(done))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.full
def test_the_defaults_keep_the_pole_up(run):
    assert float(result_of(run("train_cartpole.py", backend="jax"))["mean_return"]) >= 475


@pytest.fixture
def cartpole(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    import train_cartpole

    return train_cartpole


def test_the_return_of_an_episode(cartpole):
    """Discounted: one episode fell after 3 steps, the other was cut off and counts as endless."""
    played = np.zeros((cartpole.LONGEST, 2), bool)
    played[:3, 0] = played[:, 1] = True
    got = cartpole.advantages(played, np.array([False, True]))
    gamma = cartpole.DISCOUNT
    returns = np.full(played.shape, 1 / (1 - gamma))
    returns[:3, 0] = [1 + gamma + gamma**2, 1 + gamma, 1]
    known = returns[played]
    expected = (known - known.mean()) / (known.std() + 1e-3) * played.size / played.sum()
    np.testing.assert_allclose(got[played], expected, rtol=1e-4)
    assert not got[~played].any()


def test_the_network_in_numpy_is_the_same(cartpole):
    import keras

    model, observations = cartpole.network(), np.random.default_rng(1).normal(size=(7, 4)).astype("float32")
    got = cartpole.logits(model.get_weights(), observations)
    np.testing.assert_allclose(got, keras.ops.convert_to_numpy(model(observations)), atol=1e-6)


@pytest.mark.full
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--optimizer", "Addam"], "unknown --optimizer 'Addam'; the nearest names are Adam, "),
        (["--updates", 0], "--updates: must be a whole number, at least 1. Received: 0"),
        (["--batch-size", 15, "--replicas", 2], "--batch-size must be a multiple of the number of replicas"),
    ],
)
def test_a_wrong_argument_is_refused_in_one_line(run_here, arguments, message):
    refused(run_here("train_cartpole.py", *arguments), message)
