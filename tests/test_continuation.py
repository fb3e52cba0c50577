"""Training that a Keras optimizer started continues as if it had stayed with that optimizer."""

import keras
import numpy as np
import pytest
from cases import CASES, each
from support import Ramp, descend, difference, state, value, values

import keras_adaptive
from keras_adaptive.core.state.from_keras import ORIGINS

SHAPES = [(3, 4), (4,), ()]


def variables():
    rng = np.random.default_rng(81)
    return [keras.Variable(rng.normal(size=shape), name=f"w{len(shape)}") for shape in SHAPES]


def origins(case):
    """Keras's classes that the row's algorithm follows."""
    return [cls for cls, row in ORIGINS.items() if row.algorithm == case.optimizer.__name__]


def keras_own(cls, case, learning_rate, **options):
    """Keras's class with the row's hyperparameters, and an epsilon so small that its place does not count."""
    names = cls(0.1).get_config()
    arguments = {name: given for name, given in case.arguments.items() if name in names}
    if "epsilon" in names:
        arguments["epsilon"] = 1e-30
    if cls is keras.optimizers.AdamW:
        arguments["weight_decay"] = 0.05
    return cls(learning_rate=learning_rate, **arguments, **options)


def ours(case, **options):
    names = case.optimizer.hyperparameters
    tiny = {"epsilon": 1e-30} if "epsilon" in names else {}
    tiny |= {"epsilon_outside": 0.0} if "epsilon_outside" in names else {}
    return case.optimizer(**{**case.arguments, **tiny}, **options)


# On TensorFlow Keras casts its numbers by way of float32: 0.999 becomes 0.99900001287, and 1 - beta is 1.3e-5 off.
TOLERANCE = 1e-6 if keras.backend.backend() == "tensorflow" else 1e-12
RATES = {
    "number": lambda: 0.05,
    "schedule": lambda: keras.optimizers.schedules.PiecewiseConstantDecay([4], [0.1, 0.05]),
}


@each()
@pytest.mark.parametrize(("rate", "built"), [(RATES["number"], True), (RATES["schedule"], False)], ids=RATES)
def test_five_steps_of_keras_and_five_of_ours_match_ten_of_keras(case, rate, built, float64):
    """The schedule falls once, between the two: from then on a velocity with eta inside is one with eta outside."""
    for cls in origins(case):
        kept, switched = variables(), variables()
        whole, first = keras_own(cls, case, rate()), keras_own(cls, case, rate())
        descend(whole, kept, 0, 10)
        descend(first, switched, 0, 5)
        decay = {"weight_decay": 0.05} if first.weight_decay else {}
        second = ours(case, learning_rate=0.7, **decay)
        if built:
            second.build(switched)
        second.continue_from(first)
        assert int(value(second.iterations)) == 5
        descend(second, switched, 5, 10)
        assert difference(values(switched), values(kept)) <= TOLERANCE
        untouched = variables()
        descend(ours(case, learning_rate=0.05, **decay), untouched, 5, 10)
        assert difference(values(switched), values(untouched)) > 1e-3


@each()
def test_the_average_is_transferred(case):
    for cls in origins(case):
        weights = variables()
        other = keras_own(cls, case, 0.05, use_ema=True)
        descend(other, weights, 0, 5)
        second = ours(case, use_ema=True)
        second.continue_from(other)
        expected = values(other._model_variables_moving_average)
        assert difference([value(s.stored["average"]) for s in second.plan.states], expected) == 0.0


@pytest.mark.parametrize("cls", [keras.optimizers.Adagrad, keras.optimizers.RMSprop])
def test_an_epsilon_inside_the_root_is_transferred_too(cls, float64):
    """So that it can be transferred unchanged."""
    theirs, kept = cls(0.05, epsilon=0.1), variables()
    descend(theirs, kept, 0, 10)
    same = ("rho",) if cls is keras.optimizers.RMSprop else ("initial_accumulator_value",)
    arguments = {name: getattr(theirs, name) for name in same}
    moved = variables()
    descend(getattr(keras_adaptive, cls.__name__)(0.05, epsilon=0.1, **arguments), moved, 0, 10)
    assert difference(values(kept), values(moved)) <= TOLERANCE


@each()
def test_differences_are_reported(case, caplog):
    for cls in origins(case):
        other = cls(0.01, clipnorm=1.0, gradient_accumulation_steps=2)
        other.build(variables())
        caplog.clear()
        lines = case.make(clipnorm=2.0, use_ema=True).continue_from(other)
        assert "clipnorm: 1.0 there, 2.0 here" in lines
        assert any(line.startswith("use_ema: the moving average begins") for line in lines)
        assert any("unfinished window" in line for line in lines)
        assert any(line.startswith("epsilon: 1e-07 there") for line in lines) == hasattr(other, "epsilon")
        assert [line for line in lines if line not in caplog.text] == []


@each()
def test_wrong_origins_are_refused_and_change_nothing(case):
    known = variables()
    optimizer = case.make()
    descend(optimizer, known, 0, 2)
    before, rate = state(optimizer), value(optimizer.learning_rate)
    wrong = [cls for cls in (*ORIGINS, keras.optimizers.Lion) if cls not in origins(case)]
    for cls in wrong:
        other = cls(0.01)
        other.build(known)
        with pytest.raises(TypeError, match="`other` must be one of the optimizers of Keras"):
            optimizer.continue_from(other)
    with pytest.raises(TypeError, match="`other` must be one of"):
        optimizer.continue_from(case.make())
    for cls in origins(case):
        with pytest.raises(ValueError, match="must be built"):
            optimizer.continue_from(cls(0.01))
        other = cls(0.01)
        other.build(known[:2])
        with pytest.raises(ValueError, match="built with the variables of this optimizer"):
            optimizer.continue_from(other)
    assert difference(list(state(optimizer).values()), list(before.values())) == 0.0
    assert value(optimizer.learning_rate) == rate


def test_a_velocity_cannot_be_divided_by_a_learning_rate_of_zero():
    rows = [case for case in CASES if case.arguments.get("momentum")]
    for case in rows:
        for cls in origins(case):
            other = keras_own(cls, case, Ramp(0.1))
            other.build(variables())
            with pytest.raises(ValueError, match="must have a learning rate above 0"):
                ours(case).continue_from(other)


def test_every_origin_has_a_row():
    assert {cls for case in CASES for cls in origins(case)} == set(ORIGINS)
