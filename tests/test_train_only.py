"""Layers that are frozen and unfrozen: their state stays, and no variable gets the state of another."""

import keras
import numpy as np
import pytest
from cases import CASE, each
from keras import layers, ops
from support import descend, difference, state, value, values

from keras_adaptive import Adam, Group
from keras_adaptive.core.state import checkpoint, restore

RNG = np.random.default_rng(77)
X, Y = RNG.normal(size=(16, 3)).astype("float32"), RNG.normal(size=(16, 1)).astype("float32")
EVERYTHING = {"use_ema": True, "gradient_accumulation_steps": 2, "weight_decay": 0.1, "monitor": True}
on_jax = pytest.mark.on("jax")


def network(optimizer=None, name="network"):
    """Two layers of the same shapes, and a head."""
    dense = [layers.Dense(3, activation="tanh", name=name) for name in ("one", "two")]
    model = keras.Sequential([keras.Input((3,)), *dense, layers.Dense(1, name="head")], name=name)
    if optimizer is not None:
        model.compile(optimizer=optimizer, loss="mse")
    return model


def trains(model, *names):
    for layer in model.layers:
        layer.trainable = layer.name in names


def fit(model):
    """Four steps."""
    return model.fit(X, Y, batch_size=4, shuffle=False, verbose=0)


def kept(optimizer, part):
    """The optimizer's variables of those whose path has this part."""
    return {
        f"{one.path}.{role}": value(variable)
        for one in optimizer.plan.states
        if part in one.path
        for role, variable in one.stored.items()
    }


# What is refused


@on_jax
@each(keras="Keras gives the second layer the state of the first", raises=(AssertionError, pytest.fail.Exception))
def test_another_layer_of_the_same_shapes_is_refused(case):
    model = network()
    trains(model, "one")
    model.compile(optimizer=case.make(), loss="mse")
    fit(model)
    trains(model, "two")
    model.compile(optimizer=model.optimizer, loss="mse")
    before = values(model.variables), list(state(model.optimizer).values())
    with pytest.raises(ValueError, match=r"built with .*one/kernel.*'network' trains .*two/kernel.*train_only"):
        fit(model)
    assert difference(values(model.variables), before[0]) == 0.0
    assert difference(list(state(model.optimizer).values()), before[1]) == 0.0
    with pytest.raises(ValueError, match=r"built with .*one/kernel.*'network' trains .*two/kernel.*train_only"):
        model.train_on_batch(X, Y)


@on_jax
@pytest.mark.parametrize("own_step", [False, True], ids=["fit", "own train_step"])
@each(keras="Keras gives the second model the moments of the first", raises=pytest.fail.Exception)
def test_a_second_model_on_one_optimizer_is_refused(case, own_step):
    """Nothing has changed then, so training of the first can continue."""

    class Own(keras.Model):
        def train_step(self, state, data):
            return super().train_step(state, data)

    first, second = network(case.make()), network(name="second")
    if own_step:
        second = Own(second.inputs, second.outputs, name="second")
    fit(first)
    second.compile(optimizer=first.optimizer, loss="mse")
    with pytest.raises(ValueError, match=r"the model 'second' trains other variables.*make a new optimizer"):
        fit(second)
    fit(first)


@on_jax
@each(keras="Keras's message names no variable", raises=AssertionError)
def test_a_frozen_layer_is_refused_by_name(case):
    model = network(case.make())
    fit(model)
    trains(model, "two", "head")
    model.compile(optimizer=model.optimizer, loss="mse")
    with pytest.raises(ValueError, match=r"'network' trains other variables: without .*one/kernel.*train_only"):
        fit(model)
    trains(model, "one", "two", "head")
    model.compile(optimizer=model.optimizer, loss="mse")
    fit(model)


