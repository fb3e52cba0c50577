"""The script that the README begins with."""

import importlib.util
import json
import random
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from cluster import configurations
from scripts import ROOT, is_picture, picture_of, refused, result_of, run_at_once

pytestmark = pytest.mark.on("tensorflow")


@pytest.fixture
def train(run):
    """Runs train_image.py once."""

    def one(*arguments, **how):
        return run("train_image.py", *arguments, **how)

    return one


@pytest.fixture
def train_at_once(tmp_path):
    """Runs train_image.py in one process per configuration."""

    def run(configurations, *arguments):
        return run_at_once("train_image.py", configurations, arguments, tmp_path)

    return run


# Digits have 1,437 examples to train with: 44 steps of 32 in an epoch.


@pytest.mark.parametrize(
    ("backend", "arguments", "strategy", "replicas"),
    [
        ("tensorflow", [], "cpu", "1"),
        pytest.param("tensorflow", ["--replicas", 2], "MirroredStrategy", "2", marks=pytest.mark.full),
        pytest.param("jax", ["--strategy", "cpu"], "cpu", "1", marks=pytest.mark.variant),
        ("jax", ["--strategy", "mirrored", "--replicas", 2], "DataParallel", "2"),
        pytest.param("torch", [], "cpu", "1", marks=pytest.mark.full),
    ],
)
def test_each_strategy_trains(train, tmp_path, backend, arguments, strategy, replicas):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    done = train("--epochs", 2, *arguments, backend=backend)
    result = result_of(done)
    assert float(result.pop("test_accuracy")) > 0.9
    assert float(result.pop("seconds")) > 0
    assert result == {
        "optimizer": "Adam",
        "backend": backend,
        "strategy": strategy,
        "replicas": replicas,
        "steps": "88",
    }
    assert "━━━" in done.stdout, "Keras's progress bar"
    assert is_picture(picture_of(done))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.full
def test_two_workers_train_together(train_at_once, tmp_path):
    """Two processes, which prepare the data at the same time. Only the first one reports."""
    data = tmp_path / "data"
    first, second = train_at_once(configurations(2), "--strategy", "multiworker", "--epochs", 2, "--data-dir", data)
    # What one reports is that the other is gone.
    assert first.returncode == second.returncode == 0, first.stderr[-4000:] + second.stderr[-4000:]
    result = result_of(first)
    assert float(result["test_accuracy"]) > 0.9
    facts = {"optimizer": "Adam", "strategy": "MultiWorkerStrategy", "replicas": "2", "steps": "88"}
    assert result.items() >= facts.items()
    assert not re.search("━━━|test_accuracy", second.stdout)
    assert sorted(tmp_path.iterdir()) == [data]
    assert is_picture(picture_of(first))


@pytest.mark.full
@pytest.mark.parametrize(
    ("precision", "backend"),
    [
        ("bfloat16", "jax"),
        ("mixed_float16", "tensorflow"),
        *(
            pytest.param(*each, marks=pytest.mark.variant)
            for each in [
                ("bfloat16", "tensorflow"),
                ("mixed_bfloat16", "tensorflow"),
                ("mixed_bfloat16", "jax"),
                ("mixed_float16", "jax"),
            ]
        ),
    ],
)
def test_each_precision_trains(train, precision, backend):
    result = result_of(train("--epochs", 3, "--precision", precision, backend=backend))
    assert float(result["test_accuracy"]) > 0.9


@pytest.mark.variant
def test_small_weights_and_state_train_as_well_as_float32(train):
    """Within half a point. One test image is 0.28 points, so it is the mean of two seeds and of the last five epochs.

    Two runs at a time, on JAX, which compiles faster.
    """
    small = ["--precision", "bfloat16", "--slot-dtype", "bfloat16"]
    eight_bits = ["--slot-dtype", "int8"]

    def run(how, seed):
        done = train(*how, "--seed", seed, "--output", f"{len(how)}-{seed}.png", backend="jax")
        result_of(done)
        return [float(accuracy) for accuracy in re.findall(r"val_accuracy: ([\d.]+)", done.stdout)[-5:]]

    with ThreadPoolExecutor(2) as threads:
        reached = list(threads.map(run, [[]] * 2 + [small] * 2 + [eight_bits] * 2, [1, 2] * 3))
    of_float32, of_bfloat16, of_int8 = (np.mean(reached[i : i + 2]) for i in (0, 2, 4))
    assert np.shape(reached) == (6, 5)
    assert of_float32 > 0.97
    assert of_bfloat16 >= of_float32 - 0.005
    assert of_int8 >= of_float32 - 0.005


