"""How `compare` trains: on JAX, one run after the other or many at once, with data that each run may see."""

import dataclasses
import importlib.util
import json
import sys

import keras
import numpy as np
import pytest
from keras import layers

from keras_adaptive.__main__ import main
from keras_adaptive.compare import command, data, lines, pool, protocol, schedule, workloads
from keras_adaptive.compare.contenders import find

pytestmark = pytest.mark.on("jax")
NEEDS = ("sklearn", "mnist1d", "plotnine")
complete = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, NEEDS)), reason="the extra `compare` is not installed"
)


def tiny_data():
    random = np.random.default_rng(1)
    inputs = random.normal(size=(60, 3)).astype("float32")
    labels = (inputs @ random.normal(size=(3, 2))).astype("float32")
    return data.Data((inputs[:40], labels[:40]), (inputs[40:50], labels[40:50]), (inputs[50:], labels[50:]))


def tiny_model():
    return keras.Sequential([keras.Input((3,)), layers.Dense(4, "tanh"), layers.Dense(2)])


TINY = workloads.Workload("tiny", "two layers", tiny_data, tiny_model, workloads.squares, 8, 50)


def trainer(name, lanes=1, workload=TINY, **changes):
    from keras_adaptive.compare.backends.jax import Trainer

    return Trainer(workload, dataclasses.replace(find(name), **changes), lanes)


def runs(name, count, test=True):
    return [(protocol.settings(find(name), "search", number), number % 2, test) for number in range(count)]


@pytest.mark.parametrize(
    ("name", "sequential"), [("Prodigy", False), ("ScheduleFreeAdamW", False), ("Shampoo", False), ("AdamW", True)]
)
def test_many_runs_at_once_are_the_same_as_one_by_one(name, sequential):
    """Three runs in four places: with numbers of all variables, evaluation weights, conditions on the step."""
    alone, together = (list(trainer(name, lanes, sequential=sequential).run(runs(name, 3))) for lanes in (1, 4))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one.curve, other.curve, rtol=1e-4)
        np.testing.assert_allclose(one.test, other.test, rtol=1e-4)
    assert len({one.curve[-1] for one in alone}) == 3


def test_a_run_equals_a_plain_training_loop():
    """The traced settings and learning rates are those of an optimizer that was made with them."""
    import keras_adaptive

    ((settings, seed, _),) = runs("AdamW", 1)
    (found,) = trainer("AdamW").run(runs("AdamW", 1))
    keras.utils.set_random_seed(seed)
    model, of = tiny_model(), tiny_data()
    rates = schedule.rates(settings, 50)
    optimizer = keras_adaptive.AdamW(
        weight_decay=settings["weight_decay"],
        beta_1=settings["beta_1"],
        groups=[keras_adaptive.no_decay_on_vectors()],
    )
    model.compile(optimizer, workloads.squares)
    curve = []
    for rate, chosen in zip(rates, schedule.batches(seed, 40, 8, 50), strict=True):
        optimizer.learning_rate = float(rate)
        model.train_on_batch(of.train[0][chosen], of.train[1][chosen])
        curve.append(float(workloads.squares(model(of.validation[0]), of.validation[1])))
    np.testing.assert_allclose(found.curve, curve, rtol=1e-4)


def test_schedule_free_is_evaluated_at_its_average():
    made = trainer("ScheduleFreeAdamW")
    assert None not in made.evaluated
    assert trainer("AdamW").evaluated == [None] * 4


def test_a_trial_does_not_read_the_test():
    """With test data that cannot be read, trials run, and a report fails."""
    workload = dataclasses.replace(
        TINY, data=lambda: data.Data(tiny_data().train, tiny_data().validation, (None, None))
    )
    for lanes in (1, 2):
        made = trainer("SGD, momentum", lanes, workload)
        assert [each.test for each in made.run(runs("SGD, momentum", 2, test=False))] == [None, None]
        with pytest.raises((TypeError, ValueError)):
            list(made.run(runs("SGD, momentum", 2, test=True)))


