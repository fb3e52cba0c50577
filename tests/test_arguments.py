"""A wrong argument is refused where it is given, by a message that names it, and nothing changes."""

import math

import keras
import numpy as np
import pytest
from cases import each, rows
from keras import ops
from support import difference, state, value, values

from keras_adaptive.core.options import OPTIONS

WRONG_OPTIONS = [
    {"learning_rate": -0.1},
    {"learning_rate": float("nan")},
    {"learning_rate": math.inf},
    {"learning_rate": "0.1"},
    {"learning_rate": None},
    {"learning_rate": True},
    {"weight_decay": -1e-4},
    {"weight_decay": "0.1"},
    {"clipnorm": 0.0},
    {"clipnorm": -1.0},
    {"global_clipnorm": float("nan")},
    {"clipvalue": math.inf},
    {"clipnorm": 1.0, "clipvalue": 1.0},
    {"clipnorm": 1.0, "global_clipnorm": 1.0},
    {"use_ema": 1},
    {"ema_momentum": 1.0},
    {"ema_momentum": -0.1},
    {"ema_overwrite_frequency": 0, "use_ema": True},
    {"ema_overwrite_frequency": 1.5, "use_ema": True},
    {"ema_overwrite_frequency": 2},
    {"loss_scale_factor": 0.0},
    {"gradient_accumulation_steps": 0},
    {"gradient_accumulation_steps": 1.5},
    {"gradient_accumulation_steps": -2},
    {"skip_nonfinite": "yes"},
    {"sparse": "rows"},
    {"sparse": None},
    {"jit_update": "yes"},
    {"jit_update": None},
    {"slot_dtype": "float16"},
    {"slot_dtype": None},
    {"stochastic_rounding": 1},
    {"seed": -1},
    {"seed": 0.5},
    {"seed": "0"},
    {"name": 3},
    {"lr": 0.1},
    {"decay": 0.1},
    {"betas": (0.9, 0.999)},
    {"clip_norm": 1.0},
    {"weigth_decay": 0.1},
]
# Of all classes where that is quick.
TABLE = rows("lecture rows", torch="rows")
OWN = [(case, wrong) for case in TABLE for wrong in case.wrong]


def refused(make, wrong):
    """The call raises, and the message has the argument's name, the value and what is accepted."""
    with pytest.raises((ValueError, TypeError)) as error:
        make()
    message = str(error.value)
    assert any(name in message for name in wrong)
    assert any(repr(given) in message for given in wrong.values())
    assert any(word in message for word in ("must", "has no argument", "Only one", "cannot"))


@each()
@pytest.mark.parametrize("wrong", WRONG_OPTIONS, ids=str)
@pytest.mark.quick
def test_wrong_options_are_refused(case, wrong):
    if "use_ema" in wrong:
        case.needs("use_ema")
    refused(lambda: case.make(**wrong), wrong)


@pytest.mark.parametrize(("case", "wrong"), OWN, ids=[f"{case.name}-{wrong}" for case, wrong in OWN])
@pytest.mark.quick
def test_wrong_hyperparameters_are_refused(case, wrong):
    refused(lambda: case.optimizer(**wrong), wrong)


def test_every_hyperparameter_has_a_wrong_value():
    for optimizer in {case.optimizer for case in TABLE}:
        tried = {name for case in TABLE if case.optimizer is optimizer for wrong in case.wrong for name in wrong}
        assert tried - set(OPTIONS) == set(optimizer.hyperparameters)


@each()
@pytest.mark.parametrize("rate", [1, 0, np.float32(0.25), np.float64(0.25), np.array(0.5), np.int64(2)])
def test_every_real_type_of_learning_rate_is_accepted(case, rate):
    optimizer = case.make(learning_rate=rate)
    assert value(optimizer.learning_rate) == float(rate)
    optimizer.learning_rate = np.float32(0.125)
    assert value(optimizer.learning_rate) == 0.125


@each()
def test_a_learning_rate_set_later(case):
    """A wrong value does not replace the old one. A right one takes effect in compiled code."""
    case.needs("first steps")
    variable, optimizer = keras.Variable([1.0, 2.0]), case.make(learning_rate=0.5)
    gradient = [ops.convert_to_tensor([1.0, -1.0])]
    optimizer.apply(gradient, [variable])
    for wrong in (-1.0, float("nan"), "fast", None):
        refused(lambda wrong=wrong: setattr(optimizer, "learning_rate", wrong), {"learning_rate": wrong})
    assert value(optimizer.learning_rate) == 0.5
    optimizer.learning_rate = 0
    before = values([variable])
    optimizer.apply(gradient, [variable])
    assert not case.stops or difference(values([variable]), before) == 0.0
    optimizer.learning_rate = 1
    optimizer.apply(gradient, [variable])
    assert difference(values([variable]), before) > min(0.05, case.moves)


