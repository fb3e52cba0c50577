"""Every class against every line of the contract, in a small form where it must be compiled first.

tests/test_rules.py compares each class with its twin.

The other tests, in torch's world, cover what needs no compiler. The outcomes make the table in the README.
"""

import keras
import numpy as np
import pytest
import worlds
from cases import column, each
from support import OPTIONS, Problem, a_weight, compiled, difference, values

from keras_adaptive import Group

WORLD = worlds.current()


def rows_of(values, ids, shape):
    """A sparse gradient of this backend, and the same as a dense one."""
    if keras.backend.backend() == "torch":
        import torch

        sparse = torch.sparse_coo_tensor(torch.tensor([ids]), torch.tensor(values), shape, check_invariants=True)
        return sparse, sparse.to_dense()
    import tensorflow as tf

    sparse = tf.IndexedSlices(tf.constant(values), tf.constant(ids), tf.constant(shape))
    return sparse, tf.convert_to_tensor(sparse)


@pytest.mark.on("torch", "tensorflow")
@column("sparse")
@each(torch="classes")
def test_a_sparse_gradient_updates_like_the_dense_one(case):
    """One row occurs twice, and most do not."""
    rng, ends = np.random.default_rng(32), []
    start, steps = rng.normal(size=(7, 3)).astype("float32"), rng.normal(size=(4, 4, 3)).astype("float32")
    for place in (0, 1):
        table, optimizer = keras.Variable(start, name="embeddings"), case.make()
        apply = compiled(optimizer, [table])
        for rows in steps:
            apply([rows_of(rows, [5, 2, 5, 0], (7, 3))[place]])
        ends.append(values([table]))
    assert difference(*ends) <= 2e-6
    assert difference(ends[0], [start]) > 0


@pytest.mark.on("mirrored")
@column("replicas")
@each("lecture", torch="classes", full="classes")
def test_replicas_match_one_device(case):
    from replicas import noisy_loop

    ends = [noisy_loop(case, OPTIONS["everything"], replicated).ends() for replicated in (True, False)]
    assert difference(*ends) <= 1e-6


@pytest.mark.on("tpu-jax", "tpu-tensorflow")
@column("TPU")
@each("lecture", torch="classes", full="classes")
def test_compiles_for_a_tpu(case):
    if reason := worlds.missing(WORLD):
        pytest.skip(reason)
    from keras_adaptive.bench.compilers import running as tpu

    kinds = [((48, 32), "bfloat16"), ((32,), "float32"), ((), "float32")]
    variables = [a_weight(np.ones(shape), dtype=dtype) for shape, dtype in kinds]
    assert "ENTRY" in tpu.program(case.make(weight_decay=0.01), variables).text


@pytest.mark.on("torch")
@column("slot_dtype")
@each("lecture", torch="classes", full="classes")
@pytest.mark.parametrize("slot_dtype", ["bfloat16", "int8"])
def test_low_precision_slots_follow_the_same_path(case, slot_dtype):
    """Each slot is off by at most its spacing, without a bias: the path is the same to a fifth of its length.

    Eight bits are for larger variables, if no group says otherwise.
    """
    ends = {}
    for chosen in ("float32", slot_dtype):
        problem = Problem(seed=18, shapes=[(24, 24)], steps=40)
        optimizer = case.make(slot_dtype=chosen, groups=[Group("", slot_dtype=chosen)])
        (ends[chosen],) = problem.run(optimizer, "float32")
    way = ends["float32"] - problem.start[0]
    gap = np.linalg.norm(ends[slot_dtype] - ends["float32"])
    assert gap <= np.linalg.norm(way) / 5
    kept = [variable.dtype for variable in optimizer.plan.states[0].stored.values()]
    assert (gap > 0) == bool({"bfloat16", "int8", "uint8"} & set(kept))
