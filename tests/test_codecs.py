"""Slots in eight bits: the value of each code, rounding without a bias, and no step that rounding makes large."""

import json

import keras
import numpy as np
import pytest
from cases import each
from keras import ops
from reference import twins
from support import MODES, a_weight, descend, difference, value, values
from test_rounding import run

import keras_adaptive
from keras_adaptive import Group
from keras_adaptive.core.math.rounding import Noise, to_nearest
from keras_adaptive.core.state.codecs import Int8Codec

both_signs = pytest.mark.parametrize("nonnegative", [False, True], ids=["signed", "nonnegative"])
# On JAX operation by operation each one would be compiled for each shape.
MODES = MODES if keras.backend.backend() == "tensorflow" else MODES[-1:]
in_each_mode = pytest.mark.parametrize("mode", MODES)
INT8 = {"slot_dtype": "int8"}


def encoded(x, nonnegative, noise=None, mode=MODES[-1], dtype="float32"):
    """Codes, scales and what is read of them."""
    codec, x = Int8Codec(dtype, nonnegative), np.asarray(x, dtype)

    def both():
        parts = codec.encode("x", ops.convert_to_tensor(x), noise or Noise(0, 0, 1))
        return ops.concatenate([ops.ravel(ops.cast(part, "float64")) for part in parts.values()])

    flat = run(both, mode)
    codes = flat[: x.size].reshape(x.shape).astype("uint8" if nonnegative else "int8")
    scales = flat[x.size :].reshape(codec.parts("x", x.shape)["x_scale"].shape)
    tensors = {"x": ops.convert_to_tensor(codes), "x_scale": ops.convert_to_tensor(scales.astype(dtype))}
    return codes, scales, ops.convert_to_numpy(codec.decode("x", tensors))


def constant_bits(bits):
    return lambda role, shape: ops.convert_to_tensor(bits, dtype="int32")


# The codes


@both_signs
def test_every_code_matches_the_twin(nonnegative):
    """To a rounding of float32. Each code is encoded as itself, for any bits."""
    codes = np.arange(256, dtype="uint8") if nonnegative else np.arange(-127, 128, dtype="int8")
    for dtype, tolerance in (("float32", 1e-6), ("float64", 1e-14)):
        scale = np.full(1, 3.0, dtype)
        tensors = {"x": ops.convert_to_tensor(codes), "x_scale": ops.convert_to_tensor(scale)}
        ours = ops.convert_to_numpy(Int8Codec(dtype, nonnegative).decode("x", tensors))
        np.testing.assert_allclose(ours, twins.decoded(codes, 3.0, nonnegative), rtol=tolerance, atol=0)
        for bits in (2**6, 2**15, 2**16 - 2**6):
            again, its_scale, _ = encoded(ours, nonnegative, constant_bits(bits), dtype=dtype)
            assert np.array_equal(again, codes)
            assert its_scale == 3.0


@in_each_mode
@both_signs
def test_the_stored_code_is_a_neighbour_of_the_value(nonnegative, mode):
    """Over 12 decades of a row, in rows of very different size, in every shape; the last axes make a row."""
    rng = np.random.default_rng(201)
    for shape, of_scales in [
        ((4, 1000), (4, 1)),
        ((1000,), (1,)),
        ((2, 3, 2, 8, 9), (2, 3, 2, 1, 1)),
        ((5, 63), (1, 1)),
        ((5, 64), (5, 1)),
        ((300, 1), (1, 1)),
        ((1, 1), (1, 1)),
        ((), ()),
    ]:
        x = 10.0 ** rng.uniform(-12, 0, shape) * (1 if nonnegative else rng.choice([-1, 1], shape))
        x = (x * 10.0 ** rng.integers(-10, 10, of_scales)).astype("float32")
        codes, scales, read = encoded(x, nonnegative, mode=mode)
        axes = tuple(i for i, n in enumerate(of_scales) if n != shape[i])
        assert np.array_equal(scales, np.max(np.abs(x), axes, keepdims=True) if axes else np.abs(x))
        np.testing.assert_allclose(read, twins.decoded(codes, scales, nonnegative), rtol=1e-6, atol=0)
        lower, upper = twins.neighbours(x.astype("float64"), scales, nonnegative)
        slack = 1e-6 * np.abs(read)
        assert np.all((read >= lower - slack) & (read <= np.maximum(lower, upper) + slack))
        if nonnegative:
            assert np.all(codes > 0)


