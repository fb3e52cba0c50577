"""The training of tests/killed.py, stopped by an error in mid-epoch and resumed in the same process.

The new model has automatic names that differ from those that were saved.
"""

import keras
import killed
import pytest
from cases import CASES
from support import difference


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """All variables where the training was never stopped, which is the same for every way to keep them."""
    return killed.train(CASES[-1], tmp_path_factory.mktemp("whole"), "epoch", kill_at=0)


@pytest.mark.parametrize(("how", "begins"), [("batches", 12), ("epoch", 8), ("checkpoint", 10)])
@pytest.mark.full_on("tensorflow")
def test_stopped_and_resumed_training_matches_uninterrupted_training(how, begins, whole, tmp_path, monkeypatch, capsys):
    def stop(process, signal):
        raise Stopped

    monkeypatch.setattr(killed.os, "kill", stop)
    with pytest.raises(Stopped):
        killed.train(CASES[-1], tmp_path, how, kill_at=13)
    resumed = killed.train(CASES[-1], tmp_path, how, kill_at=0)
    assert f"begins after {begins} steps" in capsys.readouterr().out
    assert difference(resumed, whole) == 0.0


def test_a_weights_file_has_the_state_too(whole, tmp_path):
    """By ModelCheckpoint(save_weights_only=True), into a model that was not trained before."""
    model, data = killed.model_of(CASES[-1]), killed.Data(killed.EPOCH)
    path = str(tmp_path / "{epoch}.weights.h5")
    keeps = keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
    model.fit(data, epochs=2, callbacks=[keeps], verbose=0, shuffle=False)
    other = killed.model_of(CASES[-1])
    other.load_weights(path.format(epoch=2))
    assert other.optimizer.restored.complete
    other.fit(data, epochs=1, verbose=0, shuffle=False)
    assert difference(killed.values([*other.variables, *other.optimizer.variables]), whole) == 0.0
