"""Several JAX devices under keras.distribution match one device, and the state can be sharded over them."""

import contextlib

import keras
import numpy as np
import pytest
from cases import each
from keras.distribution import DataParallel, DeviceMesh, LayoutMap, ModelParallel, list_devices
from support import OPTIONS, difference, value, values

from keras_adaptive import Adagrad, Group, Muon

pytestmark = pytest.mark.on("jax-devices")

WIDTH, HIDDEN, BATCH = 5, 16, 16
RNG = np.random.default_rng(91)
X, Y = RNG.normal(size=(4 * BATCH, WIDTH)).astype("float32"), RNG.normal(size=(4 * BATCH, 3)).astype("float32")
# A sum over eight devices is rounded otherwise than one over a batch; a quotient of small gradients shows it.
ROUNDING = 4e-6


def mesh(shape):
    return DeviceMesh(shape, ["batch", "model"], devices=list_devices()[: np.prod(shape)])


def model_parallel(shape, kernel):
    layouts = LayoutMap(mesh(shape))
    layouts[".*hidden/kernel"] = kernel
    layouts[".*hidden/bias"] = kernel[1:]
    return ModelParallel(layout_map=layouts, batch_dim_name="batch")


# By name, what makes the distribution.
DISTRIBUTIONS = {
    "data": DataParallel,
    "model": lambda: model_parallel((2, 4), (None, "model")),
    "both": lambda: model_parallel((4, 2), (None, "batch")),
}
full = pytest.mark.full


@contextlib.contextmanager
def over(distribution):
    """Everything made inside is distributed; None for a single device."""
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(distribution)
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


def model_with(optimizer):
    keras.utils.set_random_seed(92)
    model = keras.Sequential(
        [
            keras.Input((WIDTH,)),
            keras.layers.Dense(HIDDEN, activation="tanh", name="hidden"),
            keras.layers.Dense(3, name="head"),
        ]
    )
    model.compile(optimizer=optimizer, loss="mse")
    return model


def fit(model, epochs=1, x=X):
    model.fit(x, Y, BATCH, epochs, shuffle=False, verbose=0)
    return model


def fitted(case, distribution, x=X, **options):
    with over(distribution and DISTRIBUTIONS[distribution]()):
        return fit(model_with(case.make(**options)), 2, x)


def assert_identical(variables):
    """Devices that hold the same part of a variable hold the same bits. As `bytes_of`, not to be followed by `fit`."""
    for variable in variables:
        parts = {}
        for shard in variable.value.addressable_shards:
            part = np.asarray(shard.data)
            first = parts.setdefault(str(shard.index), part)
            np.testing.assert_array_equal(part, first, err_msg=variable.path)


def bytes_of(variables, by_device=False):
    """All bytes of the variables, or those on the first device.

    Not to be followed by `fit`: it donates the buffers that this looks into, and JAX 0.10.2 crashes then.
    """
    arrays = [variable.value for variable in variables]
    if by_device:
        first = min(arrays[0].devices(), key=lambda device: device.id)
        arrays = [shard.data for array in arrays for shard in array.addressable_shards if shard.device == first]
    return sum(array.nbytes for array in arrays)


def shaped(optimizer):
    """The optimizer's variables that belong to a weight."""
    states = optimizer.plan.states
    return [v for s in states for v in [*s.stored.values(), *([s.window["accumulator"]] if s.window else [])]]


@each()
@pytest.mark.parametrize("options", ["everything", pytest.param("plain", marks=full)])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("shard_state", [False, True])
def test_many_devices_match_one(case, options, distribution, shard_state):
    many = fitted(case, distribution, **OPTIONS[options], shard_state=shard_state)
    alone = fitted(case, None, **OPTIONS[options])
    assert len(many.trainable_variables[0].value.devices()) == 8
    assert difference(values(many.trainable_variables), values(alone.trainable_variables)) <= ROUNDING
    assert difference(values(shaped(many.optimizer)), values(shaped(alone.optimizer))) <= ROUNDING
    assert value(many.optimizer.iterations) == value(alone.optimizer.iterations)
    assert_identical([*many.trainable_variables, *many.optimizer.variables])


