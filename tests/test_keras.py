"""The optimizers inside Keras: its wrappers, its callbacks, and the promises of its base class."""

import pickle
import warnings

import keras
import numpy as np
import pytest
from cases import CASE, KERAS, each
from keras import ops
from support import Problem, a_weight, difference, value, values

RNG = np.random.default_rng(71)
X, Y = RNG.normal(size=(22, 3)).astype("float32"), RNG.normal(size=(22, 1)).astype("float32")


def small_model():
    keras.utils.set_random_seed(72)
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(1)])


def fit(optimizer, epochs=2, **arguments):
    """A model trained in batches of eight with a ragged last one."""
    model = small_model()
    model.compile(optimizer=optimizer, loss="mse")
    model.fit(X, Y, batch_size=8, epochs=epochs, shuffle=False, verbose=0, **arguments)
    return model


@each()
def test_fit_matches_the_custom_loop(case):
    """With a ragged last batch."""
    fitted = fit(case.make(), epochs=1)
    loop = small_model()
    loop.compile(optimizer=case.make(), loss="mse")
    for first in (0, 8, 16):
        loop.train_on_batch(X[first : first + 8], Y[first : first + 8])
    loop.optimizer.finalize_variable_values(loop.trainable_variables)
    assert difference(values(fitted.variables), values(loop.variables)) <= 1e-6


@pytest.mark.skipif(not hasattr(keras.optimizers, "MultiOptimizer"), reason="Keras has it from a later release on")
@each()
def test_inside_a_multi_optimizer(case):
    """Both halves of the model move as under one optimizer."""
    case.needs_steps_of_its_own()
    chooser = keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(default_optimizer=case.make(), optimizer_map={".*kernel": case.make()})
    )
    assert difference(values(fit(chooser).variables), values(fit(case.make()).variables)) <= 1e-6


@each()
def test_wrapped_by_the_loss_scale_optimizer(case):
    """A power of two as scale changes nothing; a loss that is not finite moves nothing."""
    wrapped = fit(keras.optimizers.LossScaleOptimizer(case.make(), initial_scale=1024.0))
    assert difference(values(wrapped.variables), values(fit(case.make()).variables)) <= 1e-5
    before = values(wrapped.trainable_variables)
    wrapped.train_on_batch(X[:8] * np.inf, Y[:8])
    assert difference(values(wrapped.trainable_variables), before) == 0.0


@each()
def test_mixed_float16_wraps_the_optimizer_automatically(case):
    case.needs("smoothness")
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = fit(case.make())
    finally:
        keras.config.set_dtype_policy("float32")
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert int(value(model.optimizer.inner_optimizer.iterations)) == 6
    assert difference(values(model.variables), values(fit(case.make()).variables)) <= 2e-2


@each()
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_average_matches_the_paper_and_replaces_the_weights(case, dtype):
    """With momentum 0.999 too, which bfloat16 rounds to 1: there Keras's average never moves."""
    case.needs("use_ema")
    variable = a_weight(np.zeros(3), dtype=dtype)
    optimizer = case.make(use_ema=True, ema_momentum=0.999)
    seen = []
    for _ in range(20):
        optimizer.apply([ops.convert_to_tensor([1.0, 2.0, -1.0], dtype=dtype)], [variable])
        seen.append(value(variable))
    average = seen[0]
    for weights in seen[1:]:
        average = 0.999 * average + 0.001 * weights
    assert np.all(average != seen[0])
    kept = optimizer.plan.states[0].stored
    assert difference([value(kept.get("exact_average", kept["average"]))], [average]) <= 1e-6
    optimizer.finalize_variable_values([variable])
    assert difference(values([variable]), values([kept["average"]])) == 0.0


@each()
def test_overwriting_the_weights_with_the_average(case):
    case.needs("use_ema")
    variable, other = a_weight([1.0, -1.0]), a_weight([1.0, -1.0])
    overwriting = case.make(use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=3)
    plain = case.make(use_ema=True, ema_momentum=0.5)
    for update in range(1, 4):
        for optimizer, weights in ((overwriting, variable), (plain, other)):
            optimizer.apply([ops.convert_to_tensor([1.0, -2.0])], [weights])
        average = value(plain.plan.states[0].stored["average"])
        assert difference([value(variable)], [average if update == 3 else value(other)]) <= 1e-7


