"""Fine-tuning a KerasHub model in four ways."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
from scripts import ROOT, environment_of, is_picture, picture_of, refused, result_of

pytestmark = pytest.mark.on("tensorflow")
NAMES = ("head only", "all layers", "LoRA", "LoRA on int8")
WAYS = ("head", "all", "lora", "int8")
needs_keras_hub = pytest.mark.skipif(
    importlib.util.find_spec("keras_hub") is None, reason="the extra keras-adaptive[keras-hub] is not installed"
)


@needs_keras_hub
@pytest.mark.parametrize(
    ("backend", "arguments", "strategy", "replicas"),
    [
        ("tensorflow", [], "cpu", "1"),
        pytest.param("jax", [], "cpu", "1", marks=pytest.mark.variant),
        pytest.param("jax", ["--replicas", 2], "DataParallel", "2", marks=pytest.mark.variant),
        pytest.param("tensorflow", ["--replicas", 2], "MirroredStrategy", "2", marks=pytest.mark.variant),
    ],
)
def test_a_quick_try(run, tmp_path, backend, arguments, strategy, replicas):
    """The optimizer stores two float32 numbers for each parameter that is trained; int8 makes the weights small."""
    done = run("finetune_kerashub.py", "--quick", *arguments, backend=backend)
    result = result_of(done)
    facts = {"optimizer": "AdamW", "backend": backend, "strategy": strategy, "replicas": replicas, "steps": "5"}
    assert result.items() >= facts.items()
    assert all(0 <= float(result[f"{way}_accuracy"]) <= 1 for way in WAYS)
    rows = {name: line for line in done.stdout.splitlines() for name in NAMES if line.startswith(f"{name}  ")}
    cells = {name: [cell.replace(",", "") for cell in rows[name][len(name) :].split()] for name in NAMES}
    trained = {name: int(cells[name][1]) for name in NAMES}
    assert trained["head only"] < trained["LoRA"] == trained["LoRA on int8"] < trained["all layers"] / 10
    for way, name in zip(WAYS, NAMES, strict=True):
        assert int(result[f"{way}_state"]) == int(cells[name][2]) == 8 * trained[name]
    weights = {name: int(cells[name][4]) for name in NAMES}
    assert weights["LoRA on int8"] < weights["LoRA"] / 3
    assert "Warning" not in done.stderr
    assert is_picture(picture_of(done))
    assert list(tmp_path.iterdir()) == []


@needs_keras_hub
@pytest.mark.variant
def test_all_layers_beat_lora_and_a_head(run):
    """On 512 pieces, each of one of eight packages. One seed cannot tell more."""
    result = result_of(run("finetune_kerashub.py", backend="jax"))
    head, everything, lora, int8 = (float(result[f"{way}_accuracy"]) for way in WAYS)
    assert head > 0.25
    assert everything > max(head, lora, int8) + 0.05
    assert abs(lora - int8) < 0.05


SAVE_PRESET = """
import sys
import keras_hub
words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "def", "class", "return", "self", "(", ")", ":", "=", "import"]
sizes = dict(num_layers=1, num_heads=2, hidden_dim=16, intermediate_dim=24, max_sequence_length=32)
keras_hub.models.BertBackbone(vocabulary_size=len(words), **sizes).save_to_preset(sys.argv[1])
keras_hub.models.BertTokenizer(vocabulary=words).save_to_preset(sys.argv[1])
"""


@needs_keras_hub
def test_a_preset_with_a_tokenizer(run, tmp_path_factory):
    """A BERT: its backbone returns two outputs, and it asks for segments."""
    if importlib.util.find_spec("tensorflow_text") is None:
        pytest.skip("tensorflow-text, which the tokenizer needs, is not installed")
    folder = tmp_path_factory.mktemp("preset") / "bert"
    command = [sys.executable, "-c", SAVE_PRESET, str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=300, env=environment_of("tensorflow"))
    done = run("finetune_kerashub.py", "--quick", "--preset", folder, "--context", 16)
    assert "training before" not in done.stdout
    assert float(result_of(done)["all_accuracy"]) > 0


def test_pieces_of_the_test_are_not_trained_on(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    import argparse

    import finetune_kerashub

    arguments = argparse.Namespace(seed=1, context=4)
    files = [["a" * 100, "b" * 50], ["c" * 200]]
    numbers = iter(np.split(np.arange(350), [100, 150]))
    data_set = finetune_kerashub.pieces(files, lambda text: next(numbers), 30, 10, arguments)
    assert data_set.train[0].shape == (60, 4)
    assert data_set.test[0].shape == (20, 4)
    np.testing.assert_array_equal(data_set.train[1], np.repeat([0, 1], 30))
    # The last fifth of each file.
    held_out = {*range(80, 100), *range(140, 150), *range(310, 350)}
    assert held_out >= set(data_set.test[0].ravel().tolist())
    assert held_out.isdisjoint(data_set.train[0].ravel().tolist())
    assert (data_set.test[0][10:] >= 150).all()


def test_the_words_of_a_text(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    import text

    words = text.Vocabulary(["a_b a", "a = b()"], 4)
    np.testing.assert_array_equal(words("b a_c"), [2, 1, 3, 0])
    modules = text.load_modules(5)
    assert [len(each) for each in modules] == sorted(map(len, modules), reverse=True)
    packages = text.load_packages()
    assert len(packages) == len(text.PACKAGES)
    assert min(sum(map(len, files)) for files in packages) > 50_000


@needs_keras_hub
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", 7], "--steps must be a multiple of 5. Received: 7"),
        (["--pretraining-steps", 7], "--pretraining-steps must be a multiple of 5. Received: 7"),
        (["--layer-decay", 0], "--layer-decay must be above 0 and at most 1. Received: 0"),
        (["--strategy", "multiworker"], "--strategy must be auto, cpu, mirrored or tpu here"),
        (["--batch-size", 1000], "--batch-size must be at most 512 here. Received: 1000"),
        (["--preset", "./nowhere"], "--preset ./nowhere has no tokenizer that can be loaded"),
    ],
)
def test_a_wrong_argument_is_refused_in_one_line(run_here, arguments, message):
    refused(run_here("finetune_kerashub.py", *arguments), message)


def test_a_missing_package_is_named(run_here, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "keras_hub" else find_spec(name))
    refused(run_here("finetune_kerashub.py"), 'keras_hub is not installed. Run: pip install -e ".[keras-hub]"')
