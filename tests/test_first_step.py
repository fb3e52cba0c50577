"""The first step takes little more memory than later ones, whoever builds the optimizer."""

import subprocess
import sys
from pathlib import Path

import pytest
from scripts import environment_of

pytestmark = [
    pytest.mark.full,
    pytest.mark.on("tensorflow"),
    pytest.mark.skipif(sys.platform != "linux", reason="memory is read as Linux shows it"),
]

SCRIPT = Path(__file__).parent / "first_step.py"
# glibc gives freed memory back at once, so that what an earlier step has freed hides nothing.
ALLOCATOR = {"MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_MMAP_THRESHOLD_": "131072"}


@pytest.mark.parametrize(
    ("entry", "copies"),
    [
        *((entry, 1) for entry in ("fit", "function", "extend")),
        # The values before a load are there until all of the new ones are assigned: 8.35, and 4.7 without them.
        ("load", 1.1),
        ("replicas", 2),
    ],
)
def test_no_slot_is_stored_in_a_graph(entry, copies):
    """Gradient, m, v, accumulator and average are 5 times the weights; as constants of a graph they took 48 times.

    The bound of 8 leaves room for the program itself, which is about as large as these weights.
    """
    environment = environment_of("tensorflow") | ALLOCATOR
    done = subprocess.run(
        [sys.executable, str(SCRIPT), entry, "Adam"], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert float(done.stdout.splitlines()[-1]) < 8 * copies


def test_a_table_of_more_than_two_gigabytes_trains():
    """A tensor in a graph is limited to 2 GiB."""
    code = """
import keras, keras_adaptive, numpy as np
model = keras.Sequential([keras.Input((2,), dtype="int32"), keras.layers.Embedding(550_000, 1000, "zeros")])
model.compile(keras_adaptive.Adagrad(0.5, sparse="lazy"), "mse")
model.train_on_batch(np.array([[0, 549_999]]), np.ones((1, 2, 1000), "float32"))
table = model.layers[0].embeddings.value
print(sorted({float(table[row, 0]) for row in (0, 1, 549_999)}))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment_of("tensorflow"), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "[0.0, 0.5]"
