"""State is restored by name even if the model has changed. What does not fit is refused or reported."""

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
import worlds
from cases import CASE, CASES, each
from models import EVERYTHING, functional, sequential, subclassed, trained
from support import descend, difference, state, value, values

HERE = Path(__file__).parent


def give_weights(source, target):
    """Where the shapes agree."""
    for a, b in zip(source.variables, target.variables, strict=True):
        if a.shape == b.shape:
            b.assign(a)


@each()
@pytest.mark.parametrize("make", [sequential, functional, subclassed])
def test_a_second_model_in_one_process_is_matched_by_order(case, make, tmp_path):
    first = trained(make(), case.make(**EVERYTHING))
    first.save_weights(tmp_path / "first.weights.h5")
    second = make()
    second.compile(optimizer=case.make(**EVERYTHING), loss="mse")
    second.load_weights(tmp_path / "first.weights.h5")
    assert second.optimizer.restored.rule == "build"
    descend(second.optimizer, second.trainable_variables, 5, 8)
    descend(first.optimizer, first.trainable_variables, 5, 8)
    assert second.optimizer.restored.rule == "order"
    assert second.optimizer.restored.complete
    assert difference(values(second.variables), values(first.variables)) == 0.0
    ends = [list(state(m.optimizer).values()) for m in (second, first)]
    assert difference(*ends) == 0.0


@each(keras="Keras skips the whole state with a warning when the number of variables differs")
def test_unfrozen_layers_start_and_the_others_continue(case, tmp_path):
    """The new variables take the steps of a new optimizer: their bias correction starts with them."""
    case.needs_steps_of_its_own()
    model = sequential()
    model.layers[0].trainable = False
    trained(model, case.make()).save_weights(tmp_path / "some.weights.h5")
    model.layers[0].trainable = True
    every, known = model.trainable_variables, model.trainable_variables[2:]
    start, old, optimizer = values(every), model.optimizer, case.make()
    descend(old, known, 5, 8)
    expected = values(known)
    fresh = [keras.Variable(v) for v in start[:2]]
    descend(case.make(), fresh, 5, 8)

    for variable, array in zip(every, start, strict=True):
        variable.assign(array)
    model.compile(optimizer=optimizer, loss="mse")
    optimizer.build(every)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.load_weights(tmp_path / "some.weights.h5")
    descend(optimizer, every, 5, 8)
    # Not bit for bit: another number of variables is another program for XLA.
    assert difference(values(every)[2:], expected) <= 1e-6
    assert difference(values(every)[:2], values(fresh)) <= 1e-6
    report = optimizer.restored
    assert (report.rule, report.complete) == ("name", False)
    assert list(report.restored) == [v.path for v in known]
    assert list(report.not_in_file) == [v.path for v in every[:2]]


@each()
def test_a_new_head_starts_and_the_body_continues(case, caplog):
    case.needs("smoothness")
    case.needs_steps_of_its_own()
    first, second = trained(sequential(), case.make(**EVERYTHING), 6), sequential(head=2)
    give_weights(first, second)
    optimizer = case.make(**EVERYTHING)
    optimizer.build(second.trainable_variables)
    with caplog.at_level(logging.INFO, "keras_adaptive"):
        report = optimizer.set_state(first.optimizer.get_state())
    fresh = [keras.Variable(v) for v in values(second.trainable_variables[-2:])]
    new = case.make(**EVERYTHING)
    descend(new, fresh, 6, 10)
    descend(optimizer, second.trainable_variables, 6, 10)
    descend(first.optimizer, first.trainable_variables, 6, 10)
    assert difference(values(second.variables[:-2]), values(first.variables[:-2])) <= 1e-6
    assert difference(values(second.variables[-2:]), values(fresh)) <= 1e-6
    averages = [[s.stored[o.evaluation_slot or "average"] for s in o.plan.states[-2:]] for o in (optimizer, new)]
    assert difference(*map(values, averages)) <= 1e-6
    assert list(report.not_in_file) == [v.path for v in second.trainable_variables[-2:]]
    assert list(report.not_in_model) == [v.path for v in first.trainable_variables[-2:]]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    for path in (*report.not_in_file, *report.not_in_model):
        assert path in caplog.text
    assert report is optimizer.restored