@each()
@pytest.mark.parametrize("swap_on_epoch", [True, False])
def test_the_swap_ema_weights_callback(case, swap_on_epoch):
    """It evaluates at the average and continues at the weights: training is the same as without it."""
    case.needs("use_ema")
    arguments = {"use_ema": True, "ema_momentum": 0.8}
    swapped = fit(
        case.make(**arguments),
        callbacks=[keras.callbacks.SwapEMAWeights(swap_on_epoch=swap_on_epoch)],
        validation_data=(X, Y),
    )
    assert difference(values(swapped.variables), values(fit(case.make(**arguments)).variables)) <= 1e-5


@each()
def test_a_variable_without_a_gradient_does_not_move(case):
    """With Keras's warning. Neither decay nor an average that starts at zero moves it."""
    case.needs("first steps")
    moved, alone = keras.Variable([1.0], name="moved"), keras.Variable([5.0], name="alone")
    optimizer = case.make(weight_decay=0.1, use_ema=True, ema_overwrite_frequency=1)
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"Gradients do not exist for variables \['alone'\]"):
            optimizer.apply([ops.ones(1), None], [moved, alone])
    assert value(alone)[0] == 5.0
    assert value(moved)[0] < 1.0
    optimizer.apply([ops.ones(1), ops.ones(1)], [moved, alone])
    assert value(alone)[0] < 5.0


@each()
@pytest.mark.parametrize("steps", [None, 2])
def test_a_float8_scale_is_set_to_its_gradient(case, steps):
    """Neither clipped, scaled, decayed nor averaged; over a window, the largest counts, as in Keras."""
    scale, weight = a_weight([3.0, 3.0]), a_weight([1.0, 1.0])
    scale.overwrite_with_gradient = True
    optimizer = case.make(
        weight_decay=0.1, global_clipnorm=1e-3, loss_scale_factor=8.0, gradient_accumulation_steps=steps, use_ema=True
    )
    for given in ([0.25, 7.0], [0.5, 6.0]):
        optimizer.apply([ops.convert_to_tensor(given), ops.ones(2)], [scale, weight])
    expected = [0.5, 7.0] if steps else [0.5, 6.0]
    assert difference(values([scale]), [np.array(expected)]) == 0.0
    alone = a_weight([1.0, 1.0])
    other = case.make(
        weight_decay=0.1, global_clipnorm=1e-3, loss_scale_factor=8.0, gradient_accumulation_steps=steps, use_ema=True
    )
    for _ in range(2):
        other.apply([ops.ones(2)], [alone])
    assert difference(values([weight]), values([alone])) == 0.0
    optimizer.finalize_variable_values([scale, weight])
    assert difference(values([scale]), [np.array(expected)]) == 0.0


@each()
def test_float8_training(case):
    case.needs("first steps")
    layer = keras.layers.Dense(8, activation="tanh")
    model = keras.Sequential([keras.Input((16,)), layer, keras.layers.Dense(1)])
    layer.quantize("float8")
    model.compile(optimizer=case.make(), loss="mse")
    before = values(model.trainable_variables)
    data = RNG.normal(size=(16, 16))
    model.fit(data, data[:, :1], epochs=3, batch_size=16, verbose=0)
    for old, variable in zip(before, model.trainable_variables, strict=True):
        assert np.all(np.isfinite(value(variable)))
        assert difference([value(variable)], [old]) > 0.0
    history = next(v for v in model.trainable_variables if "inputs_amax_history" in v.name)
    assert np.isclose(value(history).max(), np.abs(data[:16]).max(), rtol=0.1)


@each()
@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_nonfinite_step_changes_only_its_counter(case, bad):
    one, two = a_weight([1.0, 2.0]), a_weight(3.0)
    optimizer = case.make(skip_nonfinite=True, weight_decay=0.1, use_ema=True)
    good = [ops.convert_to_tensor([1.0, -1.0]), ops.convert_to_tensor(2.0)]
    optimizer.apply(good, [one, two])
    everything = [one, two, *optimizer.variables]
    before = values(everything)
    optimizer.apply([good[0], ops.convert_to_tensor(bad)], [one, two])
    after = values(everything)
    changed = [v.path for v, a, b in zip(everything, before, after, strict=True) if np.any(a != b)]
    assert changed == [optimizer.skipped_updates.path]
    assert int(value(optimizer.skipped_updates)) == 1
    optimizer.apply(good, [one, two])
    assert int(value(optimizer.iterations)) == 2
    assert int(value(optimizer.skipped_updates)) == 1