@pytest.mark.full
@pytest.mark.parametrize(
    "optimizer",
    ["Muon", *(pytest.param(each, marks=pytest.mark.variant) for each in ("ScheduleFreeAdamW", "Prodigy"))],
)
def test_an_optimizer_by_another_spelling_of_its_name(train, optimizer):
    result = result_of(train("--epochs", 1, "--optimizer", optimizer.lower()))
    assert result["optimizer"] == optimizer
    assert float(result["test_accuracy"]) > 0.2


@pytest.mark.full
@pytest.mark.parametrize(
    "optimizer", ["SGD", *(pytest.param(each, marks=pytest.mark.variant) for each in ("Adagrad", "RMSprop", "Adam"))]
)
def test_the_defaults_reach_97_percent(train, optimizer):
    """On JAX, which compiles faster."""
    assert float(result_of(train("--optimizer", optimizer, backend="jax"))["test_accuracy"]) >= 0.97


@pytest.mark.full
@pytest.mark.parametrize("backend", [pytest.param("tensorflow", marks=pytest.mark.variant), "jax"])
def test_the_seed_decides_the_run(train, tmp_path, backend):
    """The pictures show the loss of every epoch."""
    pictures = []
    for seed in (3, 3, 4):
        result_of(train("--epochs", 1, "--seed", seed, "--output", "curves.png", backend=backend))
        pictures.append((tmp_path / "curves.png").read_bytes())
    assert pictures[0] == pictures[1]
    assert pictures[0] != pictures[2]


@pytest.mark.variant
def test_replicas_train_like_one_device(train):
    """To the last digit of the accuracy: no layer of the network looks across the examples of a batch."""
    one, two = (result_of(train("--epochs", 2, *more, backend="jax")) for more in ([], ["--replicas", 2]))
    assert one["test_accuracy"] == two["test_accuracy"]


def test_padded_batches_measure_only_the_test_data(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    import data

    values = np.arange(10.0) ** 2
    inputs, targets, weights = data.filled_up(values, values, batch_size=4)
    assert inputs.shape == targets.shape == weights.shape == (12,)
    # A loss divides by the size of the batch, a metric by the sum of the weights.
    assert np.mean(weights * inputs) == pytest.approx(values.mean())
    assert np.average(targets, weights=weights) == pytest.approx(values.mean())


def test_data_prepared_by_another_worker_are_read(monkeypatch, tmp_path):
    """It has just ended when this process, which found no data, begins to prepare them."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    import data

    prepare = data._prepare

    def late(builder):
        data.tfds.builder("digits", data_dir=tmp_path, file_format="array_record").download_and_prepare()
        prepare(builder)

    monkeypatch.setattr(data, "_prepare", late)
    assert len(data.load_images("digits", tmp_path).train[0]) == 1437


def test_workers_with_one_seed_prepare_in_separate_folders(monkeypatch, tmp_path):
    """Afterwards the random numbers are those of the seed, as if nothing had been prepared."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    import data

    monkeypatch.chdir(tmp_path)
    folders, after = [], []

    class Builder:
        name, data_dir, MANUAL_DOWNLOAD_INSTRUCTIONS = "images", "there", None

        def is_prepared(self):
            return False

        def download_and_prepare(self):
            with data.tfds.core.utils.incomplete_dir(self.data_dir) as folder:
                folders.append(folder)

    for prepared in (True, True, False):
        random.seed(1)
        if prepared:
            data._prepare(Builder())
            shutil.rmtree("there")
        after.append(random.random())
    assert len(set(folders)) == 2
    assert len(set(after)) == 1


# A wrong argument, and what the message must say of it.
WRONG = [
    (["--batch-size", 0], "--batch-size: must be a whole number, at least 1. Received: 0"),
    (["--replicas", 0], "--replicas: must be a whole number, at least 1. Received: 0"),
    (["--batch-size", 33, "--replicas", 2], "--batch-size must be a multiple of the number of replicas. Received: 33"),
    (["--epochs", "many"], "--epochs: must be a whole number, at least 1. Received: many"),
    (["--seed", -1], "--seed: must be a whole number from 0"),
    (["--learning-rate", -0.1], "--learning-rate: must be a finite real number, at least 0. Received: -0.1"),
    (["--learning-rate", "nan"], "--learning-rate: must be a finite real number"),
    (["--precision", "int8"], "invalid choice: 'int8'"),
    (["--bogus"], "unrecognized arguments: --bogus"),
    (["--output", "missing/curves.png"], "--output must be a .png file in a folder that can be written"),
    (["--output", "curves.jpg"], "--output must be a .png file"),
    (["--strategy", "multiworker"], "--strategy multiworker needs the addresses of all workers and the number of"),
    (["--strategy", "cpu", "--replicas", 2], "--strategy cpu is one device"),
]
# These are found out only after Keras is imported.
LATE = [
    (["--optimizer", "Adamm"], "unknown --optimizer 'Adamm'; the nearest names are Adam, "),
    (["--batch-size", 2000], "--batch-size must be at most 1437 here. Received: 2000"),
    (
        ["--optimizer", "AdaBound", "--learning-rate", 0],
        "--optimizer AdaBound cannot be made so: `learning_rate` must be a number above 0",
    ),
    (["--dataset", "mnits"], "no --dataset 'mnits'; the nearest names are mnist"),
    (["--dataset", "imagenet2012"], "has to be downloaded by hand"),
    (["--dataset", "imdb_reviews"], "--dataset must be images with one class each"),
]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [*WRONG[:3], *(pytest.param(*row, marks=pytest.mark.full) for row in [*WRONG[3:], *LATE])],
)
def test_a_wrong_argument_is_refused_in_one_line(run_here, tmp_path, arguments, message):
    refused(run_here("train_image.py", *arguments), message)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_refused_as_picture(train, tmp_path):
    """The error is reported before the training."""
    (tmp_path / "curves.png").mkdir()
    refused(train("--output", "curves.png"), "--output must be a .png file")
    (tmp_path / "file").touch()
    refused(train("--output", "file/curves.png"), "--output must be a .png file in a folder that can be written")


