"""The replicas of a strategy match one device, with the same bits on each replica."""

import keras
import numpy as np
import pytest
import worlds
from cases import each
from support import OPTIONS, difference, value, values

from keras_adaptive import Group

pytestmark = pytest.mark.on("mirrored", "mirrored-4")
# Four are for what is counted, summed or rounded over the replicas.
with_two = pytest.mark.on("mirrored")
if worlds.current() in ("mirrored", "mirrored-4"):
    import tensorflow as tf
    from replicas import (
        COUNT,
        Loop,
        X,
        Y,
        assert_identical,
        fitted,
        model_with,
        noisy,
        noisy_loop,
        scope,
        spoilt_loop,
        strategy,
    )

# Where Keras's own Adam is wrong.
WRONG_IN_KERAS = {
    "clipnorm": {"clipnorm": 0.3},
    "global_clipnorm": {"global_clipnorm": 0.5},
    "clipvalue": {"clipvalue": 0.1},
    "accumulation": {"gradient_accumulation_steps": 2},
    "average": {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 3},
}
full = pytest.mark.full


def named(options):
    return pytest.mark.parametrize("options", options.values(), ids=options)


def compare(case, options, mode="graph", dtype="float32"):
    ends = [noisy_loop(case, options, replicated, mode, dtype).ends() for replicated in (True, False)]
    assert difference(*ends) <= 1e-6


@each()
@named(OPTIONS)
def test_a_loop_on_replicas_matches_one_device(case, options):
    compare(case, options)


@each(keras="Keras clips before it sums, and cannot merge inside a condition", raises=(AssertionError, RuntimeError))
@named(WRONG_IN_KERAS)
def test_statistics_over_all_variables_are_right_on_replicas(case, options):
    compare(case, options)


@with_two
@each()
def test_a_group_has_other_hyperparameters_on_every_replica(case):
    """Each hyperparameter of the algorithm that is a number."""
    with scope(True):
        optimizer = case.make()
    ours = {name: getattr(optimizer, name) for name in optimizer.hyperparameters}
    others = {name: 0.5 * number for name, number in ours.items() if isinstance(number, float)}
    assert others
    compare(case, {"groups": [Group("w1", 0.5, **others)]})


@with_two
@each()
@pytest.mark.parametrize("options", ["everything", *[pytest.param(name, marks=full) for name in ("plain", "decay")]])
def test_an_eager_loop_on_replicas_matches_one_device(case, options):
    compare(case, OPTIONS[options], mode="eager")


@with_two
@each()
@pytest.mark.parametrize("options", ["plain", pytest.param("everything", marks=full)])
def test_weights_of_low_precision(case, options):
    """Gradients are summed in float32: the same sum as on one device, so the same bits."""
    compare(case, OPTIONS[options], dtype="bfloat16")


@each()
@pytest.mark.parametrize("steps", [2, pytest.param(1, marks=full)])
@pytest.mark.parametrize("slot_dtype", ["bfloat16", "int8"])
def test_rounding_is_the_same_on_every_replica(case, slot_dtype, steps):
    """Matches one device to the bit, through an infinity on one replica and averages that overwrite the weights."""
    options = {"use_ema": True, "ema_overwrite_frequency": 2, "gradient_accumulation_steps": steps}
    options["groups"] = [Group("", slot_dtype=slot_dtype)]
    loops = [spoilt_loop(case, replicated, **options) for replicated in (True, False)]
    loops[0].ends()
    assert difference(*[values(loop.variables) for loop in loops]) == 0.0


@each(keras="Keras looks at each replica's gradient by itself")
@pytest.mark.parametrize("steps", [None, 2])
@pytest.mark.parametrize(("mode", "bad"), [("graph", np.inf), pytest.param("eager", np.nan, marks=full)])
def test_a_nonfinite_gradient_on_one_replica_moves_no_weight(case, bad, steps, mode):
    """One skipped step is counted. With accumulation the full window is dropped."""

    def make():
        if case.twin is None:
            return keras.optimizers.LossScaleOptimizer(case.make(), initial_scale=1.0)
        return case.make(skip_nonfinite=True, use_ema=True, weight_decay=0.1, gradient_accumulation_steps=steps)

    start = [np.array([1.0, -2.0]), np.array(3.0)]
    good = [np.ones((COUNT, 2), "float32"), np.ones(COUNT, "float32")]
    spoilt = [good[0].copy(), good[1]]
    spoilt[0][-1, 0] = bad
    window = steps or 1
    loop = Loop(make, start, True, noisy, mode)
    for _ in range(window):
        loop.step(*good)
    before = values(loop.variables)
    for shares in [spoilt, good][:window]:
        loop.step(*shares)
    assert difference(values(loop.weights), before[:2]) == 0.0
    after = values(loop.variables)
    changed = [v.path for v, a, b in zip(loop.variables, before, after, strict=True) if np.any(a != b)]
    optimizer = loop.optimizer
    states = optimizer.plan.states
    of_the_window = [optimizer.window_is_spoilt, *(s.window["accumulator"] for s in states)] if steps else []
    assert set(changed) - {v.path for v in of_the_window} == {optimizer.skipped_updates.path}
    assert optimizer.skipped_updates.numpy() == 1
    for _ in range(window):
        loop.step(*good)
    assert optimizer.skipped_updates.numpy() == 1
    assert optimizer.iterations.numpy() == 2
    assert difference(values(loop.weights), before[:2]) > 0.0
    loop.ends()


