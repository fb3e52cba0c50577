"""The dynamic loss scale: it changes no result, and a nonfinite gradient lowers it and moves nothing."""

import keras
import numpy as np
import pytest
from cases import each
from keras import ops
from support import Problem, a_weight, difference, in_mode, value, values

RNG = np.random.default_rng(91)
X, Y = RNG.normal(size=(24, 3)).astype("float32"), RNG.normal(size=(24, 1)).astype("float32")
START = 2.0**15
bad_number = pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])


def scaled(case, **options):
    """With a dynamic loss scale; Keras's own has it from a wrapper."""
    if case.twin is None:
        return keras.optimizers.LossScaleOptimizer(case.make(**options))
    return case.make(loss_scale_factor="dynamic", **options)


def apply(optimizer, gradients, variables):
    """One call, with the gradients of the scaled loss."""
    scale = value(optimizer.dynamic_scale)
    optimizer.apply([ops.convert_to_tensor(scale * np.asarray(g), dtype=v.dtype) for g, v in gradients], variables)


def step(optimizer, variables, *gradients):
    apply(optimizer, list(zip(gradients, variables, strict=True)), variables)


@pytest.fixture
def mixed_float16():
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy("float32")


# The numbers


@each()
@pytest.mark.parametrize("options", [{}, {"global_clipnorm": 0.5, "weight_decay": 0.1, "use_ema": True}], ids=str)
def test_the_loss_scale_changes_no_weight(case, options):
    """To the bit, since it is a power of two. Both skip nonfinite gradients, so XLA compiles the same arithmetic."""
    ends = []
    for optimizer in (scaled(case, **options), case.make(skip_nonfinite=True, **options)):
        problem = Problem(seed=92, shapes=[(), (3, 0), (4, 3)])
        variables = problem.variables("float32")
        for t in range(1, 5):
            gradients = problem.gradients(t, [value(v) for v in variables])
            # The same digits for both.
            gradients = [g.astype("float32").astype("float64") for g in gradients]
            if optimizer.loss_scale_factor is None:
                optimizer.apply([ops.convert_to_tensor(g, dtype="float32") for g in gradients], variables)
            else:
                step(optimizer, variables, *gradients)
        ends.append(values(variables))
    assert difference(*ends) == 0.0


@each()
@bad_number
def test_a_nonfinite_call_halves_the_scale_and_moves_nothing(case, bad):
    variables = [a_weight([1.0, -1.0]), a_weight(2.0)]
    optimizer = scaled(case, weight_decay=0.1, use_ema=True)
    step(optimizer, variables, [1.0, 2.0], 1.0)
    everything = [*variables, *optimizer.variables]
    before = values(everything)
    step(optimizer, variables, [1.0, bad], 1.0)
    changed = {v.path for v, a, b in zip(everything, before, values(everything), strict=True) if np.any(a != b)}
    assert changed == {f"{optimizer.name}/{name}" for name in ("dynamic_scale", "finite_calls", "skipped_updates")}
    assert value(optimizer.dynamic_scale) == START / 2
    assert int(value(optimizer.skipped_updates)) == 1
    step(optimizer, variables, [1.0, 2.0], 1.0)
    assert int(value(optimizer.iterations)) == 2
    assert int(value(optimizer.skipped_updates)) == 1
    assert value(optimizer.dynamic_scale) == START / 2


@each()
def test_two_thousand_consecutive_finite_calls_double_the_scale(case):
    variables = [a_weight([1.0, -1.0])]
    optimizer = scaled(case, learning_rate=1e-6)
    good, bad = [0.5, 0.25], [np.inf, 0.0]
    calls = optimizer.loss_scale.finite_calls
    calls.assign(1998)
    expected = [(good, START, 1999), (good, 2 * START, 0), (good, 2 * START, 1), (bad, START, 0), (good, START, 1)]
    for gradient, scale, count in expected:
        step(optimizer, variables, gradient)
        assert value(optimizer.dynamic_scale) == scale
        assert int(value(calls)) == count