@on_jax
@each(keras="Keras takes the values", raises=pytest.fail.Exception)
def test_a_custom_loop_is_warned_about_frozen_variables(case):
    import jax

    model, optimizer = network(), case.make()
    optimizer.build(model.trainable_variables)
    arrays = [[v.value for v in some] for some in (optimizer.variables, model.trainable_variables)]
    gradients = [jax.numpy.ones(v.shape) for v in model.trainable_variables]
    step = jax.jit(optimizer.stateless_apply)
    step(arrays[0], gradients, arrays[1])
    trains(model, "two", "head")
    with pytest.raises(ValueError, match=r"trainable is now False for .*one/kernel.*train_only"):
        optimizer.stateless_apply(arrays[0], gradients, arrays[1])
    with pytest.raises(ValueError, match=r"trainable is now False for .*one/kernel.*train_only"):
        jax.jit(lambda *given: optimizer.stateless_apply(*given))(arrays[0], gradients, arrays[1])


def test_values_that_do_not_fit_the_variables_are_refused():
    optimizer, theta = CASE.make(), keras.Variable(np.ones((2, 3)), name="theta")
    with pytest.raises(ValueError, match=r"stateless_apply.* built"):
        optimizer.stateless_apply([], [], [])
    optimizer.build([theta])
    right = [ops.convert_to_tensor(v) for v in optimizer.variables], [ops.ones((2, 3))], [ops.ones((2, 3))]
    for place, wrong, message in (
        (0, right[0][:-1], r"`optimizer_variables` must hold the values of the \d variables"),
        (0, [*right[0][:-1], ops.ones((7,))], r"`optimizer_variables` .* has the shape \(2, 3\) and not \(7,\)"),
        (1, [], r"`grads` must have a gradient for each of .*theta.*inner_optimizer"),
        (2, [ops.ones((3, 2))], r"`trainable_variables` .*theta' has the shape \(2, 3\) and not \(3, 2\)"),
        (2, [], r"`trainable_variables` must hold the values of the 1 variables"),
    ):
        with pytest.raises(ValueError, match=message):
            optimizer.stateless_apply(*(wrong if place == i else part for i, part in enumerate(right)))
    # On TensorFlow a value has no key by which an optimizer knows its variable, Keras's neither.
    if keras.backend.backend() != "tensorflow":
        optimizer.stateless_apply(*right)


# Freezing and unfreezing


@pytest.mark.parametrize(
    "options",
    [{}, pytest.param(EVERYTHING, marks=pytest.mark.full_on("tensorflow"))],
    ids=["plain", "everything"],
)
@each()
def test_unfrozen_variables_continue_from_their_last_step(case, options):
    """Like two optimizers, one for each variable, that each take only the steps of their variable."""
    a, b, c = (keras.Variable(RNG.normal(size=shape), name=f"w{len(shape)}") for shape in ((2, 3), (4,), ()))
    optimizer, of_a, of_b, of_c = (case.make(**options) for _ in range(4))
    alone = [(of_a, [keras.Variable(value(a))]), (of_b, [keras.Variable(value(b))]), (of_c, [keras.Variable(value(c))])]

    def both(trained, first, last):
        descend(optimizer, [(a, b, c)[i] for i in trained], first, last)
        for i in trained:
            descend(*alone[i], first, last)

    both((0, 1), 0, 6)
    optimizer.train_only([b])
    assert len(optimizer.plan.states) == 1
    assert [(one.place, one.updates) for one in optimizer.left_out] == [((a.path, (2, 3)), int(of_a.iterations))]
    both((1,), 6, 10)
    optimizer.train_only([b, a, c])
    assert optimizer.left_out == ()
    both((1, 0, 2), 10, 16)
    optimizer.train_only([c])
    optimizer.train_only([a, b])
    assert [one.place[0] for one in optimizer.left_out] == [c.path]
    both((0, 1), 16, 20)
    twins = [v for _, (v,) in alone]
    # Not bit for bit: another number of variables is another program for XLA.
    assert difference(values([a, b, c]), values(twins)) <= 1e-6
    mine, theirs = kept(optimizer, "w"), {**kept(of_a, ""), **kept(of_b, "")}
    assert len([name for name in mine if not name.endswith("added_at")]) == len(theirs)
    optimizer.finalize_variable_values([a, b])
    for one, variables in alone[:2]:
        one.finalize_variable_values(variables)
    assert difference(values([a, b]), values(twins[:2])) <= 1e-6


