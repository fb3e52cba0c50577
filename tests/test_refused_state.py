"""A state with an impossible value is refused, and an error changes nothing."""

import json
import logging

import keras
import numpy as np
import pytest
from cases import each
from files_of_0_1_0 import with_optimizer
from models import sequential, trained
from support import descend, difference, value, values

import keras_adaptive as ka

OPTIONS = {"use_ema": True, "gradient_accumulation_steps": 2, "skip_nonfinite": True}


def filled(make=ka.Adam, updates=2, **options):
    """A model and an optimizer, built, whose state is that after some updates: written down, which compiles nothing."""
    model = trained(sequential(), make(**options), 0)
    write(model.optimizer, updates)
    return model


def write(optimizer, updates):
    optimizer.iterations.assign(updates)
    for place, state in enumerate(optimizer.plan.states if updates else ()):
        for variable in state.stored.values():
            if variable.dtype == "float32":
                variable.assign(np.linspace(0.1, place + updates, value(variable).size).reshape(variable.shape))


def bits(model):
    """Every variable of the model and of its optimizer, bit for bit."""
    variables = [*model.variables, *model.optimizer.variables]
    return [keras.ops.convert_to_numpy(variable).tobytes() for variable in variables]


def changed(array, number):
    array = np.array(array)
    array.reshape(-1)[-1] = number
    return array