@each()
def test_the_scale_stays_between_one_and_infinity(case):
    variables = [a_weight([1.0, -1.0])]
    optimizer = scaled(case)
    largest = 2.0**127
    for begin, gradient, end in [(largest, 1e-9, largest), (2.0, np.inf, 1.0), (1.0, np.nan, 1.0), (1.5, np.nan, 1.0)]:
        optimizer.dynamic_scale.assign(begin)
        optimizer.loss_scale.finite_calls.assign(1999)
        step(optimizer, variables, [gradient, 1e-9])
        assert value(optimizer.dynamic_scale) == end
        assert int(value(optimizer.loss_scale.finite_calls)) == 0


@each()
def test_within_a_window_of_accumulation(case):
    """Each micro-batch is unscaled by the scale of its loss; a nonfinite one discards its window."""
    ours, other = [a_weight([1.0, -1.0])], [a_weight([1.0, -1.0])]
    options = {"gradient_accumulation_steps": 2, "weight_decay": 0.1}
    dynamic, plain = scaled(case, **options), case.make(skip_nonfinite=True, **options)
    dynamic.loss_scale.finite_calls.assign(1999)
    gradients = [[1.0, 2.0], [0.5, -1.0], [np.inf, 1.0], [0.5, np.nan], [3.0, 1.0], [-1.0, 0.25]]
    scales = [2 * START, 2 * START, START, START / 2, START / 2, START / 2]
    for gradient, scale in zip(gradients, scales, strict=True):
        step(dynamic, ours, gradient)
        plain.apply([ops.convert_to_tensor(gradient)], other)
        assert value(dynamic.dynamic_scale) == scale
    assert difference(values(ours), values(other)) == 0.0
    assert int(value(dynamic.iterations)) == 2
    assert int(value(dynamic.skipped_updates)) == 1


@pytest.mark.on("tensorflow")
@each()
def test_a_sparse_gradient_is_unscaled(case):
    import tensorflow as tf

    rows, dense = a_weight(np.ones((4, 2))), a_weight(np.ones((4, 2)))
    optimizer = scaled(case)
    scale = value(optimizer.dynamic_scale)
    for bad in (1.0, np.inf):
        gradient = tf.IndexedSlices(
            tf.constant(scale * bad, tf.float32) * tf.ones((3, 2)), tf.constant([1, 1, 3]), tf.constant((4, 2))
        )
        optimizer.apply([gradient], [rows])
    case.make().apply([tf.constant([[0.0, 0.0], [2.0, 2.0], [0.0, 0.0], [1.0, 1.0]])], [dense])
    assert difference(values([rows]), values([dense])) == 0.0
    assert value(optimizer.dynamic_scale) == START / 2


@each()
def test_a_float8_scale_is_not_unscaled(case):
    case.needs("first steps")
    scale, weight = a_weight([3.0, 3.0]), a_weight([1.0, 1.0])
    scale.overwrite_with_gradient = True
    optimizer = scaled(case)
    loss_scale = float(value(optimizer.dynamic_scale))
    for _ in range(2):
        optimizer.apply([ops.convert_to_tensor([0.25, 7.0]), ops.convert_to_tensor([loss_scale, 0.0])], [scale, weight])
    assert difference(values([scale]), [np.array([0.25, 7.0])]) == 0.0
    assert value(weight)[0] < 1.0


# Ways to run a step


def training(optimizer, weight, spike):
    """A step of TensorFlow."""
    import tensorflow as tf

    def train():
        with tf.GradientTape() as tape:
            loss = optimizer.scale_loss(tf.reduce_sum(spike * tf.square(weight.value)))
        optimizer.apply([tape.gradient(loss, weight.value)], [weight])

    return train