@each()
def test_a_callable_learning_rate(case):
    given, same = (keras.Variable([1.0, 2.0]) for _ in range(2))
    gradient = [ops.convert_to_tensor([1.0, -1.0])]
    case.make(learning_rate=lambda: 0.25).apply(gradient, [given])
    case.make(learning_rate=0.25).apply(gradient, [same])
    assert difference(values([given]), values([same])) == 0.0


@each()
def test_hyperparameters_set_after_build(case):
    """Before build they are checked and take effect; after it they raise, because compiled code holds the old ones."""
    optimizer = case.make()
    for name in optimizer.hyperparameters:
        setattr(optimizer, name, getattr(optimizer, name))
    for wrong in case.wrong:
        if len(wrong) == 1:
            ((name, given),) = wrong.items()
            refused(lambda name=name, given=given: setattr(optimizer, name, given), wrong)
    optimizer.build([keras.Variable([1.0])])
    for name in [*optimizer.hyperparameters, "weight_decay", "clipnorm", "ema_momentum"]:
        old = getattr(optimizer, name)
        new = not old if isinstance(old, bool) else 0.25 if old == 0.5 else 0.5
        refused(lambda name=name, new=new: setattr(optimizer, name, new), {name: new})
        assert getattr(optimizer, name) == old
        setattr(optimizer, name, old)


def wrong_calls():
    good = np.ones((2, 3), "float32")
    return {
        "wrong shape": ([np.ones((3, 2), "float32"), good], [0, 1]),
        "wrong rank": ([np.ones(6, "float32"), good], [0, 1]),
        "wrong count": ([good], [0, 1]),
        "no gradients": ([None, None], [0, 1]),
        "empty": ([], []),
        "unknown variable": ([good, good], [0, 2]),
        "given twice": ([good, good], [0, 0]),
        "no tensor": ([good, "slope"], [0, 1]),
    }


@each()
@pytest.mark.parametrize("kind", wrong_calls())
def test_wrong_gradients_are_refused(case, kind):
    gradients, chosen = wrong_calls()[kind]
    variables = [keras.Variable(np.ones((2, 3)), name=name) for name in ("first", "second", "stranger")]
    optimizer = case.make()
    if kind not in ("unknown variable",):
        with pytest.raises((ValueError, TypeError)):
            optimizer.apply(gradients_of(gradients), [variables[i] for i in chosen])
        assert not optimizer.built
    optimizer.apply([ops.ones((2, 3))] * 2, variables[:2])
    before = values(variables), state(optimizer)
    for call in (optimizer.apply, lambda g, v: optimizer.apply_gradients(zip(g, v, strict=True))):
        if kind == "wrong count" and call is not optimizer.apply:
            continue
        with pytest.raises((ValueError, TypeError), match=r"[Rr]eceived|Unknown") as error:
            call(gradients_of(gradients), [variables[i] for i in chosen])
        assert "must" in str(error.value) or "built with" in str(error.value) or "twice" in str(error.value)
    assert difference(values(variables), before[0]) == 0.0
    after = state(optimizer)
    assert after.keys() == before[1].keys()
    assert difference(list(after.values()), list(before[1].values())) == 0.0


def gradients_of(gradients):
    return [ops.convert_to_tensor(g) if isinstance(g, np.ndarray) else g for g in gradients]


@each()
def test_build_again(case):
    variables = [keras.Variable([1.0]), keras.Variable([2.0])]
    optimizer = case.make()
    optimizer.build(variables)
    before = optimizer.variables
    optimizer.build(variables)
    assert [id(v) for v in optimizer.variables] == [id(v) for v in before]
    with pytest.raises(ValueError, match="already built with"):
        optimizer.build(variables[:1])
    with pytest.raises(ValueError, match="before the optimizer is built"):
        optimizer.exclude_from_weight_decay(var_names=["bias"])


@pytest.mark.on("tensorflow")
@each()
def test_an_optimizer_made_outside_the_strategy_is_refused(case):
    import tensorflow as tf

    optimizer, strategy = case.make(), tf.distribute.OneDeviceStrategy("/cpu:0")
    with strategy.scope():
        variable = keras.Variable([1.0])
    with pytest.raises(ValueError, match=r"strategy.scope.*OneDeviceStrategy"):
        strategy.run(lambda: optimizer.apply([tf.ones(1)], [variable]))
    with strategy.scope():
        inside = case.make()
        with pytest.raises(ValueError, match=r"strategy\.run"):
            inside.apply([tf.ones(1)], [variable])
    assert not optimizer.built
    assert value(variable) == 1.0