@each()
def test_a_state_loaded_before_build_is_not_lost(case):
    """Nor where it does not fit: then each build raises, and the optimizer does not change."""
    first = trained(sequential(), case.make(**EVERYTHING))
    optimizer = case.make(**EVERYTHING)
    optimizer.set_state(first.optimizer.get_state())
    again = optimizer.get_state()
    assert all(np.array_equal(again[key], array) for key, array in first.optimizer.get_state().items())
    before = len(optimizer.variables)
    for _ in range(2):
        with pytest.raises(ValueError, match="None of the optimizer's variables"):
            optimizer.build([keras.Variable(np.zeros(9), name="other")])
        assert (optimizer.built, len(optimizer.variables)) == (False, before)
    optimizer.build(first.trainable_variables)
    assert optimizer.restored.rule == "path"
    assert difference(list(state(optimizer).values()), list(state(first.optimizer).values())) == 0.0


@each()
def test_later_updates_do_not_change_a_returned_state(case):
    model = trained(sequential(), case.make(**EVERYTHING), 3)
    taken = model.optimizer.get_state()
    copies = {key: array.copy() for key, array in taken.items()}
    descend(model.optimizer, model.trainable_variables, 3, 5)
    assert all(np.array_equal(taken[key], array) for key, array in copies.items())


@each()
def test_different_options_are_reported(case):
    case.needs("use_ema")
    first = trained(sequential(), case.make(use_ema=True, skip_nonfinite=True), 1)
    optimizer = case.make(gradient_accumulation_steps=2)
    optimizer.build(first.trainable_variables)
    report = optimizer.set_state(first.optimizer.get_state())
    assert report.notes == (
        "Not in the optimizer, left out: the moving average of the weights (use_ema)",
        "Not in the optimizer, left out: skipped_updates",
    )
    assert not report.complete
    assert int(value(optimizer.iterations)) == 1


@each()
@pytest.mark.parametrize(
    ("there", "here"), [("bfloat16", "float32"), ("float32", "bfloat16"), ("bfloat16", "bfloat16")]
)
def test_a_state_transfers_to_weights_of_another_dtype(case, there, here, tmp_path):
    """Through NumPy's own file, which knows no bfloat16; the exact average is what counts."""
    case.needs("use_ema")
    shapes = [(3, 4), (4,)]
    first, second = ([keras.Variable(np.ones(s), dtype=d, name=f"w{s}") for s in shapes] for d in (there, here))
    one, other = case.make(use_ema=True), case.make(use_ema=True)
    descend(one, first, 0, 5)
    np.savez(tmp_path / "state.npz", **one.get_state())
    other.build(second)
    assert other.set_state(np.load(tmp_path / "state.npz")).complete
    for old, new in zip(one.plan.states, other.plan.states, strict=True):
        average = value(old.stored.get("exact_average", old.stored["average"]))
        assert difference([value(new.stored.get("exact_average", new.stored["average"]))], [average]) == 0.0
        for slot in set(old.stored) - {"average", "exact_average"}:
            assert difference([value(new.stored[slot])], [value(old.stored[slot])]) == 0.0


@each()
def test_a_state_transfers_to_another_slot_dtype(case, tmp_path):
    """Unchanged to more bits, and rounded to the nearest number to fewer bits."""
    for there, here in (("bfloat16", "float32"), ("float32", "bfloat16")):
        first = trained(sequential(), case.make(slot_dtype=there), 2)
        first.save_weights(tmp_path / "first.weights.h5")
        second = trained(sequential(), case.make(slot_dtype=here), 0)
        second.load_weights(tmp_path / "first.weights.h5")
        assert second.optimizer.restored.complete
        for old, new in zip(first.optimizer.plan.states, second.optimizer.plan.states, strict=True):
            assert any(variable.dtype == here for variable in new.stored.values())
            for slot, variable in new.stored.items():
                assert np.array_equal(value(variable), value(keras.ops.cast(old.stored[slot], variable.dtype)))


@each()
def test_a_low_precision_state_is_loaded(case):
    import ml_dtypes

    model = trained(sequential(), case.make(), 1)
    exact = model.optimizer.get_state()
    rounded = {
        key: array.astype(ml_dtypes.bfloat16) if array.ndim and key != "manifest" else array
        for key, array in exact.items()
    }
    assert model.optimizer.set_state(rounded).complete
    again = model.optimizer.get_state()
    for key, array in exact.items():
        assert np.array_equal(again[key], np.asarray(rounded[key]).astype(array.dtype))


