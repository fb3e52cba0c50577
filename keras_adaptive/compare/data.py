"""The data of the workloads: all of it comes with installed packages or with Python."""

import csv
import functools
import hashlib
import importlib.metadata
import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Arrays = tuple[np.ndarray, np.ndarray]

# The seed of all splits. It has nothing to do with the seeds of runs.
SPLIT = 20261127


@dataclass(frozen=True)
class Data:
    """Inputs and labels to train on, to tune on, and to report on.

    Attributes:
        train, validation, test: a pair of arrays each.
        sha256: a digest of all arrays. Results are compared only if they have the same one.
    """

    train: Arrays
    validation: Arrays
    test: Arrays

    @functools.cached_property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        for array in (*self.train, *self.validation, *self.test):
            digest.update(f"{array.shape}{array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]


def _split(inputs, labels, validation: int, test: int, most: int = 2**31) -> Data:
    """Random parts: so many examples for validation and for the test, and at most so many for training."""
    order = np.random.default_rng(SPLIT).permutation(len(inputs))
    parts = order[test + validation :][:most], order[test : test + validation], order[:test]
    return Data(*((inputs[chosen], labels[chosen]) for chosen in parts))


@functools.cache
def digits() -> Data:
    """Scikit-learn's 1,797 images of digits, 8 x 8 pixels."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return _split((images / 16).reshape(-1, 8, 8, 1).astype("float32"), labels.astype("int32"), 360, 360)


@functools.cache
def mnist1d() -> Data:
    """MNIST-1D (Greydanus and Kobak, ICML 2024): 4,000 and 1,000 signals of length 40, made from a fixed seed."""
    from mnist1d.data import get_dataset_args, make_dataset

    made = make_dataset(get_dataset_args())
    whole = _split(made["x"][..., np.newaxis].astype("float32"), made["y"].astype("int32"), 800, 0)
    test = made["x_test"][..., np.newaxis].astype("float32"), made["y_test"].astype("int32")
    return Data(whole.train, whole.validation, test)


@functools.cache
def text() -> str:
    """The help texts of Python's language. They differ between versions of Python."""
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


CONTEXT = 64


@functools.cache
def texts() -> Data:
    """Windows of 64 bytes of the text, and the bytes that follow. The parts are parts of the text."""
    symbols = np.frombuffer(text().encode("ascii", "replace"), "uint8").astype("int32")
    edges = [0, round(0.8 * len(symbols)), round(0.9 * len(symbols)), len(symbols)]
    train, validation, test = (symbols[a:b] for a, b in itertools.pairwise(edges))

    def windows(part, starts):
        places = starts[:, np.newaxis] + np.arange(CONTEXT + 1)
        return part[places[:, :-1]], part[places[:, 1:]]

    def spread(part, count):
        return windows(part, np.linspace(0, len(part) - CONTEXT - 1, count).astype(int))

    return Data(windows(train, np.arange(0, len(train) - CONTEXT, 7)), spread(validation, 64), spread(test, 256))


WORDS, NEGATIVES = 4000, 5


@functools.cache
def words() -> Data:
    """Pairs of neighbouring words of the text, each with words that were drawn by their frequency to the power 3/4."""
    found = re.findall("[a-z]+", text().lower())
    names, places, counts = np.unique(found, return_inverse=True, return_counts=True)
    ranks = np.empty(len(names), int)
    ranks[np.argsort(-counts, kind="stable")] = np.arange(len(names))
    ids = np.minimum(ranks[places], WORDS - 1)
    pairs = np.concatenate([np.stack([ids[:-way], ids[way:]], 1) for way in (1, 2)])
    weights = np.bincount(ids, minlength=WORDS) ** 0.75
    random = np.random.default_rng(SPLIT)
    negatives = random.choice(WORDS, (len(pairs), NEGATIVES), p=weights / weights.sum())
    inputs = np.concatenate([pairs, negatives], 1).astype("int32")
    labels = np.zeros((len(pairs), 1 + NEGATIVES), "float32")
    labels[:, 0] = 1.0
    return _split(inputs, labels, 4096, 8192)


@functools.cache
def diamonds() -> Data:
    """Prices of 53,940 diamonds: cut, colour and clarity as numbers of classes, then six lengths and weights.

    The file is part of the package plotnine, which is not imported.
    """
    files = importlib.metadata.files("plotnine") or []
    (path,) = [file.locate() for file in files if file.name == "diamonds.csv"]
    with open(str(path), encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    classes = []
    for name in ("cut", "color", "clarity"):
        known = sorted({row[name] for row in rows})
        classes.append([known.index(row[name]) for row in rows])
    numbers = np.array([[float(row[name]) for name in ("carat", "depth", "table", "x", "y", "z")] for row in rows])
    prices = np.log([[float(row["price"])] for row in rows])
    inputs = np.concatenate([np.array(classes).T, _standard(numbers)], 1)
    return _split(inputs.astype("float32"), _standard(prices).astype("float32"), 2048, 5394)


def _standard(columns):
    return (columns - columns.mean(0)) / columns.std(0)


@functools.cache
def picture() -> Data:
    """Coordinates and colours of pixels of scikit-learn's china.jpg."""
    from sklearn.datasets import load_sample_image

    # Every fifth pixel of the middle.
    colours = _standard(load_sample_image("china.jpg")[13:413:5, 70:570:5].reshape(-1, 3) / 255.0)
    rows, columns = np.meshgrid(np.linspace(-1, 1, 80), np.linspace(-1, 1, 100), indexing="ij")
    inputs = np.stack([rows.ravel(), columns.ravel()], 1)
    return _split(inputs.astype("float32"), colours.astype("float32"), 1024, 2048, most=2048)


Source = Callable[[], Data]