@each(keras="Keras squares every occurrence of a row by itself")
@pytest.mark.parametrize("among", ["replicas", "all"])
def test_repeated_rows_are_summed(case, among):
    """Ids on several replicas, and repeated on one replica, against one-hot inputs on one device."""
    rng = np.random.default_rng(82)
    table, head = rng.normal(size=(7, 3)), rng.normal(size=(3, 1))
    ids = np.tile(np.arange(4), (5, COUNT, 1)) if among == "replicas" else rng.integers(0, 3, size=(5, COUNT, 4))
    ids = ids.astype("int32")

    def gradients(thetas, ids, target):
        with tf.GradientTape() as tape:
            tape.watch(thetas)
            found = tf.nn.embedding_lookup(thetas[0], ids)
            loss = tf.reduce_mean(tf.square(tf.tanh(found) @ thetas[1] - target)) / COUNT
        found = tape.gradient(loss, thetas)
        assert isinstance(found[0], tf.IndexedSlices)
        return found

    ends = []
    for replicated in (True, False):
        loop = Loop(case.make, [table, head], replicated, gradients)
        for batch in ids:
            loop.step(batch, np.linspace(-1.0, 2.0, COUNT, dtype="float32"))
        ends.append(loop.ends())
    assert difference(*ends) <= 2e-6


@each()
def test_lazy_updates_cover_the_rows_of_all_replicas(case):
    """Each replica writes the rows of all replicas and no others, against one device that has all of them."""
    rng = np.random.default_rng(83)
    table, ids = rng.normal(size=(7, 3)), rng.integers(0, 5, size=(5, COUNT, 4)).astype("int32")
    rows = rng.normal(size=(*ids.shape, 3)).astype("float32")

    def gradients(thetas, ids, rows):
        return [tf.IndexedSlices(rows, ids, tf.constant(table.shape))]

    loop = Loop(lambda: case.make(sparse="lazy", global_clipnorm=1.0), [table], True, gradients)
    alone, theta = case.make(sparse="lazy", global_clipnorm=1.0), keras.Variable(table, dtype="float32")
    for its_ids, its_rows in zip(ids, rows, strict=True):
        loop.step(its_ids, its_rows)
        alone.apply(gradients(None, tf.reshape(its_ids, [-1]), tf.reshape(its_rows, [-1, 3])), [theta])
    (end,) = loop.ends()
    assert difference([end], values([theta])) <= 2e-6
    assert difference([end[5:]], [table[5:].astype("float32")]) == 0.0 < difference([end[:5]], [table[:5]])


@with_two
@each()
@pytest.mark.parametrize("mode", ["graph", pytest.param("eager", marks=full)])
@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_a_variable_without_a_gradient_does_not_move(case, mode):
    def first_only(thetas, noise):
        return [noise, None]

    options = {"weight_decay": 0.1, "use_ema": True, "global_clipnorm": 0.5, "skip_nonfinite": True}
    start = [np.array([1.0, -2.0]), np.array(3.0)]
    ends = []
    for replicated in (True, False):
        loop = Loop(lambda: case.make(**options), start, replicated, first_only, mode)
        for _ in range(2):
            loop.step(np.linspace(-1.0, 2.0, 2 * COUNT, dtype="float32").reshape(COUNT, 2))
        ends.append(loop.ends())
    assert difference(*ends) <= 1e-6
    assert ends[0][1] == 3.0
    assert np.all(ends[0][0] != start[0])