@each()
def test_an_infinity_on_one_device_halves_the_scale_on_all(case):
    """It moves no weight. The monitor reports this and the other steps as on one device."""
    spoilt = X.copy()
    spoilt[BATCH + 5, 1] = np.inf
    options = {"loss_scale_factor": "dynamic", "monitor": True}
    models = [fitted(case, distribution, spoilt, **options) for distribution in ("data", None)]
    shown, expected = (model.optimizer.metrics for model in models)
    assert (shown["skipped_updates"], shown["loss_scale"]) == (2.0, 2.0**13)
    assert shown == pytest.approx(expected, rel=1e-5)
    assert difference(*[values(model.trainable_variables) for model in models]) <= ROUNDING
    assert_identical([*models[0].trainable_variables, *models[0].optimizer.variables])


@each()
@pytest.mark.parametrize("trained", [False, True])
def test_the_state_is_sharded_over_the_devices(case, trained):
    """Slots with an axis that divides by eight are split from build on. All else is on every device."""
    held = {}
    for shard_state in (False, True):
        with over(DataParallel()):
            model = model_with(case.make(**OPTIONS["everything"], shard_state=shard_state))
            model.optimizer.build(model.trainable_variables)
            if trained:
                fit(model)
        state = shaped(model.optimizer)
        parts = [[v for v in state if any(n % 8 == 0 for n in v.shape) is divides] for divides in (True, False)]
        assert all(parts)
        held[shard_state] = [bytes_of(p, by_device=True) for p in (*parts, model.trainable_variables)]
        assert [bytes_of(p) for p in (*parts, model.trainable_variables)] == held[False]
    assert held[True] == [held[False][0] // 8, *held[False][1:]]


@each()
@pytest.mark.parametrize("slot_dtype", ["float32", "int8"])
def test_a_custom_step_does_not_change_the_sharding(case, slot_dtype):
    """`stateless_apply` in a plain jax.jit: without our constraint the compiler would shard the weights too.

    The step matches that of one device.
    """
    import jax

    ends = []
    for distribution in (DataParallel(), None):
        with over(distribution):
            weights = [keras.Variable(np.ones((16, 3)), dtype="float32"), keras.Variable(np.ones(5), dtype="float32")]
            options = OPTIONS["everything"] | {"groups": [Group("", slot_dtype=slot_dtype)]}
            optimizer = case.make(**options, shard_state=distribution is not None)
            optimizer.build(weights)
            thetas, state = [v.value for v in weights], [v.value for v in optimizer.variables]
            gradients = [
                jax.numpy.sin(3.0 + jax.numpy.arange(v.size, dtype="float32")).reshape(v.shape) for v in thetas
            ]
            for _ in range(2):
                thetas, state = jax.jit(optimizer.stateless_apply)(state, gradients, thetas)
        ends.append([np.asarray(x, "float64") for x in (*thetas, *state)])
        for variable, after in zip([*weights, *optimizer.variables], [*thetas, *state], strict=True):
            assert after.sharding.is_equivalent_to(variable.value.sharding, after.ndim), variable.path
    assert difference(*ends) <= ROUNDING


@each("classes", where=lambda case: getattr(case.optimizer, "stacks", False))
@pytest.mark.parametrize(("count", "shard_state"), [(16, False), (5, True)])
def test_devices_divide_the_matrices(case, count, shard_state):
    """With the numbers of one device; five matrices are computed as eight, one by each device."""
    import jax

    rng = np.random.default_rng(94)
    start, gradients = rng.normal(size=(count, 8, 8)), rng.normal(size=(3, count, 8, 8)).astype("float32")
    ends = []
    for distribution in (DataParallel(), None):
        with over(distribution):
            weights = [keras.Variable(one, dtype="float32", name=f"theta_{i}") for i, one in enumerate(start)]
            optimizer = case.make(shard_state=shard_state and distribution is not None)
            optimizer.build(weights)
            step = jax.jit(optimizer.stateless_apply)
            thetas, state = [v.value for v in weights], [v.value for v in optimizer.variables]
            for gradient in gradients:
                thetas, state = step(state, [jax.numpy.asarray(one) for one in gradient], thetas)
        ends.append([np.asarray(x, "float64") for x in thetas])
    assert difference(*ends) <= ROUNDING


@pytest.mark.parametrize("shard_state", [False, True])
def test_each_device_has_its_share_of_the_work(shard_state):
    """An eighth of the operations, by the compiler, and then one transfer of the results."""
    import jax

    programs = []
    for distribution in (DataParallel(), None):
        with over(distribution):
            weights = [keras.Variable(np.zeros((512, 512)), dtype="float32", name=f"theta_{i}") for i in range(16)]
            optimizer = Muon(shard_state=shard_state and distribution is not None)
            optimizer.build(weights)
            values = [v.value for v in weights]
            lowered = jax.jit(optimizer.stateless_apply).lower([v.value for v in optimizer.variables], values, values)
            programs.append(lowered.compile())
    divided, alone = (program.cost_analysis()["flops"] for program in programs)
    assert divided <= 1.1 / 8 * alone
    assert programs[0].as_text().count(" all-gather(") == 1


@pytest.mark.parametrize("shard_state", [False, True])
def test_a_large_table_has_slots_on_many_devices(shard_state):
    """Keras compiles the initializer of a variable of more than 8 million elements, on eight devices."""
    with over(DataParallel()):
        table = keras.Variable(keras.initializers.Zeros(), shape=(2049, 4096), dtype="float32", name="embeddings")
        optimizer = Adagrad(initial_accumulator_value=0.25, shard_state=shard_state)
        optimizer.build([table])
        (slot,) = shaped(optimizer)
    assert slot.shape == table.shape
    assert {float(slot.value.min()), float(slot.value.max())} == {0.25}
    assert len(slot.value.devices()) == 8


@each()
def test_rounding_matches_one_device(case):
    """Nearly all elements: a last digit of float32 that a compiler rounds otherwise may tip a rounding.

    With other bits it would be half of them.
    """
    import jax

    rng, ends = np.random.default_rng(93), []
    start, gradients = rng.normal(size=(64, 24)), rng.normal(size=(3, 64, 24)).astype("float32")
    for distribution in (DataParallel, lambda: None):
        with over(distribution()):
            weight = keras.Variable(start, dtype="bfloat16")
            sharded = distribution is DataParallel
            optimizer = case.make(slot_dtype="bfloat16", stochastic_rounding=True, shard_state=sharded)
            optimizer.build([weight])
            step = jax.jit(optimizer.stateless_apply)
            theta, state = [weight.value], [v.value for v in optimizer.variables]
            for gradient in gradients:
                theta, state = step(state, [jax.numpy.asarray(gradient)], theta)
        ends.append([np.asarray(x, "float64") for x in (*theta, *state)])
    for many, alone in zip(*ends, strict=True):
        assert np.mean(many == alone) >= 0.98


@each()
@pytest.mark.parametrize(("how", "devices"), [("keras", 4), ("weights", 4), pytest.param("keras", 1, marks=full)])
def test_training_saved_on_eight_devices_continues_elsewhere(case, how, devices, tmp_path):
    """The saved values, bit for bit, sharded over the available devices. Training continues as on eight."""

    def make():
        return case.make(**OPTIONS["everything"], shard_state=True)

    def train(model, first, last):
        """With sample weights: without them Keras 3.13.2 cannot distribute a batch."""
        for i in range(first, last):
            rows = slice(BATCH * i, BATCH * (i + 1))
            model.train_on_batch(X[rows], Y[rows], sample_weight=np.ones(BATCH, "float32"))

    with over(DataParallel()):
        whole, half = model_with(make()), model_with(make())
        train(whole, 0, 4)
        train(half, 0, 1)
        file = tmp_path / ("half.keras" if how == "keras" else "half.weights.h5")
        half.save(file) if how == "keras" else half.save_weights(file)
    with over(DataParallel(devices=list_devices()[:devices])):
        if how == "keras":
            rest = keras.models.load_model(file)
        else:
            rest = model_with(make())
            rest.optimizer.build(rest.trainable_variables)
            rest.load_weights(file)
        assert rest.optimizer.shard_state
        assert difference(values(rest.optimizer.variables), values(half.optimizer.variables)) == 0.0
        assert len(rest.trainable_variables[0].value.devices()) == devices
        train(rest, 1, 4)
    divides = [v for v in shaped(rest.optimizer) if any(length % devices == 0 for length in v.shape)]
    assert bytes_of(divides, by_device=True) * devices == bytes_of(divides) > 0
    assert difference(values(rest.trainable_variables), values(whole.trainable_variables)) <= ROUNDING


@pytest.mark.on("jax-devices", "jax", "torch", "tensorflow")
@each()
def test_shard_state_without_a_distribution_is_refused(case):
    weight = keras.Variable([1.0, 2.0])
    optimizer = case.make(shard_state=True)
    with pytest.raises(ValueError, match=r"`shard_state`.*keras\.distribution.*Received: shard_state=True"):
        optimizer.build([weight])
    assert not optimizer.built
    assert len(optimizer.variables) == len(case.make().variables)
