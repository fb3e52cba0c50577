"""`extend`: variables that join the training after some updates."""

import contextlib

import keras
import numpy as np
import pytest
from cases import CASES, each
from keras import layers, ops
from support import descend, difference, state, value, values

from keras_adaptive import Group
from keras_adaptive.core import building

RNG = np.random.default_rng(71)
X, Y = RNG.normal(size=(16, 3)).astype("float32"), RNG.normal(size=(16, 1)).astype("float32")
EVERYTHING = {"use_ema": True, "gradient_accumulation_steps": 2, "weight_decay": 0.1, "global_clipnorm": 0.5}
EIGHT_BITS = {"groups": [Group("", slot_dtype="int8")]}


def half_frozen(optimizer):
    keras.utils.set_random_seed(72)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, activation="tanh"), layers.Dense(1)])
    model.layers[0].trainable = False
    model.compile(optimizer=optimizer, loss="mse")
    return model


def fit(model):
    """Four steps."""
    model.fit(X, Y, batch_size=4, shuffle=False, verbose=0)


def unfrozen(model):
    model.layers[0].trainable = True
    if hasattr(model.optimizer, "extend"):
        model.optimizer.extend(model.trainable_variables)
    model.compile(optimizer=model.optimizer, loss="mse")


def put_together(model, optimizer):
    """A new optimizer for all variables, whose state is written by hand: the known as they are, the others as new."""
    model.layers[0].trainable = True
    optimizer.build(model.trainable_variables)
    old = {s.path: s for s in model.optimizer.plan.states}
    for new in optimizer.plan.states:
        if new.path in old:
            for role, variable in old[new.path].stored.items():
                new.stored[role].assign(value(variable))
        else:
            new.stored["added_at"] = optimizer.add_variable(shape=(), initializer="zeros", name="added_at")
            new.stored["added_at"].assign(ops.cast(model.optimizer.iterations, "float32"))
    building.adopt(optimizer, [*optimizer.plan.states], optimizer.plan.stages)
    for name, variable in model.optimizer.common.items():
        optimizer.common[name].assign(value(variable))
    optimizer.iterations.assign(int(value(model.optimizer.iterations)))
    model.compile(optimizer=optimizer, loss="mse")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(EVERYTHING, marks=pytest.mark.full_on("tensorflow")),
        pytest.param(EIGHT_BITS, marks=pytest.mark.full),
    ],
    ids=["everything", "int8"],
)
@each(keras="Keras's optimizers know no other variables than the first", raises=(KeyError, ValueError))
def test_fit_frozen_extend_and_fit(case, options):
    case.needs("first steps")
    if case.twin:
        options = {**options, "groups": [Group("bias", 0.5, weight_decay=0.0)]}
    model, by_hand = half_frozen(case.make(**options)), half_frozen(case.make(**options))
    fit(model)
    fit(by_hand)
    before = state(model.optimizer)
    unfrozen(model)
    after = state(model.optimizer) if hasattr(model.optimizer, "extend") else before
    assert difference([after[path] for path in before], list(before.values())) == 0.0
    frozen = values(model.layers[0].variables)
    fit(model)
    put_together(by_hand, case.make(**options))
    fit(by_hand)
    assert difference(values(model.layers[0].variables), frozen) > 1e-4
    assert difference(values(model.variables), values(by_hand.variables)) == 0.0


# Not in eight bits, which are rounded by the variable's place.
@pytest.mark.parametrize("options", [pytest.param({}, marks=pytest.mark.full), EVERYTHING], ids=["plain", "everything"])
@each()
def test_the_order_may_change_and_new_variables_start_from_their_values(case, options):
    """New variables before and after the known ones. The steps match those of two optimizers."""
    a, b, c = (keras.Variable(RNG.normal(size=shape), name=f"w{shape}") for shape in ((2, 3), (4,), (5,)))
    options = {name: option for name, option in options.items() if name != "global_clipnorm"}
    optimizer, old, new = case.make(**options), case.make(**options), case.make(**options)
    twins = [keras.Variable(value(v)) for v in (a, b, c)]
    descend(optimizer, [b], 0, 6)
    descend(old, twins[1:2], 0, 6)
    optimizer.extend([a, b, c])
    assert [s.variable is v for s, v in zip(optimizer.plan.states, (a, b, c), strict=True)] == [True] * 3
    descend(optimizer, [a, b, c], 6, 10)
    descend(old, twins[1:2], 6, 10)
    descend(new, [twins[0], twins[2]], 6, 10)
    # Not bit for bit: another number of variables is another program for XLA.
    assert difference(values([a, b, c]), values(twins)) <= 1e-6
    optimizer.finalize_variable_values([a, b, c])
    old.finalize_variable_values(twins[1:2])
    new.finalize_variable_values([twins[0], twins[2]])
    assert difference(values([a, b, c]), values(twins)) <= 1e-6


@each()
def test_a_saved_extended_state_continues_bit_for_bit(case, tmp_path):
    model = half_frozen(case.make(use_ema=True))
    fit(model)
    unfrozen(model)
    fit(model)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.optimizer.restored.complete
    for m in (model, again):
        fit(m)
    assert difference(values(again.variables), values(model.variables)) == 0.0


def test_lists_that_do_not_extend_the_variables_are_refused():
    a, b, c = (keras.Variable(np.ones(2), name=name) for name in "abc")
    optimizer = CASES[-1].make()
    optimizer.build([a, b])
    before = len(optimizer.variables)
    with pytest.raises(ValueError, match=r"must hold every variable .* lacks \['a'\]"):
        optimizer.extend([b, c])
    with pytest.raises(ValueError, match="given twice"):
        optimizer.extend([a, b, c, c])
    with pytest.raises(ValueError, match=r"Unknown variable .c..*extend"):
        optimizer.apply([ops.ones(2)] * 3, [a, b, c])
    assert (len(optimizer.variables), optimizer.plan.states[0].variable) == (before, a)
    optimizer.extend([a, b])
    assert len(optimizer.variables) == before
    unbuilt = CASES[-1].make()
    unbuilt.extend([a])
    assert unbuilt.built


@pytest.mark.full
@pytest.mark.on("mirrored")
@each()
def test_replicas_extend_like_one_device(case):
    """Also restored by name into replicas."""
    strategy = pytest.importorskip("replicas", reason="the helpers of the replicas' tests").strategy()

    def run(scope):
        with scope():
            model = half_frozen(case.make(**EVERYTHING))
        fit(model)
        with scope():
            unfrozen(model)
        fit(model)
        kept = model.optimizer.get_state()
        fit(model)
        with scope():
            again = case.make(**EVERYTHING)
        again.set_state(kept)
        with scope():
            again.build(model.trainable_variables)
        assert again.restored.complete
        assert int(again.iterations.numpy()) == 4
        return values(model.variables), values(again.variables)

    ours, theirs = run(strategy.scope), run(contextlib.nullcontext)
    for a, b in zip(ours, theirs, strict=True):
        assert difference(a, b) <= 1e-6
