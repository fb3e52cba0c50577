"""What `bench --tpu-compile` reports, in a process that has the compiler's environment."""

import json

import keras
import pytest
import worlds

from keras_adaptive.__main__ import main
from keras_adaptive.bench import tpu

pytestmark = pytest.mark.on("tpu-jax", "tpu-tensorflow")
MOVED = {"SGD": 12, "Adam": 28}


@pytest.fixture(autouse=True)
def compiler_is_there():
    reason = worlds.missing(worlds.current())
    if reason:
        pytest.skip(reason)


def test_reports_the_bytes_of_our_class_and_of_keras(tmp_path, capsys):
    written, drawn = tmp_path / "bench.json", tmp_path / "bench.png"
    asked = ["--optimizers", ",".join(MOVED), "--workloads", "large", "--size", "0.05"]
    assert main(["bench", "--tpu-compile", "v5e", *asked, "--output", str(written), "--picture", str(drawn)]) == 0
    results = json.loads(written.read_text(encoding="utf-8"))["results"]
    assert [(row["optimizer"], row["by"]) for row in results] == [
        (name, by) for name in MOVED for by in ("keras_adaptive", "Keras")
    ]
    for row in results:
        assert row["hbm_bytes"] == pytest.approx(MOVED[row["optimizer"]], rel=0.02)
        assert row["floor_bytes"] == MOVED[row["optimizer"]]
        assert min(row["temporary_bytes"], row["compile_seconds"]) >= 0
    assert f"{results[0]['hbm_bytes']:.1f}" in capsys.readouterr().out
    assert drawn.exists()


def test_optimizers_that_do_not_compile_get_a_row(capsys, monkeypatch):
    class Refused(keras.optimizers.SGD):
        def update_step(self, gradient, variable, learning_rate):
            raise ValueError("nothing of it")

    monkeypatch.setattr(tpu.peers, "of_keras", lambda specified: Refused())
    asked = ["--optimizers", "SGD", "--workloads", "large", "--size", "0.001"]
    assert main(["bench", "--tpu-compile", "v5e", *asked]) == 0
    printed, errors = capsys.readouterr()
    assert "failed" in printed
    assert "nothing of it" in errors