@in_each_mode
@both_signs
def test_the_mean_over_all_bits_is_exact(nonnegative, mode):
    """With each of the 2^16 possible bits once, next to a 1 that sets the scale: to what one of them counts.

    Of numbers of 6 decades, and of squares of 12; what is below the least square is that.
    """
    every = np.arange(2**16)
    for x in np.float32([0.999, 1 / 3, 0.01, 1e-6, *([1e-12] if nonnegative else [1e-9])]):
        x = x if nonnegative else -x
        rows = np.stack([np.full(2**16, x), np.ones(2**16)], axis=1).reshape(2**11, 64)
        bits = np.repeat(every, 2).reshape(rows.shape)
        read = encoded(rows, nonnegative, constant_bits(bits), mode)[2].reshape(-1, 2)[:, 0].astype("float64")
        lower, upper = np.unique(read)
        assert abs(read.mean() - x) <= 2.0**-16 * (upper - lower) + 1e-6 * abs(x)
    if nonnegative:
        read = encoded(np.repeat(np.float32([1e-30, 1.0]), 32), True, mode=mode)[2]
        np.testing.assert_allclose(read[:32], twins.decoded(1, 1.0, True), rtol=1e-6)


@both_signs
def test_the_mean_over_long_rows_is_unbiased(nonnegative):
    """Within 5 standard deviations, with the bits that a step has."""
    rng = np.random.default_rng(202)
    x = (np.abs if nonnegative else np.asarray)(rng.normal(size=(8, 20000))).astype("float32")
    _, scales, read = encoded(x, nonnegative)
    lower, upper = twins.neighbours(x.astype("float64"), scales, nonnegative)
    deviation = np.sqrt(np.sum((upper - x) * (x - lower), axis=1))
    assert np.all(np.abs(np.sum(read - x, axis=1, dtype="float64")) <= 5 * deviation)
    assert np.linalg.norm(read - x) <= 0.04 * np.linalg.norm(x)
    nearest = encoded(x, nonnegative, to_nearest)[2]
    assert np.all(np.abs(nearest - x) <= (upper - lower) / 2 * (1 + 1e-4) + 1e-6 * np.abs(x))


@in_each_mode
@both_signs
def test_values_without_a_code_do_not_become_numbers(nonnegative, mode):
    """A row of zeros is zero, infinities and NaN show only in their row, and an empty slot stays empty."""
    rows = np.ones((5, 64), "float32")
    rows[0] = 0.0
    rows[1, 3], rows[2, 4], rows[3, 5] = np.nan, np.inf, np.inf if nonnegative else -np.inf
    _, scales, read = encoded(rows, nonnegative, mode=mode)
    assert np.all(read[0] == 0.0)
    assert not np.any(np.isfinite(read[1:4]))
    assert not np.any(np.isfinite(scales[1:4]))
    assert np.all(read[4] == 1.0)
    for shape in ((3, 0), (0,), (0, 100)):
        assert encoded(np.zeros(shape), nonnegative, mode=mode)[2].shape == shape
    largest = np.float32([np.finfo("float32").max, np.finfo("float32").tiny])
    assert np.all(encoded(np.repeat(largest[:, None], 64, 1), nonnegative, mode=mode)[2] == largest[:, None])


# Which slots


@each("lecture rows", torch="rows")
def test_a_slot_declared_nonnegative_is_nonnegative(case):
    """Every nonnegative slot is declared so, because codes without a sign are twice as fine."""
    rng = np.random.default_rng(203)
    variables = [a_weight(rng.normal(size=shape), dtype="float64") for shape in ((8, 5), (40,))]
    optimizer = case.make()
    optimizer.build(variables)
    least: dict[str, float] = {}
    for step in range(7):
        if step:
            optimizer.apply([ops.convert_to_tensor(rng.normal(size=v.shape)) for v in variables], variables)
        for state in optimizer.plan.states:
            for name, (shape, _) in state.slots.items():
                if shape == state.shape:
                    least[name] = min(least.get(name, 0.0), value(state.stored[name]).min())
    declared = {slot.name: slot.nonnegative for slot in optimizer.slots if slot.name in least}
    assert declared == {name: smallest >= 0.0 for name, smallest in least.items()}