@pytest.mark.on("tensorflow")
@each()
@pytest.mark.parametrize("mode", ["graph", "jit"])
def test_graph_and_jit_match_eager(case, mode):
    """A custom loop. In its third step a gradient is infinite."""
    import tensorflow as tf

    ends = []
    for how in ("eager", mode):
        weight, spike = a_weight([1.0, -1.0]), tf.Variable(1.0)
        optimizer = scaled(case)
        optimizer.build([weight])

        train = in_mode(training(optimizer, weight, spike), how)
        for number in (1.0, 1.0, np.inf, 1.0):
            spike.assign(number)
            train()
        ends.append(values([weight, *optimizer.variables]))
        assert value(optimizer.dynamic_scale) == START / 2
        assert int(value(optimizer.iterations)) == 3
    assert difference(*ends) <= 1e-6


@pytest.mark.on("tensorflow")
@each()
def test_a_graph_that_scaled_the_loss_before_the_optimizer_was_built_follows_the_scale(case):
    import tensorflow as tf

    weight = a_weight([1.0, -1.0])
    optimizer = scaled(case)

    @tf.function
    def gradient(number):
        return optimizer.scale_loss(number) * tf.ones(2)

    for number, before in ((1.0, START), (np.inf, START), (1.0, START / 2)):
        given = gradient(tf.constant(number))
        assert np.all(value(given) == number * before)
        optimizer.apply([given], [weight])
    assert gradient.experimental_get_tracing_count() == 1


@pytest.mark.on("jax")
@each()
def test_a_loop_on_jax(case):
    """As in Keras's trainer: the loss is scaled within a scope that holds the state."""
    import jax

    weight, other = a_weight([1.0, -1.0]), a_weight([1.0, -1.0])
    optimizer, plain = scaled(case), case.make()
    optimizer.build([weight])

    def loss(theta, kept, number):
        with keras.StatelessScope(state_mapping=list(zip(optimizer.variables, kept, strict=True))):
            return optimizer.scale_loss(number * jax.numpy.sum(theta[0] ** 2))

    @jax.jit
    def train(theta, kept, number):
        return optimizer.stateless_apply(kept, jax.grad(loss)(theta, kept, number), theta)

    theta, kept = [weight.value], [v.value for v in optimizer.variables]
    for number in (1.0, np.inf, 1.0):
        theta, kept = train(theta, kept, number)
    for _ in range(2):
        plain.apply([2.0 * other.value], [other])
    assert difference([value(theta[0])], values([other])) <= 1e-6
    state = {v.path.split("/")[-1]: float(k) for v, k in zip(optimizer.variables, kept, strict=True) if not k.ndim}
    assert state["dynamic_scale"] == START / 2
    assert state["skipped_updates"] == 1
    assert value(optimizer.dynamic_scale) == START


def model_with(optimizer, loss="mse", hidden=(4,), **compiled):
    keras.utils.set_random_seed(93)
    layers = [keras.layers.Dense(width, activation="tanh") for width in hidden]
    model = keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(1)])
    model.compile(optimizer=optimizer, loss=loss, **compiled)
    return model


def spoilt(x):
    """The same with an infinity in its second batch of eight, in the half of the second of two replicas."""
    x = x.copy()
    x[13, 1] = np.inf
    return x


@each()
def test_in_fit(case):
    ends = []
    for optimizer in (scaled(case), case.make(skip_nonfinite=True)):
        model = model_with(optimizer)
        model.fit(spoilt(X), Y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        ends.append(values(model.trainable_variables))
        assert int(value(optimizer.iterations)) == 4
        assert int(value(optimizer.skipped_updates)) == 2
        if optimizer.loss_scale_factor == "dynamic":
            assert value(optimizer.dynamic_scale) == START / 4
    assert difference(*ends) <= 1e-6


@each()
def test_mixed_float16_in_fit(case, mixed_float16):
    """The loss is so small that its gradients in float16 are zero without a scale."""
    case.needs("rest")
    case.needs("first steps")
    given = {"learning_rate": 1e6, "weight_decay": None}
    moved = []
    for optimizer in (scaled(case, **given), case.make(**given)):
        model = model_with(optimizer, loss=lambda y, p: 1e-8 * ops.mean((y - p) ** 2), auto_scale_loss=False)
        before = values(model.trainable_variables)
        model.fit(X, Y, batch_size=24, epochs=2, verbose=0)
        kernel = model.layers[0].kernel
        moved.append(difference([value(kernel)], [before[0]]))
        assert model.optimizer is optimizer
    assert moved[0] > 0.0
    assert moved[1] == 0.0


# Mistakes


@each()
def test_wrapping_the_optimizer_names_the_argument_of_compile(case, mixed_float16):
    wraps = [keras.optimizers.LossScaleOptimizer, model_with]
    # Keras 3.13 has no MultiOptimizer.
    if hasattr(keras.optimizers, "MultiOptimizer"):
        wraps.append(lambda o: keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(default_optimizer=o)))
    for wrap in wraps:
        optimizer = scaled(case)
        with pytest.raises(ValueError, match=r"compile\(auto_scale_loss=False\)"):
            wrap(optimizer)
        assert optimizer.loss_scale_factor == "dynamic"


