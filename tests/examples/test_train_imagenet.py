"""ResNet and the large-batch recipes, at 64 x 64 pixels."""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
from cluster import configurations
from scripts import ROOT, environment_of, is_picture, picture_of, refused, result_of, run_at_once

from keras_adaptive.bench.specification import CLASSES

pytestmark = pytest.mark.on("tensorflow")
SHORT = ("--fake-data", "--image-size", 64, "--depth", 14, "--batch-size", 4, "--steps-per-epoch", 10, "--epochs", 2)


@pytest.fixture
def train(run):
    """Runs train_imagenet.py once."""

    def one(*arguments, **how):
        return run("train_imagenet.py", *arguments, **how)

    return one


@pytest.mark.parametrize(
    ("backend", "arguments", "strategy", "replicas"),
    [
        pytest.param("tensorflow", [], "cpu", "1", marks=pytest.mark.variant),
        pytest.param("tensorflow", ["--replicas", 2], "MirroredStrategy", "2", marks=pytest.mark.full),
        pytest.param("jax", ["--depth", 50], "cpu", "1", marks=pytest.mark.variant),
        pytest.param("jax", ["--replicas", 2], "DataParallel", "2", marks=pytest.mark.variant),
    ],
)
def test_twenty_steps(train, tmp_path, backend, arguments, strategy, replicas):
    done = train(*SHORT, *arguments, backend=backend)
    result = result_of(done)
    assert 0 < float(result.pop("loss")) < 20
    assert 0 <= float(result.pop("test_accuracy")) <= float(result.pop("test_top_5_accuracy")) <= 1
    assert float(result.pop("images_per_second")) > 0
    assert float(result.pop("seconds")) > 0
    assert result == {
        "optimizer": "Lars",
        "backend": backend,
        "strategy": strategy,
        "replicas": replicas,
        "steps": "20",
        "recipe": "lars-legw",
        "precision": "float32",
    }
    assert "as recalled from You et al., 2019" in done.stdout
    assert is_picture(picture_of(done))
    assert list(tmp_path.iterdir()) == []