@each()
def test_fit_freeze_fit_unfreeze_and_fit(case):
    """The slots of the frozen layer and what is stored for its group do not change."""
    groups = [Group("one/", 0.5), Group("two/", 0.25, weight_decay=0.0)] if case.twin else None
    model = network(case.make(weight_decay=0.1, groups=groups))
    fit(model)
    before = kept(model.optimizer, "one/")
    described = {row.path: row.learning_rate for row in model.optimizer.describe()}
    trains(model, "two", "head")
    model.optimizer.train_only(model.trainable_variables)
    model.compile(optimizer=model.optimizer, loss="mse")
    shown = str(model.optimizer.describe())
    assert "left out of training, stored after 4 updates: " in shown
    assert "one/kernel" in shown
    frozen = values(model.get_layer("one").variables)
    fit(model)
    assert difference(values(model.get_layer("one").variables), frozen) == 0.0
    trains(model, "one", "two", "head")
    model.optimizer.train_only(model.trainable_variables)
    model.compile(optimizer=model.optimizer, loss="mse")
    after = kept(model.optimizer, "one/")
    assert difference([after[name] for name in before], list(before.values())) == 0.0
    assert {float(value(one.stored["added_at"])) for one in model.optimizer.plan.states if "one/" in one.path} == {4.0}
    assert {row.path: row.learning_rate for row in model.optimizer.describe()} == described
    fit(model)
    assert difference(values(model.get_layer("one").variables), frozen) > 1e-6


@pytest.mark.parametrize("frozen_in_file", [True, False])
@each()
def test_the_state_of_frozen_variables_is_saved_and_restored(case, frozen_in_file, tmp_path):
    """From a file that was saved while it was frozen, and from one saved before, into an optimizer that left it out."""
    model = network(case.make(use_ema=True, groups=[Group("one/", 0.5)]))
    fit(model)
    if not frozen_in_file:
        model.save(tmp_path / "model.keras")
    trains(model, "two", "head")
    model.optimizer.train_only(model.trainable_variables)
    model.compile(optimizer=model.optimizer, loss="mse")
    if frozen_in_file:
        fit(model)
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        assert again.optimizer.restored.complete
    else:
        again = keras.models.load_model(tmp_path / "model.keras", compile=False)
        trains(again, "two", "head")
        again.compile(optimizer=case.make(use_ema=True, groups=[Group("one/", 0.5)]), loss="mse")
        trains(again, "one", "two", "head")
        again.optimizer.build(again.trainable_variables)
        trains(again, "two", "head")
        again.optimizer.train_only(again.trainable_variables)
        again.load_weights(tmp_path / "model.keras")
        assert again.optimizer.restored.complete
    assert [(one.place[1], one.updates) for one in again.optimizer.left_out] == [((3, 3), 4), ((3,), 4)]
    for one in (model, again):
        trains(one, "one", "two", "head")
        one.optimizer.train_only(one.trainable_variables)
        one.compile(optimizer=one.optimizer, loss="mse")
        fit(one)
    assert difference(values(again.variables), values(model.variables)) == 0.0
    mine, theirs = again.optimizer.get_state(), model.optimizer.get_state()
    mine, theirs = checkpoint.read(mine), checkpoint.read(theirs)
    assert mine.stored[0].keys() == theirs.stored[0].keys()
    for here, there in zip(mine.stored, theirs.stored, strict=True):
        assert difference([here[k] for k in here], [there[k] for k in here]) == 0.0


@each()
def test_a_state_with_frozen_variables_is_restored_where_they_are_trained(case):
    """By path and shape, as if it had never been frozen."""
    a, b = keras.Variable(np.ones((2, 3)), name="a"), keras.Variable(np.ones(4), name="b")
    optimizer, other = case.make(), case.make()
    descend(optimizer, [a, b], 0, 5)
    optimizer.train_only([b])
    descend(optimizer, [b], 5, 8)
    saved = optimizer.get_state()
    assert any(key.startswith("left_out.") for key in saved)
    other.build([a, b])
    report = other.set_state(saved)
    assert report.complete
    assert report.restored == (a.path, b.path)
    optimizer.train_only([a, b])
    assert difference(list(kept(other, "").values()), list(kept(optimizer, "").values())) == 0.0


