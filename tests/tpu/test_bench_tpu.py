"""What `bench --tpu-compile` reports, in a process that has the compiler's environment."""

import json
import subprocess
import sys

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


@pytest.mark.full
@pytest.mark.on("tpu-jax")
def test_reports_one_of_several_devices(tmp_path):
    """Of the matrices of a transformer with three layers, Muon gives each of eight devices its share."""
    written = tmp_path / "bench.json"
    asked = ["--optimizers", "Muon,Muon:shard_state=True", "--workloads", "mixed", "--size", "0.25"]
    command = [sys.executable, "-m", "keras_adaptive", "bench", "--tpu-compile", "v5e:2x4", *asked]
    done = subprocess.run([*command, "--output", str(written)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    ours, theirs, sharded, _ = json.loads(written.read_text(encoding="utf-8"))["results"]
    # Twelve matrices of 128 x 128 are two on each device, with four computed twice; three of 512 x 128 one on each.
    received = 4 * (16 * 128 * 128 + 2 * 8 * 512 * 128)
    assert ours["collective_bytes"] == {"all-gather": received}
    assert theirs["collective_bytes"] == {}
    assert ours["operations"] < theirs["operations"] / 3
    assert sharded["operations"] < theirs["operations"] / 3
    # Weights and gradients are on every device, m is in shares; embeddings, vectors and what eight does not divide add.
    assert sharded["floor_bytes"] < 12 + (ours["floor_bytes"] - 12) / 7


@pytest.mark.on("tpu-tensorflow")
def test_several_devices_need_jax(capsys):
    with pytest.raises(SystemExit):
        main(["bench", "--tpu-compile", "v5e:2x4", "--optimizers", "SGD", "--workloads", "large"])
    assert "need KERAS_BACKEND=jax" in capsys.readouterr().err