@pytest.mark.full
@pytest.mark.parametrize(
    ("backend", "arguments", "message"),
    [
        ("theano", [], "the backend must be one of"),
        ("jax", ["--strategy", "multiworker"], "--strategy multiworker needs the backend tensorflow"),
        ("torch", ["--replicas", 2], "several devices or a TPU need the backend tensorflow or jax"),
    ],
)
def test_a_wrong_backend_is_refused_in_one_line(train, backend, arguments, message):
    if backend == "torch" and importlib.util.find_spec(backend) is None:
        pytest.skip("torch is not installed")
    refused(train(*arguments, backend=backend), message)


@pytest.mark.full
@pytest.mark.parametrize(
    ("index", "more"), [(2, {}), (None, {}), (0, {"ps": ["127.0.0.1:1"]})], ids=["index", "no index", "server"]
)
def test_a_wrong_cluster_is_refused_in_one_line(train_at_once, index, more):
    cluster = {"worker": ["127.0.0.1:1", "127.0.0.1:2"], **more}
    config = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
    (done,) = train_at_once([{"TF_CONFIG": config}], "--strategy", "multiworker")
    refused(done, "--strategy multiworker needs the addresses of all workers")


@pytest.mark.full
def test_a_missing_tpu_is_reported_in_one_line(train):
    if any(Path(device).exists() for device in ("/dev/accel0", "/dev/vfio/0")):
        pytest.skip("this machine has a TPU")
    refused(train("--strategy", "tpu"), "--strategy tpu needs a TPU, and this machine has none")


# In a separate process: a data set under a name of the catalogue, as tensorflow-datasets prepares it on disk.
PREPARE_MNIST = """
import sys
import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import registered

with registered.skip_registration():

    class MNIST(tfds.image_classification.MNIST):
        def _split_generators(self, dl_manager):
            return {"train": self.stripes(640), "test": self.stripes(100)}

        def stripes(self, count):
            for i in range(count):
                image = np.zeros((28, 28, 1), np.uint8)
                image[:, 2 * (i % 10)] = 255
                yield i, {"image": image, "label": i % 10}

MNIST.name = "mnist"
MNIST(data_dir=sys.argv[1]).download_and_prepare()
"""


@pytest.mark.variant
def test_a_data_set_of_the_catalogue(train, tmp_path):
    """Read with TensorFlow from its own format while logical devices are in use."""
    folder = tmp_path / "prepared"
    subprocess.run([sys.executable, "-c", PREPARE_MNIST, str(folder)], check=True, capture_output=True, timeout=300)
    result = result_of(train("--dataset", "mnist", "--data-dir", folder, "--epochs", 4, "--replicas", 2))
    assert result["steps"] == "80"
    assert float(result["test_accuracy"]) == 1.0


@pytest.mark.full
def test_unreachable_data_are_reported(train, tmp_path, monkeypatch):
    """A proxy at which nobody listens stands for a missing network."""
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    refused(train("--dataset", "mnist", "--data-dir", tmp_path / "empty"), "cannot be downloaded: https://")


@pytest.mark.full
def test_unwritable_data_are_reported(train, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    refused(train("--data-dir", tmp_path / "file"), "digits is not in")