@each()
def test_the_kind_of_loss_scale_cannot_be_changed_later(case):
    for old, new in (("dynamic", None), ("dynamic", 2.0), (None, "dynamic"), (2.0, "dynamic")):
        optimizer = case.make(loss_scale_factor=old)
        with pytest.raises(ValueError, match=f"Received: loss_scale_factor={new!r}"):
            optimizer.loss_scale_factor = new
        assert optimizer.loss_scale_factor == old
        optimizer.loss_scale_factor = old
    with pytest.raises(AttributeError, match=r"loss_scale_factor=2\.0"):
        _ = case.make(loss_scale_factor=2.0).dynamic_scale


@each()
@pytest.mark.parametrize("wrong", ["Dynamic", "", 0.0, -2.0, float("inf")])
def test_other_values_are_refused(case, wrong):
    with pytest.raises((ValueError, TypeError), match=r'or "dynamic" or a finite real number above 0\. Received: '):
        case.make(loss_scale_factor=wrong)


@each()
def test_gradients_of_an_unscaled_loss_are_refused(case):
    weight = a_weight([1.0, -1.0])
    optimizer = scaled(case)
    with pytest.raises(ValueError, match=r"optimizer\.scale_loss\(loss\)"):
        optimizer.apply([ops.ones(2)], [weight])
    assert not optimizer.built
    optimizer.build([weight])
    with pytest.raises(ValueError, match=r"optimizer\.scale_loss\(loss\)"):
        optimizer.apply([ops.ones(2)], [weight])
    assert difference(values([weight]), [np.array([1.0, -1.0])]) == 0.0
    for way in (lambda o: o.scale_loss(1.0), lambda o: o.dynamic_scale):
        optimizer = scaled(case)
        way(optimizer)
        optimizer.apply([ops.ones(2)], [weight])


# Saved and loaded


@each()
def test_the_loss_scale_is_saved_with_the_model(case, tmp_path):
    model = model_with(scaled(case))
    model.fit(spoilt(X), Y, batch_size=8, shuffle=False, verbose=0)
    model.save(tmp_path / "half.keras")
    rest = keras.models.load_model(tmp_path / "half.keras")
    # Roles go by paths, and a Sequential that is loaded has others.
    configs = [o.get_config() | {"roles": None} for o in (rest.optimizer, model.optimizer)]
    assert configs[0] == configs[1]
    assert rest.optimizer.loss_scale_factor == "dynamic"
    assert difference(values(rest.optimizer.variables), values(model.optimizer.variables)) == 0.0
    assert value(rest.optimizer.dynamic_scale) == START / 2
    for one in (rest, model):
        one.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    assert difference(values(rest.variables), values(model.variables)) == 0.0


