"""The norms behind the rules, clipping and the monitor, for elements of any size."""

from functools import cache

import keras
import numpy as np
import pytest
from keras import ops
from support import MODES, in_mode

from keras_adaptive.core.math import numerics
from keras_adaptive.optimizers import _orthogonal as matrices

SIZES = {
    "float32": [0.0, 1e-36, 1e-30, 1e-10, 1e-8, 1.0, 1e16, 1e20, 1e30, 1e38],
    "float64": [1e-300, 1.0, 1e200, 1e306],
}


def program(function, mode):
    if mode == "jit" and keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    return in_mode(function, mode)


@cache
def sizes(mode):
    """One program for all numbers."""
    return program(lambda x: [numerics.norm(x), numerics.rms(x), numerics.rms(x, -1)], mode)


@cache
def clipping(limit, mode):
    return program(lambda x: numerics.norm_clip([x], limit)(x), mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("dtype", "size"), [(dtype, size) for dtype, sizes in SIZES.items() for size in sizes])
def test_no_square_in_a_norm_overflows_or_vanishes(dtype, size, mode):
    x = np.random.default_rng(11).uniform(-size, size, size=(4, 3)).astype(dtype)
    # A row much smaller, and one of zeros.
    x[2] *= 1e-12
    x[3] = 0.0
    exact = x.astype("longdouble")
    norm, rms, rows = sizes(mode)(ops.convert_to_tensor(x))
    # Numbers below the smallest normal one may be 0.
    near = {"rtol": 1e-6 if dtype == "float32" else 1e-14, "atol": np.finfo(dtype).tiny}
    np.testing.assert_allclose(ops.convert_to_numpy(norm), np.sqrt(np.sum(exact**2)), **near)
    np.testing.assert_allclose(ops.convert_to_numpy(rms), np.sqrt(np.mean(exact**2)), **near)
    expected = np.sqrt(np.mean(exact**2, axis=-1, keepdims=True))
    np.testing.assert_allclose(ops.convert_to_numpy(rows), expected, **near)


@pytest.mark.parametrize("mode", MODES)
def test_a_norm_is_nonfinite_if_an_element_is(mode):
    x = np.ones((3, 2), "float32")
    x[1, 0], x[2] = np.nan, (-np.inf, 1e-30)
    tensor = ops.convert_to_tensor(x)
    rows, whole = in_mode(lambda: [numerics.norm(tensor, -1), numerics.norm(tensor[::2])], mode)()
    np.testing.assert_allclose(ops.convert_to_numpy(rows)[:, 0], [np.sqrt(2), np.nan, np.inf], rtol=1e-6)
    assert np.isinf(ops.convert_to_numpy(whole))


@pytest.mark.parametrize("mode", MODES)
def test_the_norm_over_two_dtypes_is_exact_in_the_wider_one(mode):
    wide, narrow = np.array([1.0, 2e-9]), np.array([3e30, 4e30], "float32")
    both = [ops.convert_to_tensor(x) for x in (wide, narrow, wide)]

    def clipped(tensors, limit):
        return in_mode(lambda: [ops.cast(numerics.norm_clip(tensors, limit)(x), "float64") for x in tensors], mode)()

    for x, unclipped in zip(clipped(both, 1e25), both, strict=True):
        exact = ops.convert_to_numpy(unclipped).astype("float64") * (1e25 / 5e30)
        np.testing.assert_allclose(ops.convert_to_numpy(x), exact, rtol=1e-6)
    (x,) = clipped(both[:1], 0.5)
    np.testing.assert_allclose(ops.convert_to_numpy(x), wide / np.sqrt(np.sum(wide**2)) / 2, rtol=1e-15)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("limit", [1e-30, 1e-3, 1.0, 1e30, 3e38])
@pytest.mark.parametrize("size", [0.0, 1e-42, 1e-30, 1.0, 1e19, 3e38])
def test_clipping_is_exact_over_the_range_of_float32(size, limit, mode):
    """Also where the norm or the clipping factor is outside the range of float32."""
    x = np.random.default_rng(12).uniform(-1.0, 1.0, size=(40,)).astype("float32") * np.float32(size)
    exact = x.astype("longdouble")
    norm = np.sqrt(np.sum(exact**2))
    exact = exact * min(1.0, limit / norm) if norm else exact
    clipped = clipping(limit, mode)(ops.convert_to_tensor(x))
    # Numbers below the smallest normal one may be 0.
    np.testing.assert_allclose(ops.convert_to_numpy(clipped), exact.astype("float64"), rtol=1e-6, atol=1.2e-38)


@pytest.mark.on("jax")
def test_scaled_sums_are_a_branch_of_the_program_for_a_cpu():
    """There each sum is a pass; tests/tpu/test_tpu.py counts what a TPU reads, where they are part of one."""
    import jax

    def branches(function):
        return jax.jit(function).lower(np.ones((4, 3), "float32")).compile().as_text().count(" conditional(")

    assert branches(numerics.norm) == 1
    # A branch would keep XLA from computing the products of several matrices at once.
    assert branches(lambda u: matrices.newton_schulz(u, 5)) == 0


@pytest.mark.on("tensorflow")
@pytest.mark.parametrize(("accelerated", "branches"), [(False, 1), (True, 0)])
def test_scaled_sums_are_a_branch_only_where_all_devices_are_cpus(accelerated, branches, monkeypatch):
    import tensorflow as tf

    devices = [*tf.config.list_physical_devices("CPU"), *[tf.config.PhysicalDevice("TPU:0", "TPU")] * accelerated]
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda: devices)
    graph = tf.function(numerics.norm, autograph=False).get_concrete_function(tf.ones((4, 3))).graph
    assert [operation.type for operation in graph.get_operations()].count("StatelessIf") == branches