def weights_in(folder):
    """All arrays of the last checkpoint there, the optimizer's too, by path."""
    found = {}
    name = json.loads((folder / "training.json").read_text())["weights"]
    with h5py.File(folder / name) as file:
        file.visititems(lambda path, item: found.update({path: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def run_and_kill(backend, arguments, kept, processes, folder, longest=2.0):
    """Starts so many processes, and kills them at a random time after the first epoch was saved.

    A machine may train all epochs within that time; then once more, and the time is half of it.
    """
    command = [sys.executable, str(ROOT / "examples" / "train_imagenet.py"), *map(str, arguments)]
    environment = environment_of(backend)
    first = [
        subprocess.Popen(command, env=environment | each, cwd=folder, stdout=subprocess.DEVNULL) for each in processes
    ]
    while all(each.poll() is None for each in first) and not kept.exists():
        time.sleep(0.01)
    time.sleep(random.SystemRandom().uniform(0, longest))
    for each in first:
        each.kill()
    ends = [each.wait() for each in first]
    if ends == [0] * len(first) and longest > 0.1:
        shutil.rmtree(kept.parent)
        return run_and_kill(backend, arguments, kept, processes, folder, longest / 2)
    assert ends == [-signal.SIGKILL] * len(first)


@pytest.mark.parametrize(
    ("backend", "options", "workers"),
    [
        pytest.param("tensorflow", [], 0, marks=pytest.mark.variant),
        pytest.param("tensorflow", ["--replicas", 2], 0, marks=pytest.mark.variant),
        pytest.param("tensorflow", ["--strategy", "multiworker"], 2, marks=pytest.mark.full, id="two workers"),
        pytest.param("jax", ["--replicas", 2], 0, marks=pytest.mark.variant),
        pytest.param("jax", [], 0, marks=pytest.mark.full),
    ],
)
def test_a_killed_and_resumed_run_matches_an_uninterrupted_one(tmp_path, data_dir, backend, options, workers):
    """The weights, the optimizer's state and the history of the epochs, to the bit."""
    arguments = ["--image-size", 16, "--depth", 14, "--batch-size", 4, "--epochs", 3, "--steps-per-epoch", 4]
    arguments += ["--optimizer", "SGD", "--augmentation", "imagenet", "--data-dir", data_dir, *options, "--checkpoint"]

    def processes():
        return configurations(workers) if workers else [{}]

    def train(*more):
        return run_at_once("train_imagenet.py", processes(), [*arguments, *more], tmp_path, backend)

    killed, whole = tmp_path / "killed", tmp_path / "whole"
    run_and_kill(backend, [*arguments, killed], killed / "training.json", processes(), tmp_path)
    saved = json.loads((killed / "training.json").read_text())["history"]["loss"]
    assert 1 <= len(saved) < 3
    resumed, *_ = train(killed)
    unstopped, *_ = train(whole)
    assert f"going on after {len(saved)} of 3 epochs" in resumed.stdout
    assert result_of(resumed)["steps"] == result_of(unstopped)["steps"] == "12"
    histories = [json.loads((folder / "training.json").read_text())["history"] for folder in (killed, whole)]
    for history in histories:
        history.pop("images_per_second")
    assert histories[0] == histories[1]
    first, second = weights_in(killed), weights_in(whole)
    assert any(path.startswith("optimizer/") for path in first)
    assert list(first) == list(second)
    for path, value in first.items():
        np.testing.assert_array_equal(value, second[path], err_msg=path)
    assert [file.name for file in sorted(killed.iterdir())] == ["epoch-3.weights.h5", "training.json"]
    for refusal in train(whole, "--seed", 2):
        refused(refusal, "has a training with --seed 1. Received: 2")


def test_a_folder_that_cannot_be_written_is_refused_before_the_training(monkeypatch, tmp_path, capsys):
    """Not after the first epoch."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    import checkpoint

    assert checkpoint.Checkpoint(tmp_path, {}).restore(model=None) == 0

    def nowhere(path, **how):
        raise FileNotFoundError(path)

    for owner, name, fails in (
        (checkpoint.os, "access", lambda path, mode: False),
        (type(tmp_path), "mkdir", nowhere),
    ):
        monkeypatch.setattr(owner, name, fails)
        with pytest.raises(SystemExit):
            checkpoint.Checkpoint(tmp_path, {}).restore(model=None)
        assert "--checkpoint must be a folder that can be written" in capsys.readouterr().err


@pytest.mark.parametrize("steps", [1, 3])
def test_the_speed_of_an_epoch(monkeypatch, steps):
    """Without its first step, unless it is the only one."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    import checkpoint

    clock = iter([0.0, 10.0, 14.0])
    monkeypatch.setattr(checkpoint.time, "perf_counter", lambda: next(clock))
    speed, logs = checkpoint.Speed(8, steps), {"loss": 1.0}
    speed.on_epoch_begin(0)
    for step in range(steps):
        speed.on_train_batch_end(step, logs)
    speed.on_epoch_end(0, logs)
    assert logs["images_per_second"] == (0.8 if steps == 1 else 4.0)


@pytest.mark.variant
def test_the_defaults_learn_the_digits(train):
    result = result_of(train(backend="jax"))
    assert result["steps"] == "220"
    assert float(result["test_accuracy"]) > 0.95


# In a separate process: one class is dark and the other one bright, in pictures of many sizes.
PREPARE_IMAGENETTE = """
import sys
import numpy as np
from etils import epath
from tensorflow_datasets.core import registered
from tensorflow_datasets.datasets.imagenette import imagenette_dataset_builder

with registered.skip_registration():

    class Imagenette(imagenette_dataset_builder.Builder):
        def _split_generators(self, dl_manager):
            return {"train": self.grey(64), "validation": self.grey(22)}

        def grey(self, count):
            for i in range(count):
                yield i, {"image": np.full((30 + i, 50, 3), 40 + 160 * (i % 2), np.uint8), "label": i % 2}

Imagenette.name = "imagenette"
# Where its classes and citations are read from.
Imagenette.pkg_dir_path = epath.Path(imagenette_dataset_builder.__file__).parent
Imagenette(data_dir=sys.argv[1]).download_and_prepare()
"""


@pytest.mark.parametrize(
    ("backend", "replicas"),
    [
        pytest.param("tensorflow", 1, marks=pytest.mark.full),
        pytest.param("tensorflow", 2, marks=pytest.mark.variant),
        pytest.param("jax", 1, marks=pytest.mark.variant),
    ],
)
def test_images_of_many_sizes_are_streamed(train, tmp_path, backend, replicas):
    """From TFRecords, by TensorFlow, in the random crops of ImageNet."""
    folder = tmp_path / "prepared"
    command = [sys.executable, "-c", PREPARE_IMAGENETTE, str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    arguments = ["--dataset", "imagenette", "--data-dir", folder, "--image-size", 32, "--depth", 14]
    arguments += ["--batch-size", 8, "--epochs", 4, "--optimizer", "Adam", "--replicas", replicas]
    result = result_of(train(*arguments, backend=backend))
    assert result["steps"] == "32"
    assert float(result["test_accuracy"]) == 1.0


def test_crops(monkeypatch):
    """Random ones are of the parts and forms that are said, the same for the same seed, epoch and image."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    import crops

    boxes = np.array([crops._random_box((90, 120, 3), 0.08, np.random.default_rng(i)) for i in range(300)])
    left, top, right, bottom = boxes.T
    assert min(left.min(), top.min()) >= 0
    assert right.max() <= 120
    assert bottom.max() <= 90
    area, form = (right - left) * (bottom - top) / (90 * 120), (right - left) / (bottom - top)
    assert 0.08 <= area.min() < 0.15
    assert 0.75 <= form.min() < 0.8
    assert 1.25 < form.max() <= 4 / 3 + 1e-9

    class Numbered(crops.Noise):
        def __getitem__(self, index):
            return {"image": np.full((8, 9, 1), index, np.uint8), "label": index % 5}

    plan = crops.Plan(("image", "label"), 5, 4, 6, crops.AUGMENTATIONS["imagenet"], seed=3)
    source = crops.Crops(Numbered(10, 8), plan)
    first, second, later = (source.batch(*place) for place in ((0, 0), (0, 1), (1, 0)))
    for expected, *parts in zip(first, *(source.batch(0, 0, part, 2) for part in range(2)), strict=True):
        np.testing.assert_array_equal(np.concatenate(parts), expected)
    assert not np.array_equal(first[0], later[0])
    assert set(first[0][:, 0, 0, 0]).isdisjoint(second[0][:, 0, 0, 0])
    batches = [source.batch(None, step) for step in range(len(source))]
    images, labels, weights = (np.concatenate(part) for part in zip(*batches, strict=True))
    assert images.shape == (12, 6, 6, 3)
    assert np.mean(weights * images[:, 0, 0, 0]) == pytest.approx(4.5)
    assert np.average(labels.argmax(-1), weights=weights) == pytest.approx(2)


def test_batches_made_ahead_come_in_order(monkeypatch):
    """With fewer batches than are made ahead, and with more."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    import streams

    for last in (3, 20, 50):
        batches = streams.in_order(lambda *place: place, range(2, last))
        assert list(batches) == [(number, 0, 1) for number in range(2, last)]


def test_the_recipes_match_their_sources(monkeypatch):
    """LAMB's Table 5 and LEGW's ResNet-50, as they are recalled."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    from train_imagenet import RECIPES

    def values(name, batch):
        return list(RECIPES[name].values(batch).values())

    for i, batch in enumerate([512, 1024, 2048, 4096, 8192, 16384, 32768]):
        assert values("lamb", batch) == pytest.approx([4e-2 / 2 ** (3 - i / 2), 0.3125 * 2**i])
        if i:
            assert values("lars-legw", batch) == pytest.approx([2 ** (2 + i / 2), 10 / 2 ** (6 - i)])


def test_every_optimizer_takes_the_schedule(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    import train_imagenet

    given = dict.fromkeys(train_imagenet.DECIDE) | {"epochs": 5, "slot_dtype": "float32", "precision": "float32"}
    optimizers = list(CLASSES)
    assert "AdaBound" in optimizers
    for name in optimizers:
        optimizer = train_imagenet.make_optimizer(argparse.Namespace(**given | {"optimizer": name, "seed": 1}), 10)
        assert optimizer.get_config()["learning_rate"]["class_name"] == "WarmupSchedule"


@pytest.mark.full
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "lars"], "invalid choice: 'lars'"),
        (["--recipe", "lamb", "--optimizer", "Adam"], "--recipe has an optimizer of its own"),
        (["--recipe", "lars-mlperf", "--batch-size", 100], "`batch` must be what 'resnet50-lars-mlperf' is published"),
        (["--recipe", "lars-tpu", "--epochs", 5], "--epochs must be more than the 5 of warm-up. Received: 5"),
        (["--depth", 18], "--depth must be 14, 26, 50 or 101. Received: 18"),
        (["--label-smoothing", 1], "--label-smoothing must be below 1"),
        (["--batch-size", 3, "--replicas", 2], "--batch-size must be a multiple of the number of replicas"),
        (["--fake-data", "--dataset", "mnist"], "--fake-data is a data set already"),
        (["--dataset", "imagenet2012"], "has to be downloaded by hand"),
        (["--batch-size", 2000], "--batch-size must be at most 1437 here. Received: 2000"),
    ],
)
def test_a_wrong_argument_is_refused_in_one_line(run_here, arguments, message):
    refused(run_here("train_imagenet.py", *arguments), message)
