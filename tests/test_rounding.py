"""Stochastic rounding is unbiased, and its bits are random and the same on every backend."""

import keras
import ml_dtypes
import numpy as np
import pytest
from keras import ops
from reference import twins
from support import MODES, SHAPES, in_mode

from keras_adaptive.core.math.rounding import Noise, to_bfloat16

in_each_mode = pytest.mark.parametrize("mode", MODES)


def run(function, mode):
    """What a function without arguments returns, in NumPy."""
    if keras.backend.backend() == "jax" and mode == "jit":
        import jax

        return np.asarray(jax.jit(function)())
    return ops.convert_to_numpy(in_mode(function, mode)())


def bits(shape, t=1, seed=0, index=0, role="theta", mode="eager"):
    def noise():
        # A number that is not known while tracing, as in a step.
        count = ops.convert_to_tensor(np.array(t, "int32"))
        return ops.broadcast_to(Noise(seed, index, count)(role, shape), shape)

    return run(noise, mode)


def rounded(x, with_bits, mode="eager"):
    """In float32."""

    def function():
        return ops.cast(
            to_bfloat16(ops.convert_to_tensor(x), ops.convert_to_tensor(with_bits, dtype="int32")), "float32"
        )

    return run(function, mode)


# The bits


@in_each_mode
@pytest.mark.parametrize("shape", [*SHAPES, (300, 1000)], ids=str)
def test_the_bits_match_the_twin(shape, mode):
    """So they are the same on all backends, bit for bit."""
    for seed, index, role, t in [(0, 0, "theta", 1), (2**40 + 1, 3, "m", 2**31 - 1), (1, 200, "exact", 77)]:
        ours = bits(shape, t, seed, index, role, mode)
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(ours, twins.rounding_bits(seed, index, role, t, shape))


def test_more_elements_than_int32_can_count():
    """Traced only: the positions wrap and nothing overflows."""
    shape = (3, 2**16, 2**16)

    def noise():
        return ops.broadcast_to(Noise(0, 0, ops.convert_to_tensor(1, dtype="int32"))("m", shape), shape)

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        assert tuple(tf.function(noise).get_concrete_function().output_shapes) == shape
    elif keras.backend.backend() == "jax":
        import jax

        assert jax.eval_shape(noise).shape == shape
    else:
        with keras.device("meta"):
            assert tuple(Noise(0, 0, ops.zeros((), "int32"))("m", shape).shape) == shape


def test_the_bits_are_uniform_and_uncorrelated():
    """Every single bit, and every pair of bits, of what may meet: stated at 5 standard deviations, 6 for the most of
    256 pairs. The seeds are fixed, so the outcome is too.
    """
    shape = (256, 512)
    n = np.prod(shape)
    one = {"t": 1000, "seed": 0, "index": 3, "role": "m"}
    others = [{"t": 1001}, {"t": 1000 + 2**16}, {"seed": 1}, {"seed": 2**32}, {"index": 4}, {"role": "v"}]
    base = bits(shape, **one)
    pairs = [(base, bits(shape, **one | other)) for other in others]
    pairs += [(base[:, :-lag], base[:, lag:]) for lag in (1, 2, 8, 256)]
    pairs += [(base[:-lag], base[lag:]) for lag in (1, 2, 8, 128)]
    counts = np.bincount(base.ravel() >> 6, minlength=1024)
    chi_squared = np.sum((counts - n / 1024) ** 2) / (n / 1024)
    assert abs(chi_squared - 1023) <= 5 * np.sqrt(2 * 1023)
    for left, right in pairs:
        left, right = (x.ravel()[None] >> np.arange(16)[:, None] & 1 for x in (left, right))
        n = left.shape[1]
        left, right = 2.0 * left - 1, 2.0 * right - 1
        assert np.max(np.abs(left.mean(axis=1))) <= 5 / np.sqrt(n)
        assert np.max(np.abs(left @ right.T)) / n <= 6 / np.sqrt(n)
        assert abs(np.mean(left[-1] * left[-2])) <= 5 / np.sqrt(n), "bits of one number"


# The rounding


@in_each_mode
def test_the_mean_over_all_bits_is_exact(mode):
    """With each of the 2^16 possible bits once, so the mean is exact."""
    every = np.arange(2**16)
    for x in np.float32([1.001, -1.001, 1.9999999, np.pi * 1e-20, -np.e * 1e30, 2.0**-126 * 1.3, 1 / 3]):
        ours = rounded(np.full(2**16, x), every, mode).astype("float64")
        assert ours.mean() == np.float64(x)
        assert len(np.unique(ours)) == 2
        assert np.ptp(ours) <= 2.0**-7 * abs(np.float64(x))


@in_each_mode
def test_exact_values_are_not_changed(mode):
    """Numbers of bfloat16, zeros and infinities exactly; NaN of every payload stays NaN."""
    with np.errstate(invalid="ignore"):
        exact = np.arange(2**16, dtype="uint16").view(ml_dtypes.bfloat16).astype("float32")
    # A compiler for a CPU may flush numbers below the smallest normal one.
    exact = exact[(np.abs(exact) >= 2.0**-126) | (exact == 0) | np.isnan(exact)]
    nan = np.uint32([0x7F800001, 0x7FFFFFFF, 0xFF80FFFF, 0xFFFFFFFF, 0x7FC00000]).view("float32")
    for with_bits in (0, 1, 2**15, 2**16 - 1):
        ours = rounded(exact, np.full(len(exact), with_bits), mode)
        assert np.array_equal(ours, exact, equal_nan=True)
        assert np.array_equal(np.signbit(ours[exact == 0]), np.signbit(exact[exact == 0]))
        assert np.all(np.isnan(rounded(nan, np.full(5, with_bits), mode)))


def test_the_mean_of_many_roundings_is_unbiased():
    """1.001 lies 0.128 of a spacing of 2^-7 above 1: within 5 standard deviations of the mean of 200,000."""
    n, above, spacing = 200_000, 0.128, 2.0**-7
    ours = rounded(np.full(n, 1.001, "float32"), bits((n,)))
    assert abs(ours.mean(dtype="float64") - 1.001) <= 5 * spacing * np.sqrt(above * (1 - above) / n)