@each()
def test_mixed_float16_saved_and_loaded(case, mixed_float16, tmp_path):
    """Both ways that the message names, and the message itself."""
    path = tmp_path / "half.keras"
    model = model_with(scaled(case), auto_scale_loss=False)
    model.fit(spoilt(X), Y, batch_size=8, shuffle=False, verbose=0)
    model.save(path)
    # The float16 gradients may be infinite in other batches too.
    assert value(model.optimizer.dynamic_scale) <= START / 2
    with pytest.raises(ValueError, match="`compile=False`, compile, build the optimizer"):
        keras.models.load_model(path)
    again = keras.models.load_model(path, compile=False)
    again.compile(optimizer=scaled(case), loss="mse", auto_scale_loss=False)
    again.optimizer.build(again.trainable_variables)
    again.load_weights(path)
    keras.config.set_dtype_policy("float32")
    rest = keras.models.load_model(path)
    assert rest.layers[0].dtype_policy.name == "mixed_float16"
    for other in (again, rest):
        assert difference(values(other.optimizer.variables), values(model.optimizer.variables)) == 0.0


# Replicas


@pytest.mark.on("mirrored")
@each(keras="Keras looks at the gradients before they are summed, and at the first replica's only")
def test_an_infinity_on_one_replica_in_fit(case):
    """It moves no weight on any replica, and the next epoch continues at half the scale."""
    import replicas

    with replicas.strategy().scope():
        optimizer = scaled(case)
        model = model_with(optimizer, hidden=())
    model.fit(X[:8], Y[:8], batch_size=8, shuffle=False, verbose=0)
    before = values(model.trainable_variables)
    model.fit(spoilt(X)[8:16], Y[8:16], batch_size=8, shuffle=False, verbose=0)
    assert difference(values(model.trainable_variables), before) == 0.0
    model.fit(X[16:], Y[16:], batch_size=8, shuffle=False, verbose=0)
    replicas.assert_identical(*model.trainable_variables, *optimizer.variables)
    assert value(optimizer.dynamic_scale) == START / 2
    assert int(value(optimizer.iterations)) == 2

    alone = model_with(scaled(case), hidden=())
    alone.fit(np.concatenate([X[:8], X[16:]]), np.concatenate([Y[:8], Y[16:]]), batch_size=8, shuffle=False, verbose=0)
    assert difference(values(model.trainable_variables), values(alone.trainable_variables)) <= 1e-5


@pytest.mark.on("mirrored")
@each()
def test_an_infinity_on_one_replica_in_a_window_of_a_loop(case):
    """Custom loop with accumulation: the scale is halved at once, the window moves nothing."""
    import replicas
    import tensorflow as tf

    with replicas.strategy().scope():
        weight = a_weight([1.0, -1.0])
        optimizer = scaled(case, gradient_accumulation_steps=2)
        optimizer.build([weight])

    @tf.function(autograph=False)
    def train(numbers):
        def on_one(numbers):
            number = numbers[tf.distribute.get_replica_context().replica_id_in_sync_group]
            optimizer.apply([optimizer.scale_loss(number) * tf.constant([1.0, 0.5])], [weight])

        replicas.strategy().run(on_one, args=(numbers,))

    calls = [((1.0, 1.0), START), ((0.5, np.inf), START / 2), ((np.nan, 1.0), START / 4), ((1.0, 1.0), START / 4)]
    for numbers, scale in calls:
        train(tf.constant(numbers))
        assert value(optimizer.dynamic_scale) == scale
        replicas.assert_identical(weight, *optimizer.variables)
    assert difference(values([weight]), [np.array([1.0, -1.0])]) == 0.0
    assert int(value(optimizer.skipped_updates)) == 2
    for _ in range(2):
        train(tf.constant([1.0, 2.0]))
    alone = a_weight([1.0, -1.0])
    case.make().apply([tf.constant([3.0, 1.5])], [alone])
    assert difference(values([weight]), values([alone])) <= 1e-6


@each()
def test_a_scaled_loss_can_be_differentiated_outside_fit(case):
    """On torch by `backward`; the other backends differentiate a function."""
    if keras.backend.backend() != "torch":
        pytest.skip("a torch loop alone differentiates what `scale_loss` returned")
    weight = a_weight([1.0, -1.0])
    optimizer = scaled(case)
    optimizer.scale_loss(ops.sum(weight * weight)).backward()
    assert difference([weight.value.grad.numpy()], [START * np.array([2.0, -2.0])]) == 0.0