WRONG = {
    "strings": ("1.v", lambda a: np.array(["x", "y", "z", "w"]), "1.v.*dtype"),
    "objects": ("1.v", lambda a: np.array([{}, 1, 2, 3], object), "1.v"),
    "complex": ("1.v", lambda a: a.astype("complex64"), "1.v.*dtype"),
    "whole numbers": ("1.v", lambda a: a.astype("int32"), "1.v.*a dtype of floats"),
    "fractions for a count": ("iteration", lambda a: np.asarray(3.5), "iteration.*dtype int"),
    "a count below 0": ("iteration", lambda a: np.asarray(-1, a.dtype), "iteration.*from 0 to 2147483646.*-1"),
    "a count without a next": (
        "iteration",
        lambda a: np.asarray(2**31 - 1, a.dtype),
        "iteration.*from 0 to 2147483646",
    ),
    "a count of two": ("iteration", lambda a: np.ones(2, a.dtype), r"iteration.*must have shape \[\]"),
    "a rate of NaN": ("learning_rate", lambda a: changed(a, np.nan), "learning_rate.*at least 0. Received: nan"),
    "a rate below 0": ("learning_rate", lambda a: changed(a, -0.5), "learning_rate.*at least 0. Received: -0.5"),
    "an infinite rate": ("learning_rate", lambda a: changed(a, np.inf), "learning_rate.*at least 0. Received: inf"),
    "v below 0": ("1.v", lambda a: changed(a, -1.0), "`1.v`.*the v of .*at least 0. Received: -1.0"),
    "v of -inf": ("1.v", lambda a: changed(a, -np.inf), "1.v.*at least 0. Received: -inf"),
    "a place outside of the window": ("window_position", lambda a: np.asarray(2, a.dtype), "window_position.*0 to 1"),
    "skipped below 0": ("skipped_updates", lambda a: np.asarray(-1, a.dtype), "skipped_updates.*at least 0"),
    "a number for a flag": ("window_is_spoilt", lambda a: np.asarray(7, "int32"), "window_is_spoilt.*dtype bool"),
    "beyond float32": ("0.m", lambda a: changed(a.astype("float64"), 1e39), "m of.*float32 has. Received: 1e"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("built", [True, False])
@pytest.mark.full_on("tensorflow")
def test_an_impossible_value_is_refused(wrong, built):
    """An optimizer that is not built yet refuses it at build, if only then it can be detected."""
    key, break_it, message = WRONG[wrong]
    model = filled(**OPTIONS)
    arrays = model.optimizer.get_state()
    write(model.optimizer, 3)
    arrays[key] = break_it(arrays[key])
    if built:
        before = bits(model)
        with pytest.raises(ValueError, match=message):
            model.optimizer.set_state(arrays)
        assert bits(model) == before
        assert model.optimizer.restored is None
        return
    optimizer = ka.Adam(**OPTIONS)
    before = values(optimizer.variables)
    with pytest.raises(ValueError, match=message):  # noqa: PT012
        optimizer.set_state(arrays)
        optimizer.build(model.trainable_variables)
    assert not optimizer.built
    assert difference(values(optimizer.variables), before) == 0.0


@pytest.mark.parametrize(
    ("options", "key", "array"),
    [
        ({"loss_scale_factor": "dynamic"}, "dynamic_scale", np.asarray(0.0, "float32")),
        ({"loss_scale_factor": "dynamic"}, "finite_calls", np.asarray(-1, "int32")),
        ({"groups": [ka.Group("", slot_dtype="int8")]}, "0.m", np.full((3, 4), -128, "int8")),
        ({"groups": [ka.Group("", slot_dtype="int8")]}, "0.v_scale", np.full((1, 1), -1.0, "float32")),
    ],
)
def test_an_option_with_impossible_values_is_refused(options, key, array):
    model = filled(updates=0, **options)
    before, arrays = bits(model), model.optimizer.get_state()
    assert arrays[key].shape == array.shape
    with pytest.raises(ValueError, match=f"`{key}`.*Received: -?[0-9]"):
        model.optimizer.set_state(arrays | {key: array})
    assert bits(model) == before


def test_a_state_that_diverged_loads_with_a_warning(caplog):
    model = filled()
    arrays = model.optimizer.get_state()
    arrays["1.v"], arrays["0.m"] = changed(arrays["1.v"], np.nan), changed(arrays["0.m"], -np.inf)
    with caplog.at_level(logging.INFO, "keras_adaptive"):
        report = model.optimizer.set_state(arrays)
    assert report.not_finite == (f"m of {model.variables[0].path}", f"v of {model.variables[1].path}")
    assert report.complete
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "the training had diverged: m of" in caplog.text


def test_slots_declared_to_start_below_0_load():
    model = filled(ka.Adopt, updates=0)
    assert np.all(model.optimizer.get_state()["0.v"] == -1.0)
    assert model.optimizer.set_state(model.optimizer.get_state()).complete


# Weights by position.


@each(keras="Keras assigns what it is given", raises=pytest.fail.Exception)
@pytest.mark.parametrize(("place", "number"), [(0, -1), (0, 0.5), (0, 2**31 - 1), (1, np.nan), (1, -0.1)])
def test_weights_with_an_impossible_value_are_refused(case, place, number):
    model = trained(sequential(), case.make(0.1), 0)
    arrays = values(model.optimizer.variables)
    assert [v.name for v in model.optimizer.variables[:2]] == ["iteration", "learning_rate"]
    arrays[place] = np.asarray(number)
    before = bits(model)
    with pytest.raises(ValueError, match=rf"`weights\[{place}\]`"):
        model.optimizer.set_weights(arrays)
    assert bits(model) == before


# An assignment that raises.


class Failure(BaseException):
    """Neither an Exception, as KeyboardInterrupt."""


def fails_at(monkeypatch, variables, place, error):
    """Makes the assignment to that variable raise once."""
    cls, left = type(variables[place]), [True]
    assign = cls.assign

    def raises(self, *arguments, **keywords):
        if self is variables[place] and left:
            left.clear()
            raise error("of the test")
        return assign(self, *arguments, **keywords)

    monkeypatch.setattr(cls, "assign", raises)
    return left


@pytest.mark.parametrize("error", [RuntimeError, Failure])
@pytest.mark.parametrize("how", ["set_state", "set_weights", "load_weights"])
@pytest.mark.parametrize("place", [0, 1, 4, -1])
@pytest.mark.full_on("tensorflow")
def test_an_assignment_that_raises_changes_nothing(how, place, error, monkeypatch, tmp_path):
    model, other = filled(**OPTIONS), filled(updates=8, **OPTIONS)
    other.save_weights(tmp_path / "other.weights.h5")
    before, optimizer = bits(model), model.optimizer
    left = fails_at(monkeypatch, optimizer.variables, place, error)
    loads = {
        "set_state": lambda: optimizer.set_state(other.optimizer.get_state()),
        "set_weights": lambda: optimizer.set_weights(values(other.optimizer.variables)),
        "load_weights": lambda: model.load_weights(tmp_path / "other.weights.h5"),
    }
    # Keras collects the exceptions of all objects of a file, and raises a ValueError at the end.
    with pytest.raises((error, ValueError)):
        loads[how]()
    assert not left
    of_optimizer = len(optimizer.variables)
    assert bits(model)[-of_optimizer:] == before[-of_optimizer:]


@pytest.mark.parametrize("error", [RuntimeError, Failure])
@pytest.mark.parametrize("place", [0, 3, -1])
def test_keras_training_is_continued_completely_or_not_at_all(place, error, monkeypatch):
    model = filled()
    other = keras.optimizers.Adam(0.5)
    other.build(model.trainable_variables)
    other.iterations.assign(9)
    before = bits(model)
    left = fails_at(monkeypatch, model.optimizer.variables, place, error)
    with pytest.raises(error):
        model.optimizer.continue_from(other)
    assert not left
    assert bits(model) == before


@pytest.mark.parametrize("error", [RuntimeError, Failure])
def test_a_pending_state_is_restored_at_build_or_nothing_is_built(error, monkeypatch):
    model = filled()
    optimizer = ka.Adam()
    optimizer.set_state(model.optimizer.get_state())
    before = values(optimizer.variables)
    left = fails_at(monkeypatch, optimizer.variables, 1, error)
    with pytest.raises(error):
        optimizer.build(model.trainable_variables)
    assert not left
    assert not optimizer.built
    assert difference(values(optimizer.variables), before) == 0.0
    optimizer.build(model.trainable_variables)
    assert difference(values(optimizer.variables), values(model.optimizer.variables)) == 0.0


def test_a_variable_that_started_late_is_restored_too(monkeypatch):
    """The file says when it was added, for which the optimizer makes a variable."""
    model = filled()
    model.layers[0].trainable = False
    some = with_optimizer(model, ka.Adam())
    write(some.optimizer, 3)
    model.layers[0].trainable = True
    some.optimizer.extend(model.trainable_variables)
    state = some.optimizer.get_state()
    fresh = ka.Adam()
    fresh.build(model.trainable_variables)
    names = [v.path for v in fresh.variables]
    fails_at(monkeypatch, fresh.variables, -1, Failure)
    with pytest.raises(Failure):
        fresh.set_state(state)
    assert [v.path for v in fresh.variables] == names
    assert all("added_at" not in s.stored for s in fresh.plan.states)
    assert fresh.set_state(state).complete
    assert int(value(fresh.plan.states[0].stored["added_at"])) == 3


# What is taken goes back as it was.


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("rounded", [True, False])
def test_setting_the_same_state_again_changes_nothing(dtype, rounded):
    if dtype == "float16" and rounded:
        pytest.skip("stochastic_rounding refuses float16")
    weights = [keras.Variable(np.linspace(-1, 1, 50), dtype=dtype, name="w")]
    optimizer = ka.Adam(0.01, use_ema=True, ema_momentum=0.9, stochastic_rounding=rounded, seed=3)
    descend(optimizer, weights, 0, 7)
    before = [keras.ops.convert_to_numpy(v).tobytes() for v in optimizer.variables]
    for _ in range(2):
        assert optimizer.set_state(optimizer.get_state()).complete
        assert [keras.ops.convert_to_numpy(v).tobytes() for v in optimizer.variables] == before


# Manifests


def places(value, path=()):
    """The place of everything in nested lists and mappings."""
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


def replaced(value, path, new):
    value = json.loads(json.dumps(value))
    if not path:
        return new
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = new
    return value


JUNK = [3, -1, 1.5, True, None, "x", "", [], ["x"], {}, {"x": 1}, [[3]], 10**30]


# Every backend reads it in the same way, and fastest where nothing is compiled.
@pytest.mark.on("torch")
def test_a_manifest_with_a_replaced_value_is_refused():
    """Each value by each of JUNK: unless that is what may stand there, in words that name the place."""
    model = filled(**OPTIONS)
    arrays = model.optimizer.get_state()
    manifest, messages = json.loads(arrays["manifest"].tobytes()), {}
    before, optimizer = bits(model), model.optimizer
    for path in places(manifest):
        for new in JUNK:
            broken = json.dumps(replaced(manifest, path, new)).encode()
            try:
                optimizer.set_state(arrays | {"manifest": np.frombuffer(broken, "uint8")})
            except ValueError as error:
                messages[path, repr(new)] = str(error)
            else:
                # It describes a variable that this model does not have: the state starts again, with a warning.
                at = path[2] if len(path) > 2 else path[-1]
                assert at in ("path", "shape", "role", "gradient_accumulation_steps"), (path, new)
                model.compile(optimizer=with_optimizer(model, ka.Adam(**OPTIONS)).optimizer, loss="mse")
                optimizer = model.optimizer
                optimizer.set_state(arrays)
            assert bits(model) == before
    assert len(messages) > 800
    for (path, _), message in messages.items():
        if "kept" in path[:-1]:
            assert f"cannot be read: `{'/'.join(map(str, path))}` must be" in message


@pytest.mark.parametrize(
    "stored",
    [
        np.frombuffer(b"[" * 100_000, "uint8"),
        np.frombuffer(b"{", "uint8"),
        np.frombuffer(b"\xff\xfe", "uint8"),
        np.zeros(0, "uint8"),
        np.array(["manifest"]),
        np.array([None, 1], object),
        np.array(1.5),
        None,
    ],
    ids=["deep", "open", "no text", "empty", "strings", "objects", "a number", "None"],
)
def test_objects_that_are_not_manifests_are_refused(stored):
    with pytest.raises(ValueError, match="cannot be read"):
        ka.Adam().set_state({"manifest": stored})


@pytest.mark.parametrize("state", [None, 5, [1, 2], "state.npz"])
def test_objects_that_are_not_mappings_are_refused(state):
    with pytest.raises(TypeError, match="`state` must be a mapping of arrays"):
        ka.Adam().set_state(state)