def test_a_damaged_state_is_refused_and_changes_nothing():
    a, b = keras.Variable(np.ones((2, 3)), name="a"), keras.Variable(np.ones(4), name="b")
    optimizer = CASE.make()
    descend(optimizer, [a, b], 0, 3)
    optimizer.train_only([b])
    saved = optimizer.get_state()
    key = next(key for key in saved if key.startswith("left_out.0."))
    fresh = CASE.make()
    fresh.build([b, a])
    before = list(state(fresh).values())
    cut = {name: array for name, array in saved.items() if name != key}
    for damaged in (cut, {**saved, key: saved[key][:1]}, {**saved, key: saved[key].astype("complex64")}):
        with pytest.raises(ValueError, match=r"of the optimizer's state|not complete"):
            fresh.set_state(damaged)
    assert difference(list(state(fresh).values()), before) == 0.0
    count = len(optimizer.variables)
    for wrong, error in (([b, b], ValueError), ([b, np.ones(3)], TypeError)):
        with pytest.raises(error):
            optimizer.train_only(wrong)
    assert len(optimizer.variables) == count
    assert [one.place[0] for one in optimizer.left_out] == [a.path]


def test_an_error_midway_changes_nothing(monkeypatch):
    a, b, c = (keras.Variable(np.ones(2), name=name) for name in "abc")
    optimizer = Adam(use_ema=True)
    descend(optimizer, [a, b], 0, 3)
    optimizer.train_only([b])
    before, left, decided = state(optimizer), optimizer.left_out, optimizer._decided
    monkeypatch.setattr(restore, "of_left_out", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        optimizer.train_only([c, a, b])
    monkeypatch.undo()
    assert (optimizer.left_out, optimizer._decided) == (left, decided)
    assert state(optimizer).keys() == before.keys()
    optimizer.train_only([c, a, b])
    descend(optimizer, [c, a, b], 3, 5)


@each()
def test_a_new_variable_does_not_take_the_state_of_a_frozen_one(case):
    """Of the same name and shape; and the state of a variable that is gone comes back by its path."""
    a, other, b = (keras.Variable(np.ones(2), name=name) for name in ("a", "a", "b"))
    optimizer = case.make()
    descend(optimizer, [a, b], 0, 3)
    optimizer.train_only([b])
    optimizer.train_only([b, other])
    assert [one.variable() for one in optimizer.left_out] == [a]
    assert {float(value(one.stored["added_at"])) for one in optimizer.plan.states if one.variable is other} == {3.0}


@pytest.mark.full
@pytest.mark.on("mirrored")
@each()
def test_replicas_freeze_and_unfreeze_like_one_device(case):
    """Replicas also save and restore the state of frozen variables."""
    import contextlib

    from replicas import strategy

    def run(scope):
        with scope():
            model = network(case.make(use_ema=True))
        fit(model)
        for names in (("two", "head"), ("one", "two", "head")):
            trains(model, *names)
            with scope():
                model.optimizer.set_state(model.optimizer.get_state())
                model.optimizer.train_only(model.trainable_variables)
                model.compile(optimizer=model.optimizer, loss="mse")
            fit(model)
        return values(model.variables)

    keras.utils.set_random_seed(3)
    ours = run(strategy().scope)
    keras.utils.set_random_seed(3)
    assert difference(ours, run(contextlib.nullcontext)) <= 1e-6


def test_the_error_of_extend_says_how_to_leave_variables_out():
    a, b = keras.Variable(1.0), keras.Variable(1.0)
    optimizer = CASE.make()
    optimizer.build([a, b])
    with pytest.raises(ValueError, match="train_only"):
        optimizer.extend([b])
    with pytest.raises(ValueError, match="train_only"):
        optimizer.build([b])