@each()
def test_small_variables_and_embeddings_are_stored_exactly(case):
    """A group can change this for its variables only. A layer that is merely named embedding is not one."""
    paths = {"large": (64, 64), "small": (63, 65), "tokens/embeddings": (64, 64), "embedding/kernel": (64, 64)}
    chosen = {"large": True, "small": False, "tokens/embeddings": False, "embedding/kernel": True}
    for group, held in (
        (None, chosen),
        (Group("small|tokens", slot_dtype="int8"), chosen | {"small": True, "tokens/embeddings": True}),
        (Group("large", slot_dtype="float32"), chosen | {"large": False}),
    ):
        optimizer = case.make(groups=None if group is None else [group], **INT8)
        optimizer.build([Named(np.ones(shape), path) for path, shape in paths.items()])
        for state in optimizer.plan.states:
            for slot in optimizer.slots:
                if slot.name in state.stored and state.stored[slot.name].shape == state.shape:
                    fine = slot.exact or slot.slot_dtype("int8", True, state.h) == "float32"
                    coded = state.stored[slot.name].dtype in ("int8", "uint8")
                    assert coded == (held[state.path] and not fine)


class Named(keras.Variable):
    """With its own path, like a layer's variable."""

    def __init__(self, initializer, path):
        super().__init__(initializer, name=path.split("/")[-1])
        self._path = path


def test_bytes_per_parameter():
    """Of a (1024, 1024) matrix: codes, and a scale for each row."""
    for optimizer, slots in [
        (keras_adaptive.Adam(**INT8), 2),
        (keras_adaptive.RMSprop(**INT8), 1),
        (keras_adaptive.SGD(momentum=0.9, **INT8), 1),
    ]:
        optimizer.build([a_weight(np.zeros((1024, 1024), "float32"))])
        assert optimizer.describe().state_bytes == slots * (1024 * 1024 + 4 * 1024)


def test_wrong_slot_dtypes_are_refused():
    with pytest.raises(ValueError, match=r"`slot_dtype` must be .*'int8'.*Received: slot_dtype='int4'"):
        keras_adaptive.Adam(slot_dtype="int4")
    with pytest.raises(ValueError, match=r"`slot_dtype` must be .*'int8'.*Received: slot_dtype='int4'"):
        Group("kernel", slot_dtype="int4")
    group = Group("kernel", slot_dtype="int8")
    assert Group.from_config(group.get_config()) == group
    old = {name: x for name, x in group.get_config().items() if name != "slot_dtype"}
    assert Group.from_config(old) == Group("kernel")


# Steps


def large(seed=204, scale=1.0):
    rng = np.random.default_rng(seed)
    return keras.Variable(scale * rng.normal(size=(64, 64)), dtype="float32", name="large")


@each()
def test_rounding_makes_no_step_large(case):
    """Gradients of one row span 12 decades, and most of them are present in some steps only.

    No weight moves more than 4 times as far in a step as the weight that moves furthest in float32.
    """
    furthest = {}
    for slot_dtype in ("float32", "int8"):
        rng = np.random.default_rng(205)
        size = 10.0 ** rng.uniform(-12, 0, (64, 64))
        weights, optimizer = large(), case.make(learning_rate=1e-3, weight_decay=None, slot_dtype=slot_dtype)
        before, furthest[slot_dtype] = value(weights), []
        for _ in range(30):
            gradient = size * rng.normal(size=size.shape) * (rng.random(size.shape) < 0.3)
            optimizer.apply([ops.convert_to_tensor(gradient, dtype="float32")], [weights])
            after = value(weights)
            furthest[slot_dtype].append(np.max(np.abs(after - before)))
            before = after
    assert np.max(furthest["int8"]) <= 4 * np.max(furthest["float32"])


@each()
def test_training_in_eight_bits_follows_float32(case):
    """On gradients that depend on the weights: the distance is a small part of the way."""
    ends = {}
    for slot_dtype in ("float32", "int8"):
        weights, optimizer = large(), case.make(learning_rate=1e-2, slot_dtype=slot_dtype)
        start = value(weights)
        descend(optimizer, [weights], 0, 40)
        ends[slot_dtype] = value(weights)
    way = np.linalg.norm(ends["float32"] - start)
    assert np.linalg.norm(ends["int8"] - ends["float32"]) <= 0.1 * way