@each("lecture rows", torch="rows")
def test_a_cautious_step_is_the_plain_one_masked_and_scaled(case, float64):
    """From the same weights and slots at each step, scaled up for the coordinates that are masked."""
    case.needs("cautious")
    problem = Problem(seed=78, shapes=[(4, 3), (7,)], steps=6)
    plain, cautious = (case.make(0.1, weight_decay=None, cautious=given) for given in (False, True))
    steps = {plain: problem.variables("float64"), cautious: problem.variables("float64")}
    for t in range(1, 7):
        gradients, taken = problem.gradients(t, problem.start), {}
        for optimizer, variables in steps.items():
            for variable, start in zip(variables, problem.start, strict=True):
                variable.assign(start)
            optimizer.apply([ops.convert_to_tensor(g) for g in gradients], variables)
            taken[optimizer] = [a - value(v) for a, v in zip(problem.start, variables, strict=True)]
        masks = [delta * g > 0 for delta, g in zip(taken[plain], gradients, strict=True)]
        scaled = [d * m * (m.size / (m.sum() + 1)) for d, m in zip(taken[plain], masks, strict=True)]
        assert difference(taken[cautious], scaled) <= 1e-14


@each()
def test_without_skip_nonfinite_a_bad_gradient_shows(case):
    variable = a_weight([1.0, 2.0])
    case.make().apply([ops.convert_to_tensor([np.nan, 1.0])], [variable])
    assert np.isnan(value(variable)[0])
    assert np.isfinite(value(variable)[1]) or not case.elementwise


@each("lecture rows", torch="rows")
@pytest.mark.parametrize("shape", [(4, 4), (2, 3, 2)])
def test_without_skip_nonfinite_a_bad_gradient_shows_in_a_matrix(case, shape):
    variable, gradient = a_weight(np.ones(shape, "float32")), np.ones(shape, "float32")
    gradient.flat[0] = np.nan
    case.make().apply([ops.convert_to_tensor(gradient)], [variable])
    assert np.isnan(value(variable).flat[0])


@each("lecture rows", torch="rows")
def test_a_late_first_gradient_moves_its_variable_about_as_far(case):
    """The number of the update is that of all variables; what a rule begins with begins with a variable's gradients."""
    case.needs_steps_of_its_own()
    problem, ways = Problem(seed=77, shapes=[(4, 4)], steps=24), []
    for late in (0, 4):
        (variable,), other = problem.variables("float32"), keras.Variable(1.0, name="other")
        optimizer = case.make(learning_rate=0.01)
        optimizer.build([variable, other])
        for t in range(1 - late, 25):
            if t < 1:
                optimizer.apply([ops.ones(())], [other])
                continue
            gradient = ops.convert_to_tensor(problem.gradient(0)(t, value(variable)), dtype="float32")
            optimizer.apply([gradient, ops.ones(())], [variable, other])
        ways.append(np.linalg.norm(value(variable) - problem.start[0]))
    assert 1 / 4 < ways[1] / ways[0] < 4


@each()
def test_decay_is_decoupled_and_uses_the_old_weights(case):
    """It subtracts eta lambda theta, for any gradient. Excluded variables do not decay."""
    if case.optimizer.decay == "rule":
        pytest.skip("decay is part of the rule, which the twin has too")
    start, push = [np.array([4.0, -2.0])] * 2, [np.array([0.5, -0.25])] * 2
    ends = {}
    for decay in (None, 0.2):
        decayed, excluded = (keras.Variable(s, name=n) for s, n in zip(start, ("kernel", "bias"), strict=True))
        optimizer = case.make(learning_rate=0.1, weight_decay=decay)
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        optimizer.apply([ops.convert_to_tensor(g, dtype="float32") for g in push], [decayed, excluded])
        ends[decay] = values([decayed, excluded])
    assert difference([ends[None][0] - ends[0.2][0]], [0.1 * case.vector_rate * 0.2 * start[0]]) <= 1e-6
    assert difference([ends[None][1]], [ends[0.2][1]]) == 0.0


@each()
def test_constraints_hold_and_the_constrained_weights_are_averaged(case):
    case.needs("first steps")
    case.needs("use_ema")
    variable = a_weight([0.02, 3.0])
    variable.constraint = keras.constraints.NonNeg()
    optimizer = case.make(learning_rate=0.1, use_ema=True)
    expected = None
    for _ in range(2):
        optimizer.apply([ops.convert_to_tensor([1.0, 1.0])], [variable])
        expected = value(variable) if expected is None else 0.99 * expected + 0.01 * value(variable)
    assert value(variable)[0] == 0.0
    assert 0.0 < value(variable)[1] < 3.0
    assert difference(values([optimizer.plan.states[0].stored["average"]]), [expected]) <= 1e-6


