"""Images for classification, by tensorflow-datasets: scikit-learn's digits (no download), or other data sets."""

import contextlib
import difflib
import importlib.util
import logging
import random
import re
import threading
import urllib.error
import urllib.parse
import urllib.request
from typing import NamedTuple

import keras
import numpy as np
import tensorflow_datasets as tfds
from options import refuse
from PIL import Image
from sklearn.datasets import load_digits

# Data sets whose split "test" has no labels.
WITHOUT_TEST_LABELS = ("imagenet2012",)


class Digits(tfds.core.GeneratorBasedBuilder):
    """1,797 handwritten digits of 8 x 8 pixels, from scikit-learn; every fifth is for the test."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        # Not features.Image: it cannot be written if TensorFlow is not installed.
        image = tfds.features.Tensor(shape=(8, 8, 1), dtype=np.uint8)
        features = tfds.features.FeaturesDict({"image": image, "label": tfds.features.ClassLabel(num_classes=10)})
        return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=("image", "label"))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(test=False), "test": self._generate_examples(test=True)}

    def _generate_examples(self, test):
        digits = load_digits()
        for i, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
            if (i % 5 == 0) == test:
                # 0 to 16 becomes 0 to 255, as in every other data set.
                yield i, {"image": np.round(image * 255 / 16).astype(np.uint8)[..., np.newaxis], "label": int(label)}


class Images(NamedTuple):
    """uint8 images (count, height, width, channels) and their labels, for training and test."""

    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    classes: int


class Labelled(NamedTuple):
    """A data set on disk: its builder, the keys of image and label, the number of classes, and two splits."""

    builder: tfds.core.DatasetBuilder
    keys: tuple[str, str]
    classes: int
    train: str
    test: str


def prepare(name, data_dir=None):
    """The data set of that name, images with one class each; prepared on disk first if necessary."""
    logging.getLogger("absl").setLevel(logging.ERROR)
    tfds.disable_progress_bar()
    builder = _builder(name, data_dir)
    keys = builder.info.supervised_keys or ()
    label = builder.info.features[keys[1]] if len(keys) == 2 else None
    shape = builder.info.features[keys[0]].shape if len(keys) == 2 else ()
    if not isinstance(label, tfds.features.ClassLabel) or len(shape) != 3:
        refuse(f"--dataset must be images with one class each. Received: {name}, with {list(builder.info.features)}")
    _prepare(builder)
    builder = _builder(name, data_dir)  # the first builder does not know what another worker has prepared
    tests = ("validation",) if builder.name in WITHOUT_TEST_LABELS else ("test", "validation")
    test = next((each for each in tests if each in builder.info.splits), None)
    train, test = ("train", test) if test else ("train[:90%]", "train[90%:]")
    return Labelled(builder, keys, label.num_classes, train, test)


def load_images(name, data_dir=None, side=64):
    """All images of that data set, in memory; images of different sizes are resized to side x side."""
    builder, keys, classes, train, test = prepare(name, data_dir)
    size = None if None not in builder.info.features[keys[0]].shape else (side, side)
    return Images(_read(builder, train, keys, size), _read(builder, test, keys, size), classes)


def _builder(name, data_dir):
    """The builder of that name. Without TensorFlow only files in the format array_record can be written and read."""
    known = tfds.list_builders(with_community_datasets=False)
    if re.split("[:/]", name)[0] not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.0)
        refuse(f"tensorflow-datasets has no --dataset {name!r}; the nearest names are {', '.join(near)}")
    no_tensorflow = importlib.util.find_spec("tensorflow") is None
    options = {"file_format": "array_record"} if name == Digits.name or no_tensorflow else {}
    try:
        return tfds.builder(name, data_dir=data_dir, **options)
    except (ValueError, AssertionError, ImportError) as error:  # a configuration or version that does not exist
        refuse(f"tensorflow-datasets cannot open --dataset {name!r}: {error}")


def _prepare(builder):
    """Downloads and writes the data if they are not on disk yet, after a check that this can succeed."""
    if builder.is_prepared():
        return
    where = f"{builder.name} is not in {builder.data_dir}, and"
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        refuse(f"{where} has to be downloaded by hand: {builder.MANUAL_DOWNLOAD_INSTRUCTIONS}")
    one_for_each_host = {urllib.parse.urlsplit(url).netloc: url for url in getattr(builder, "url_infos", None) or ()}
    for url in one_for_each_host.values():
        problem = unreachable(url)
        if problem:
            refuse(f"{where} cannot be downloaded: {url}: {problem}. Without a network, train on --dataset digits")
    try:
        with _own_random_numbers():
            builder.download_and_prepare()
    except (OSError, ImportError, tfds.download.DownloadError) as error:
        if not builder.is_prepared():  # by another worker: only one of them can put its files there
            refuse(f"{where} could not be prepared: {error}")


@contextlib.contextmanager
def _own_random_numbers():
    """tensorflow-datasets draws a random name for its temporary folder; workers with one seed would share a folder."""
    state = random.getstate()
    random.seed()
    try:
        yield
    finally:
        random.setstate(state)


def unreachable(url, seconds=10):
    """Why the URL cannot be reached, or None. It runs in a thread, because a DNS lookup has no time limit."""
    problems = [f"no answer in {seconds} seconds"]

    def ask():
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds).close()
            problems.clear()
        except urllib.error.HTTPError as error:
            # Some servers refuse only HEAD requests.
            problems[:] = [str(error)] if error.code in (404, 410) else []
        except OSError as error:
            problems[:] = [str(getattr(error, "reason", error))]

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return problems[0] if problems else None


def by_index(builder):
    """Whether the examples can be read in any order, and without TensorFlow."""
    return builder.info.file_format is tfds.core.FileFormat.ARRAY_RECORD


def only_reading():
    """TensorFlow as a reader of files; if it is not the backend it must not take the memory of the GPUs."""
    import tensorflow

    if keras.backend.backend() != "tensorflow":
        tensorflow.config.set_visible_devices([], "GPU")
    return tensorflow


def _read(builder, split, keys, size):
    """A split as two arrays."""
    if by_index(builder):
        examples = builder.as_data_source(split=split)
    else:
        only_reading()
        examples = tfds.as_numpy(builder.as_dataset(split=split))
    image, label = keys
    pairs = [(_resized(each[image], size), each[label]) for each in examples]
    return np.stack([image for image, _ in pairs]), np.array([label for _, label in pairs], "int32")


def _resized(image, size):
    if size is None:
        return image
    return np.asarray(Image.fromarray(image.squeeze()).resize(size)).reshape(*size, image.shape[-1])


class Batches(keras.utils.PyDataset):
    """Training data in an order that is new in every epoch and the same for the same seed.

    Every batch is full, because devices that share a batch must get equal parts. Remaining examples are skipped in this
    epoch.
    """

    def __init__(self, inputs, targets, batch_size, seed):
        super().__init__()
        self.inputs, self.targets, self.batch_size = inputs, targets, batch_size
        self.random = np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self):
        return len(self.inputs) // self.batch_size

    def __getitem__(self, index):
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        return self.inputs[chosen], self.targets[chosen]

    def on_epoch_end(self):
        self.order = self.random.permutation(len(self.inputs))


class Steps(Batches):
    """The same in epochs of `steps` batches, in which an example may occur again after all others did."""

    def __init__(self, inputs, targets, batch_size, steps, seed):
        self.steps = steps
        super().__init__(inputs, targets, batch_size, seed)

    def __len__(self):
        return self.steps

    def on_epoch_end(self):
        passes = -(-self.steps * self.batch_size // len(self.inputs))
        self.order = np.concatenate([self.random.permutation(len(self.inputs)) for _ in range(passes)])


def filled_up(inputs, targets, batch_size):
    """Test data in full batches: inputs, targets and weights.

    Examples that fill up the last batch have the weight 0, all others a weight above 1. So loss and accuracy are those
    of the test data, exactly.
    """
    count = len(inputs)
    total = -(-count // batch_size) * batch_size
    filled = np.arange(total) % count
    weights = np.where(np.arange(total) < count, total / count, 0.0).astype("float32")
    return inputs[filled], targets[filled], weights