@with_two
@each()
@pytest.mark.parametrize("steps", [None, 2])
def test_a_variable_is_overwritten_with_its_gradient(case, steps):
    """The largest over all replicas, and over the window, as in Keras; neither summed, clipped nor decayed."""
    with scope(True):
        scale, weight = keras.Variable([3.0, 3.0]), keras.Variable([1.0, 1.0])
        scale.overwrite_with_gradient = True
        optimizer = case.make(weight_decay=0.1, global_clipnorm=1e-3, gradient_accumulation_steps=steps)
        optimizer.build([scale, weight])

    @tf.function
    def step(given):
        def on_one(given):
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            optimizer.apply([given[replica], tf.ones(2)], [scale, weight])

        strategy().run(on_one, args=(given,))

    rng = np.random.default_rng(83)
    given = rng.uniform(0.0, 9.0, size=(2, COUNT, 2)).astype("float32")
    for shares in given:
        step(tf.constant(shares))
    assert_identical(scale, weight, *optimizer.variables)
    np.testing.assert_array_equal(value(scale), given.max(axis=(0, 1)) if steps else given[1].max(axis=0))


# Through model.fit.


@with_two
@each()
@pytest.mark.parametrize("options", [pytest.param("plain", marks=full), "everything"])
def test_fit_with_a_ragged_last_batch(case, options):
    ends = [fitted(lambda: case.make(**OPTIONS[options]), replicated) for replicated in (True, False)]
    assert difference(*[values(model.trainable_variables) for model in ends]) <= 1e-6
    assert ends[0].optimizer.iterations.numpy() == (3 if options == "everything" else 6)


@with_two
@each()
@pytest.mark.parametrize("swap_on_epoch", [True, pytest.param(False, marks=full)])
def test_the_swap_ema_weights_callback(case, swap_on_epoch):
    losses = []
    for replicated in (True, False):
        callback = keras.callbacks.SwapEMAWeights(swap_on_epoch=swap_on_epoch)
        model = fitted(
            lambda: case.make(use_ema=True, ema_momentum=0.8),
            replicated,
            callbacks=[callback],
            validation_data=(X[:8], Y[:8]),
            validation_batch_size=8,
        )
        losses.append([*values(model.trainable_variables), np.array(model.history.history["val_loss"])])
    assert difference(*losses) <= 1e-6


@with_two
@full
@each()
def test_float8_training(case):
    """Within the resolution of float8: a sum that is rounded differently can flip the last bit of a gradient."""

    def layers():
        layer = keras.layers.Dense(4, activation="tanh")
        layer.build((None, 3))
        layer.quantize("float8")
        return [layer, keras.layers.Dense(1)]

    ends = [values(fitted(case.make, replicated, layers).variables) for replicated in (True, False)]
    assert difference(*ends) <= 1e-2


@with_two
@each()
@pytest.mark.parametrize("options", [pytest.param("plain", marks=full), "everything"])
@pytest.mark.parametrize("how", ["keras", pytest.param("weights", marks=full)])
def test_a_restart_within_a_window_changes_no_bit(case, options, how, tmp_path):
    def make():
        return case.make(**OPTIONS[options])

    def train(model, first, last):
        for i in range(first, last):
            model.train_on_batch(X[4 * i : 4 * i + 4], Y[4 * i : 4 * i + 4])

    whole, half = model_with(make), model_with(make)
    train(whole, 0, 5)
    train(half, 0, 3)
    if how == "keras":
        half.save(tmp_path / "half.keras")
        with scope(True):
            rest = keras.models.load_model(tmp_path / "half.keras")
    else:
        half.save_weights(tmp_path / "half.weights.h5")
        rest = model_with(make)
        with scope(True):
            rest.optimizer.build(rest.trainable_variables)
        rest.load_weights(tmp_path / "half.weights.h5")
    train(rest, 3, 5)
    assert_identical(*rest.trainable_variables, *rest.optimizer.variables)
    assert difference(values(rest.variables), values(whole.variables)) == 0.0
    assert difference(values(rest.optimizer.variables), values(whole.optimizer.variables)) == 0.0


@with_two
@full
@each()
def test_mixed_float16_wraps_the_optimizer_automatically(case):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = fitted(case.make)
    finally:
        keras.config.set_dtype_policy("float32")
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert model.optimizer.inner_optimizer.iterations.numpy() == 6
    assert difference(values(model.trainable_variables), values(fitted(case.make).trainable_variables)) <= 2e-2


@with_two
@each()
def test_an_optimizer_from_outside_the_strategy_is_refused(case):
    """Made outside the strategy, or applied outside `strategy.run`. Nothing changes."""
    with scope(True):
        weight, ours = keras.Variable([1.0]), case.make()
        ours.build([weight])
    outside = case.make()
    with pytest.raises(ValueError, match=r"Received: made under .*, applied under MirroredStrategy"):
        strategy().run(lambda: outside.apply([tf.ones(1)], [weight]))
    for context in (scope(True), scope(False)):
        with context, pytest.raises(ValueError, match="strategy"):
            ours.apply([tf.ones(1)], [weight])
    assert value(weight) == 1.0
    assert ours.iterations.numpy() == 0