@each()
def test_update_step_is_the_step_of_one_variable(case):
    one, same = a_weight([1.0, -2.0]), a_weight([1.0, -2.0])
    gradient = ops.convert_to_tensor([0.5, 0.25])
    alone, whole = (case.make(learning_rate=0.3, weight_decay=0.1, clipnorm=0.1) for _ in range(2))
    alone.build([one])
    if alone.scalars:
        with pytest.raises(ValueError, match=r"cannot update a single variable, because .* call `apply`"):
            alone.update_step(gradient, one, 0.3)
        assert difference(values([one]), values([same])) == 0.0
        return
    alone.update_step(gradient, one, 0.3)
    whole.apply([gradient], [same])
    assert difference(values([one]), values([same])) <= 1e-7
    assert int(value(alone.iterations)) == 0


@each()
def test_a_call_with_some_variables_leaves_the_others_alone(case):
    """A call with some of the variables leaves the others alone."""
    case.needs("first steps")
    one, two = a_weight([1.0]), a_weight([1.0])
    optimizer = case.make()
    optimizer.build([one, two])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            optimizer.apply([ops.ones(1)], [two])
    assert value(one)[0] == 1.0
    assert value(two)[0] < 1.0


@pytest.mark.on("tensorflow")
@each()
def test_plain_tensorflow_variables_are_trained(case):
    """As in a SavedModel: without a path, a constraint or a Keras dtype."""
    import tensorflow as tf

    plain, ours = tf.Variable([1.0, -1.0], name="w"), keras.Variable([1.0, -1.0])
    for variable in (plain, ours):
        optimizer = case.make(weight_decay=0.1, use_ema=True)
        optimizer.apply_gradients([(tf.constant([0.5, 1.0]), variable)])
        optimizer.finalize_variable_values([variable])
    assert difference(values([plain]), values([ours])) == 0.0


@pytest.mark.on("jax")
@each()
def test_stateless_apply_does_not_change_the_variables(case):
    import jax

    variable = a_weight([1.0, -1.0])
    optimizer = case.make(gradient_accumulation_steps=2, use_ema=True, skip_nonfinite=True)
    optimizer.build([variable])
    before = values([variable, *optimizer.variables])
    step = jax.jit(optimizer.stateless_apply)
    thetas, kept = [variable.value], [v.value for v in optimizer.variables]
    for _ in range(2):
        thetas, kept = step(kept, [jax.numpy.ones(2)], thetas)
    assert difference(values([variable, *optimizer.variables]), before) == 0.0
    assert difference([np.asarray(thetas[0])], before[:1]) > 0.0


@each(keras="Keras refuses a whole number as a learning rate", raises=ValueError)
def test_an_integer_learning_rate_is_accepted(case):
    assert value(case.make(learning_rate=1).learning_rate) == 1.0


@pytest.mark.on("jax")
@pytest.mark.filterwarnings("ignore:Sharding info not provided")
@pytest.mark.xfail(strict=True, raises=AssertionError, reason="Keras restores the slots as zeros, of its own Adam too")
@pytest.mark.parametrize("case", [CASE, KERAS], ids=["ours", "keras"])
def test_an_orbax_checkpoint_holds_the_optimizer(case, tmp_path):
    pytest.importorskip("orbax.checkpoint", reason="OrbaxCheckpoint needs the package orbax-checkpoint")
    saved = fit(case.make(), callbacks=[keras.callbacks.OrbaxCheckpoint(str(tmp_path / "orbax"), save_freq="epoch")])
    loaded = keras.saving.load_model(str(tmp_path / "orbax"))
    assert int(value(loaded.optimizer.iterations)) == int(value(saved.optimizer.iterations)) == 6
    assert difference(values(loaded.optimizer.variables), values(saved.optimizer.variables)) == 0.0


@each()
def test_optimizers_get_names_like_those_of_keras(case):
    """Numbered one after another. A name given by the user or in a config does not change."""
    first, second, own = case.make(), case.make(), case.make(name="my_own")
    assert len({first.name, second.name, own.name}) == 3
    assert own.name == "my_own"
    for optimizer in (first, second, own):
        assert keras.optimizers.deserialize(keras.optimizers.serialize(optimizer)).name == optimizer.name


@each()
def test_a_pickled_optimizer_is_rebuilt_from_its_config(case):
    optimizer = case.make(weight_decay=0.1, use_ema=True)
    again = pickle.loads(pickle.dumps(optimizer))
    assert type(again) is type(optimizer)
    assert again.get_config() == optimizer.get_config()
    assert len(again.variables) == len(optimizer.variables)


@each()
def test_a_schedule_that_replaces_a_number_removes_its_variable(case):
    optimizer = case.make()
    assert len(optimizer.variables) == 2
    optimizer.learning_rate = keras.optimizers.schedules.PolynomialDecay(0.1, 4)
    assert len(optimizer.variables) == 1
