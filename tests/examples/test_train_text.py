"""A byte-level language model, and its presets."""

import numpy as np
import pytest
from scripts import ROOT, everywhere, is_picture, picture_of, refused, result_of

pytestmark = pytest.mark.on("tensorflow")
SHORT = ["--steps", 60, "--batch-size", 16, "--context", 32, "--evaluations", 2]


@everywhere
def test_it_trains_on_every_backend(run, tmp_path, backend, arguments, strategy, replicas):
    """After so few steps it knows more than the frequency of each byte."""
    done = run("train_text.py", *SHORT, *arguments, backend=backend)
    result = result_of(done)
    assert 2 < float(result["bits_per_byte"]) < float(result["unigram"])
    assert 3 < float(result["bigram"]) < float(result["unigram"]) < 5
    facts = {"optimizer": "AdamW", "backend": backend, "strategy": strategy, "replicas": replicas, "steps": "60"}
    assert result.items() >= facts.items()
    assert "━━━" in done.stdout, "Keras's progress bar"
    assert is_picture(picture_of(done))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "optimizer"),
    [
        pytest.param(["--preset", "muon"], "Muon", marks=pytest.mark.variant),
        pytest.param(["--preset", "soap"], "Soap", marks=pytest.mark.variant),
        pytest.param(
            ["--preset", "schedule-free", "--learning-rate", 0.02], "ScheduleFreeAdamW", marks=pytest.mark.full
        ),
        pytest.param(["--optimizer", "rmsprop", "--text", ROOT / "README.md"], "RMSprop", marks=pytest.mark.variant),
    ],
)
def test_presets_and_others(run, arguments, optimizer):
    result = result_of(run("train_text.py", *SHORT, *arguments, backend="jax"))
    assert result["optimizer"] == optimizer
    assert float(result["bits_per_byte"]) < 5


def test_the_frequencies_of_bytes(monkeypatch):
    """Of an alternating text: one bit by single bytes, none by pairs, except that all pairs count as seen once."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    import text

    alternating = np.frombuffer(b"ab" * 100_000, "uint8")
    assert text.unigram_bits(alternating, alternating) == pytest.approx(1, abs=0.01)
    assert text.bigram_bits(alternating, alternating) == pytest.approx(0, abs=0.01)
    inputs, targets = text.in_windows(np.arange(11, dtype="uint8"), 4)
    np.testing.assert_array_equal(inputs, [[0, 1, 2, 3], [4, 5, 6, 7]])
    np.testing.assert_array_equal(targets, inputs + 1)


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("train_text.py", "--learning-rate RATE 0 or more (default: that of the preset, or of the class)"),
        ("train_imagenet.py", "--learning-rate RATE 0 or more (default: that of the recipe, or of the class)"),
        ("train_imagenet.py", "Default: 32 images in a step and 5 epochs for the digits, else 256 images"),
    ],
)
def test_the_help_says_what_a_preset_or_recipe_decides(run, script, text):
    assert text in " ".join(run(script, "--help").stdout.split())


@pytest.mark.full
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "adam"], "argument --preset: invalid choice: 'adam'"),
        (["--preset", "muon", "--optimizer", "Adam"], "--preset is an optimizer already"),
        (["--text", "missing.txt"], "--text must be a file that can be read. Received: missing.txt"),
        (["--steps", 25], "--steps must be a multiple of --evaluations. Received: 25 for 10"),
        (["--context", 50000], "--text must have more than 500000 bytes here. Received: "),
        (["--batch-size", 1000000], "--batch-size must be at most 6"),
        (["--optimizer", "Addam"], "unknown --optimizer 'Addam'; the nearest names are Adam, "),
    ],
)
def test_a_wrong_argument_is_refused_in_one_line(run_here, arguments, message):
    refused(run_here("train_text.py", *arguments), message)
