"""Text without a download: the help on Python's language and the code of the standard library, or a file."""

import collections
import re
import sysconfig
from pathlib import Path

import keras
import numpy as np
from options import refuse

# Packages of the standard library, which can be told apart by their code.
PACKAGES = ("asyncio", "email", "http", "importlib", "logging", "multiprocessing", "unittest", "xml")


def load_text(path=None):
    """The bytes of a file, by default those of `pydoc_data.topics`, as an array of uint8."""
    if path is None:
        from pydoc_data.topics import topics

        return np.frombuffer("\n".join(topics[name] for name in sorted(topics)).encode(), "uint8")
    try:
        return np.frombuffer(Path(path).read_bytes(), "uint8")
    except OSError as error:
        refuse(f"--text must be a file that can be read. Received: {path}: {error.strerror}")


def load_modules(most=None):
    """Those modules of the standard library that are one file each; the `most` longest, if it is given."""
    return sorted(_code("*.py"), key=len, reverse=True)[:most]


def load_packages():
    """The files of each of PACKAGES."""
    return [list(_code(f"{package}/**/*.py")) for package in PACKAGES]


def _code(pattern):
    """Those files of the standard library, without its own tests."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(folder.glob(pattern)):
        if not {"test", "tests"} & {*path.relative_to(folder).parts}:
            yield path.read_text("utf-8")


class Vocabulary:
    """The `size` - 1 most frequent words and signs of these texts, as ids from 1; all others are 0."""

    def __init__(self, texts, size):
        counts = collections.Counter(word for text in texts for word in self._words(text))
        self.ids = {word: i for i, (word, _) in enumerate(counts.most_common(size - 1), start=1)}

    def __call__(self, text):
        """The ids of a text."""
        return np.array([self.ids.get(word, 0) for word in self._words(text)], "int32")

    def _words(self, text):
        return re.findall(r"[A-Za-z]+|[^A-Za-z\s]", text)


def unigram_bits(train, test):
    """Bits per byte of the test text if each byte has its frequency in the training text, whatever came before."""
    counts = np.bincount(train, minlength=256) + 1.0
    return -np.log2(counts / counts.sum())[test].mean()


def bigram_bits(train, test):
    """The same if each byte has its frequency after the byte before it; every pair is counted once more."""
    counts = np.bincount(256 * train[:-1].astype(int) + train[1:], minlength=256 * 256).reshape(256, 256) + 1.0
    return -np.log2(counts / counts.sum(axis=1, keepdims=True))[test[:-1], test[1:]].mean()


def load_words(path=None, most=None):
    """The text as ids of words (0 is the most frequent) and the list of words; only the `most` most frequent words."""
    found = re.findall(r"[a-z_]+", load_text(path).tobytes().decode(errors="replace").lower())
    words, numbers, counts = np.unique(found, return_inverse=True, return_counts=True)
    by_frequency = np.argsort(-counts, kind="stable")
    rank = np.argsort(by_frequency)[numbers]
    return rank[rank < (most or len(words))], [str(words[i]) for i in by_frequency[:most]]


class Windows(keras.utils.PyDataset):
    """One epoch of batches of windows from random places of the text; the targets are the next bytes.

    The places are drawn for a full epoch, because `fit` may read a batch that it does not use.
    """

    def __init__(self, text, context, batch_size, steps, seed):
        super().__init__()
        self.text, self.context, self.batch_size, self.steps = text, context, batch_size, steps
        self.random = np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self):
        return self.steps

    def __getitem__(self, index):
        windows = self.text[self.starts[index] + np.arange(self.context + 1)].astype("int32")
        return windows[:, :-1], windows[:, 1:]

    def on_epoch_end(self):
        self.starts = self.random.integers(len(self.text) - self.context, size=(self.steps, self.batch_size, 1))


def in_windows(text, context):
    """The text in windows side by side, without the rest at the end; the targets are the next bytes."""
    count = (len(text) - 1) // context
    inputs, targets = text[: count * context], text[1 : count * context + 1]
    return inputs.reshape(count, context).astype("int32"), targets.reshape(count, context).astype("int32")
