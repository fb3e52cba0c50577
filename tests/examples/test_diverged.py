"""A training that diverges ends with one line, exit code 1 and no file."""

import re

import pytest
from scripts import ROOT, refused

pytestmark = pytest.mark.on("tensorflow")


@pytest.mark.parametrize(
    ("script", "arguments", "backend", "where"),
    [
        # The loss stays finite here, as a layer normalizes; it is 1e13.
        ("train_image.py", ["--epochs", 1, "--learning-rate", 1e6], "tensorflow", r"step 2 of epoch 1, .* rate 1e\+06"),
        # A schedule: the rate of that step.
        pytest.param(
            *(
                "train_text.py",
                ["--steps", 10, "--learning-rate", 1e30],
                "jax",
                r"in the test after epoch 2, .* rate 8.89e\+29",
            ),
            marks=pytest.mark.variant,
        ),
        ("train_cartpole.py", ["--updates", 3, "--learning-rate", 1e38], "tensorflow", r"update 2, .* rate 1e\+38"),
        pytest.param(
            *(
                "train_cartpole.py",
                ["--replicas", 2, "--updates", 3, "--learning-rate", 1e38],
                "tensorflow",
                "update 2",
            ),
            marks=pytest.mark.variant,
        ),
        pytest.param(
            *("train_embeddings.py", ["--rows", 3000, "--learning-rate", 1e6], "jax", "step 2 of Keras's Adam"),
            marks=pytest.mark.variant,
        ),
        pytest.param(
            *("finetune_hub.py", ["--frozen-rate", 1e30], "jax", r"step 2 of epoch 1, .* a smaller --frozen-rate$"),
            marks=pytest.mark.variant,
        ),
    ],
)
def test_a_training_that_diverges_ends_in_one_line(run, tmp_path, script, arguments, backend, where):
    done = run(script, *arguments, backend=backend)
    refused(done, "the training diverges: the loss is ", code=1)
    assert re.search(where, done.stderr.splitlines()[-1])
    assert list(tmp_path.iterdir()) == []
    assert not list(tmp_path.with_name(f"{tmp_path.name}_temporary").rglob("*.png"))


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -float("inf"), 2e6, -2e6])
def test_the_loss_of_the_test_counts_too(monkeypatch, capsys, loss):
    monkeypatch.syspath_prepend(ROOT / "examples")
    import diverged
    import keras

    import keras_adaptive

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(optimizer=keras_adaptive.SGD(0.5))
    callback = diverged.StopIfDiverged("--rate")
    callback.set_model(model)
    callback.on_epoch_begin(4)
    callback.on_train_batch_end(0, {"loss": 1e6})
    callback.on_epoch_end(4, {"loss": 1.0})
    with pytest.raises(SystemExit) as ended:
        callback.on_epoch_end(4, {"loss": 1.0, "val_loss": loss})
    assert ended.value.code == 1
    line = capsys.readouterr().err
    assert (
        f"the loss is {loss:.3g} in the test after epoch 5, with the learning rate 0.5. Choose a smaller --rate" in line
    )