@each()
def test_a_moving_average_does_not_get_stuck(case):
    """A gradient falls to a tenth and stays there: second moments fall like those of float32 on average."""
    kept = {}
    for slot_dtype in ("float32", "int8"):
        rng = np.random.default_rng(206)
        size, weights = rng.uniform(0.5, 1.0, (64, 64)), large()
        optimizer = case.make(learning_rate=1e-4, slot_dtype=slot_dtype)
        for t in range(120):
            gradient = size * (1.0 if t < 20 else 0.1)
            optimizer.apply([ops.convert_to_tensor(gradient, dtype="float32")], [weights])
        kept[slot_dtype] = read(optimizer)
    for name, exact in kept["float32"].items():
        assert abs(kept["int8"][name].mean() / exact.mean() - 1.0) <= 0.01


def read(optimizer):
    """The slots of its first variable as the rule reads them."""
    state = optimizer.plan.states[0]
    tensors = {role: variable.value for role, variable in state.stored.items()}
    return {
        name: np.asarray(ops.convert_to_numpy(codec.decode(name, tensors)), "float64")
        for name, (shape, codec) in state.slots.items()
        if shape == state.shape
    }


# Saved and restored


@each()
@pytest.mark.parametrize(("there", "here"), [("int8", "int8"), ("int8", "float32"), ("float32", "int8")])
def test_a_state_transfers_to_another_slot_dtype(case, there, here, tmp_path):
    """Bit for bit to the same dtype, the decoded values from eight bits, and the nearest codes to eight bits."""
    first, second = [large()], [large()]
    one, other = case.make(slot_dtype=there), case.make(slot_dtype=here)
    descend(one, first, 0, 3)
    np.savez(tmp_path / "state.npz", **one.get_state())
    other.build(second)
    assert other.set_state(np.load(tmp_path / "state.npz")).complete
    for name, exact in read(one).items():
        taken = read(other)[name]
        gap = np.max(np.abs(taken - exact)) / max(np.max(np.abs(exact)), 1e-30)
        assert gap <= (0.02 if here == "int8" and there != here else 0.0)
        assert other.plan.states[0].stored[name].dtype in ("int8", "uint8", "float32")
    if there == here:
        second[0].assign(first[0])
        descend(one, first, 3, 5)
        descend(other, second, 3, 5)
        assert difference(values(second), values(first)) == 0.0
        assert difference(values(other.variables), values(one.variables)) == 0.0


@each()
def test_codes_without_their_scales_are_refused(case):
    optimizer, other = case.make(**INT8), case.make()
    weights = [large()]
    descend(optimizer, weights, 0, 1)
    other.build(weights)
    state = optimizer.get_state()
    manifest = json.loads(state["manifest"].tobytes())
    scales = [role for role in manifest["variables"][0]["kept"] if role.endswith("_scale")]
    for role in scales:
        key = manifest["variables"][0]["kept"].pop(role)
        del manifest["arrays"][key], state[key]
    state["manifest"] = np.frombuffer(json.dumps(manifest).encode(), "uint8")
    if not scales:
        return
    before = values(other.variables)
    with pytest.raises(ValueError, match=r"_scale' must have shape \(64, 1\)"):
        other.set_state(state)
    assert difference(values(other.variables), before) == 0.0


@pytest.mark.parametrize("name", ["Adam", "RMSprop", "Adagrad", "SGD"])
def test_keras_states_are_continued(name):
    theirs = getattr(keras.optimizers, name)(0.01, **({"momentum": 0.9} if name in ("SGD", "RMSprop") else {}))
    weights = [large()]
    theirs.apply([ops.ones((64, 64))], weights)
    kept = {}
    for slot_dtype in ("float32", "int8"):
        arguments = {"momentum": 0.9} if name in ("SGD", "RMSprop") else {}
        ours = getattr(keras_adaptive, name)(slot_dtype=slot_dtype, **arguments)
        ours.continue_from(theirs)
        kept[slot_dtype] = read(ours)
    for slot, exact in kept["float32"].items():
        np.testing.assert_allclose(kept["int8"][slot], exact, rtol=1e-5)


def test_training_begins_as_in_float32():
    optimizer = keras_adaptive.Adagrad(initial_accumulator_value=0.1, **INT8)
    optimizer.build([large()])
    assert np.allclose(read(optimizer)["v"], 0.1, rtol=1e-6, atol=0)