def test_the_loss_of_the_test_is_that_of_the_last_weights():
    workload = dataclasses.replace(TINY, data=lambda: data.Data(tiny_data().train, *[tiny_data().validation] * 2))
    for lanes in (1, 2):
        for found in trainer("Lion", lanes, workload).run(runs("Lion", 2)):
            assert found.test == pytest.approx(found.curve[-1], rel=1e-6)


def test_schedules():
    settings = {"learning_rate": 2.0, "horizon": 0.5}
    rates = schedule.rates(settings, 200)
    assert rates[9] == rates.max() == 2.0
    assert rates[0] == pytest.approx(0.2)
    assert rates[55] == pytest.approx(1.0)
    assert not rates[100:].any()
    constant = schedule.rates({"learning_rate": 2.0, "horizon": 0.0}, 200)
    np.testing.assert_allclose(constant[:10], 0.2 * np.arange(1, 11), rtol=1e-6)
    assert set(constant[10:]) == {2.0}
    assert set(schedule.rates({"learning_rate": 2.0}, 200)) == {2.0}


def test_a_pass_has_every_example_once():
    chosen = schedule.batches(3, 20, 5, 10)
    assert chosen.shape == (10, 5)
    for begin in (0, 4):
        assert sorted(chosen[begin : begin + 4].ravel()) == list(range(20))
    assert (chosen[:4] != chosen[4:8]).any()
    assert (schedule.batches(3, 20, 5, 10) == chosen).all()
    assert (schedule.batches(4, 20, 5, 10) != chosen).any()


@complete
@pytest.mark.parametrize("name", workloads.WORKLOADS)
def test_the_parts_of_the_data_have_no_example_in_common(name):
    """A pair of words may come again. Some paragraphs of Python's help stand in it twice, and some diamonds too."""
    workload = workloads.WORKLOADS[name]
    found = workload.data()
    assert workload.steps % 50 == 0
    assert len(found.train[0]) >= workload.batch
    parts = found.train, found.validation, found.test
    for inputs, labels in parts:
        assert len(inputs) == len(labels) > 0
        assert np.isfinite(inputs).all()
    if workload.data is not data.words:
        seen = [set(map(bytes, inputs.reshape(len(inputs), -1))) for inputs, _ in parts]
        repeated = {data.texts: 0.05, data.diamonds: 0.05}.get(workload.data, 0.0)
        for part in seen[1:]:
            assert len(seen[0] & part) <= repeated * len(part)


@complete
def test_plotnine_is_not_imported():
    """Of it only a table is read."""
    data.diamonds.cache_clear()
    data.diamonds()
    assert "plotnine" not in sys.modules


@complete
@pytest.mark.full
def test_a_small_comparison_from_the_command_line(tmp_path, capsys, monkeypatch):
    """Two optimizers on one workload of a tenth of the steps, in processes; again, it has nothing to do."""
    monkeypatch.setattr(command, "MINI", ("AdamW", "Lion"))
    monkeypatch.setattr(protocol, "MINI", protocol.Protocol(studies=1, points=2, rates=0, fresh=2, held_out=0))
    chosen = ["compare", "--mini", "--workloads", "digits", "--output", str(tmp_path)]
    assert main(chosen) == 0
    first = capsys.readouterr()
    assert "AdamW, digits" in first.err or "Lion, digits" in first.err
    assert {"AdamW", "Lion"} <= set(first.out.split())
    assert (tmp_path / "compare.png").read_bytes().startswith(b"\x89PNG")
    written = [json.loads(row) for row in (tmp_path / lines.NEW).read_text().splitlines()]
    assert len(written) == 2 * (2 + 2 + 2)
    monkeypatch.setattr(pool, "COMMAND", [sys.executable, "-c", "raise SystemExit('nothing is to be run')"])
    assert main(chosen) == 0
    assert capsys.readouterr().out.splitlines()[:4] == first.out.splitlines()[:4]
