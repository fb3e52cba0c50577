"""A learning rate that is set takes effect at the next step, or raises."""

import keras
import numpy as np
import pytest
from cases import each
from keras import ops
from support import compiled, value

Decay = keras.optimizers.schedules.ExponentialDecay
COMPILES = keras.backend.backend() != "torch"


def problem(case, learning_rate):
    """An optimizer, and a function that takes a step and says how far the weight moved in learning rates."""
    weight = keras.Variable([1.0])
    optimizer = case.make(learning_rate=learning_rate)
    optimizer.build([weight])
    return optimizer, weight


def eager(optimizer, weight):
    return lambda: optimizer.apply([ops.ones(1)], [weight])


def traced(optimizer, weight):
    step = compiled(optimizer, [weight])
    return lambda: step([ops.ones(1)])


def first_step(case, rate):
    """How far the first step moves at this rate."""
    optimizer, weight = problem(case, rate)
    eager(optimizer, weight)()
    return value(weight) - 1.0


@each(keras="Keras refuses a number in the place of a schedule", raises=TypeError)
@pytest.mark.parametrize("first", [0.5, Decay(0.5, 1, 0.5), lambda: 0.5], ids=["number", "schedule", "callable"])
@pytest.mark.parametrize("then", [0.125, Decay(0.125, 1, 0.5), lambda: 0.125], ids=["number", "schedule", "callable"])
def test_any_kind_may_replace_any_before_a_step_is_compiled(case, first, then):
    if case.twin is None and not (then == 0.125 and isinstance(first, Decay)):
        raise TypeError("only this pair is what Keras refuses")
    optimizer, weight = problem(case, first)
    optimizer.learning_rate = then
    eager(optimizer, weight)()
    np.testing.assert_allclose(value(weight) - 1.0, first_step(case, 0.125), rtol=1e-5)
    names = [variable.name for variable in optimizer.variables]
    assert names.count("learning_rate") == (then == 0.125)


@each()
def test_a_number_takes_effect_in_a_compiled_step(case):
    moved = []
    for rate in (0.25, 0.0):
        optimizer, weight = problem(case, 0.25)
        step = traced(optimizer, weight)
        step()
        before = value(weight)
        optimizer.learning_rate = rate
        step()
        moved.append(value(weight) - before)
    assert moved[0] != 0.0
    assert moved[1] == 0.0


@pytest.mark.skipif(not COMPILES, reason="torch compiles no step by itself")
@each()
@pytest.mark.parametrize(
    ("first", "then"),
    [(0.5, Decay(0.5, 1, 0.5)), (0.5, lambda: 0.5), (Decay(0.5, 1, 0.5), 0.5)],
    ids=["schedule", "callable", "number"],
)
def test_another_kind_raises_after_a_step_was_compiled(case, first, then):
    optimizer, weight = problem(case, first)
    traced(optimizer, weight)()
    with pytest.raises(ValueError, match=r"`learning_rate` can only be set from one number.*set_state"):
        optimizer.learning_rate = then
    assert optimizer.get_config()["learning_rate"] == case.make(learning_rate=first).get_config()["learning_rate"]


@pytest.mark.skipif(not COMPILES, reason="torch compiles no step by itself")
@each(keras="Keras reads the callable once, when the step is traced", raises=pytest.fail.Exception)
def test_a_callable_that_returns_a_number_is_refused_in_a_compiled_step(case):
    optimizer, weight = problem(case, lambda: 0.5)
    with pytest.raises(ValueError, match="must return a tensor or a variable"):
        traced(optimizer, weight)()
    assert value(weight) == 1.0


@pytest.mark.on("tensorflow")
@each()
def test_a_callable_that_returns_a_variable_is_read_in_every_step(case):
    rate = keras.Variable(0.5)
    optimizer, weight = problem(case, lambda: rate)
    step = traced(optimizer, weight)
    step()
    before = value(weight)
    rate.assign(0.0)
    step()
    assert value(weight) == before != 1.0


@each()
def test_a_callable_is_called_in_every_eager_step(case):
    rates = iter([0.5, 0.0])
    optimizer, weight = problem(case, lambda: next(rates))
    step = eager(optimizer, weight)
    step()
    before = value(weight)
    step()
    assert value(weight) == before != 1.0