def test_a_file_without_an_optimizer_does_not_change_it(tmp_path, caplog):
    bare, model = sequential(), trained(sequential(), CASE.make())
    bare.save_weights(tmp_path / "bare.weights.h5")
    before = state(model.optimizer)
    model.load_weights(tmp_path / "bare.weights.h5")
    assert difference(list(state(model.optimizer).values()), list(before.values())) == 0.0
    assert model.optimizer.restored.rule == "none"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def without_arrays(path, kept):
    """Takes arrays of the optimizer out of a file, as if it had been cut off: all but the first `kept`."""
    import h5py

    with h5py.File(path, "r+") as file:
        keys = sorted(file["optimizer/vars"], key=lambda key: key != "manifest")
        for key in keys[kept:]:
            del file["optimizer/vars"][key]


@pytest.mark.parametrize(("kept", "message"), [(0, "has a place for it and nothing in it"), (1, "arrays are missing")])
@pytest.mark.parametrize("way", ["weights", "model", "weights of a model"])
def test_a_truncated_file_is_not_taken_for_one_without_an_optimizer(kept, message, way, tmp_path):
    """Cut between the last layer's arrays and the first of the optimizer, and after the first."""
    import zipfile

    model = trained(sequential(), CASE.make(), 0)
    before = state(model.optimizer)
    model.save_weights(tmp_path / "cut.weights.h5")
    without_arrays(tmp_path / "cut.weights.h5", kept)
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as whole, zipfile.ZipFile(tmp_path / "cut.keras", "w") as cut:
        for name in whole.namelist():
            of_weights = name == "model.weights.h5"
            cut.writestr(name, (tmp_path / "cut.weights.h5").read_bytes() if of_weights else whole.read(name))
    load = keras.models.load_model if way == "model" else model.load_weights
    with pytest.raises(ValueError, match=message):
        load(tmp_path / ("cut.weights.h5" if way == "weights" else "cut.keras"))
    assert difference(list(state(model.optimizer).values()), list(before.values())) == 0.0


def test_the_file_of_an_uncompiled_model_has_no_optimizer(tmp_path):
    sequential().save(tmp_path / "bare.keras")
    model = trained(sequential(), CASE.make(), 0)
    model.load_weights(tmp_path / "bare.keras")
    assert model.optimizer.restored.rule == "none"


def test_shards_of_a_file_are_read_as_one_state(tmp_path):
    first = trained(sequential(), CASE.make(**EVERYTHING))
    room = first.optimizer.get_state()["manifest"].nbytes + 100
    first.save_weights(tmp_path / "first.weights.json", max_shard_size=room / 1024**3)
    assert len(list(tmp_path.iterdir())) > 2
    second = trained(sequential(), CASE.make(**EVERYTHING), 0)
    second.load_weights(tmp_path / "first.weights.json")
    assert second.optimizer.restored.complete
    assert difference(list(state(second.optimizer).values()), list(state(first.optimizer).values())) == 0.0


@each()
def test_inside_the_loss_scale_optimizer_state_is_matched_by_name_too(case, tmp_path):
    model = trained(sequential(), keras.optimizers.LossScaleOptimizer(case.make()))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert difference(values(again.optimizer.variables), values(model.optimizer.variables)) == 0.0
    assert again.optimizer.inner_optimizer.restored.complete
    wider = trained(sequential(head=2), keras.optimizers.LossScaleOptimizer(case.make()), 0)
    model.save_weights(tmp_path / "model.weights.h5")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wider.load_weights(tmp_path / "model.weights.h5", skip_mismatch=True)
    assert len(wider.optimizer.inner_optimizer.restored.restored) == 4


@pytest.mark.full
@pytest.mark.on("tensorflow")
@pytest.mark.parametrize("world", ["jax", "torch"])
def test_a_state_transfers_to_another_backend(world, tmp_path):
    if reason := worlds.missing(world):
        pytest.skip(reason)
    import other_backend

    for case in CASES:
        other_backend.begin(case, tmp_path)
    command = [sys.executable, str(HERE / "other_backend.py"), str(tmp_path)]
    done = subprocess.run(
        command, env={**os.environ, **worlds.environment(world)}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for case in CASES:
        with np.load(tmp_path / f"{case.name}-end.npz") as end:
            assert difference(list(end.values()), other_backend.go_on(case, tmp_path)) <= 1e-6
