"""`python -m keras_adaptive compare`: who may see what, what goes stale, and how a stopped comparison continues."""

import argparse
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_adaptive
from keras_adaptive.__main__ import main
from keras_adaptive.compare import (
    command,
    contenders,
    lines,
    pages,
    plan,
    points,
    pool,
    protocol,
    report,
    results,
    rules,
    workloads,
)
from keras_adaptive.compare.contenders import CONTENDERS, SETTERS, find

# Nothing here depends on the backend. On torch, many small eager steps take the least time.
pytestmark = pytest.mark.on("torch")
ROOT = Path(__file__).parents[1]
SMALL = protocol.Protocol(studies=2, points=2, rates=3, fresh=3, held_out=2, targets=3)
NAMES = ("Lion", *SETTERS)
WORKLOADS = ("digits", "text", "digits-large-batch")


def line_of(run, salt=0):
    """A made-up result of a run."""
    random = np.random.default_rng([*map(ord, "".join(map(str, dataclasses.astuple(run)))), salt])
    curve = list(np.sort(random.uniform(0.1, 3.0, 50))[::-1])
    line = {**vars(run), "settings": protocol.settings(find(run.contender), run.track, run.number), "curve": curve}
    line |= {"data": "text", "setup": workloads.WORKLOADS[run.workload].setup, "rule": [1.0, 2.0], "date": "2026-11-27"}
    line |= {"device": "none", "versions": {"python": "3"}, "state_bytes": 80, "parameters": 10}
    return line | ({"test": float(random.uniform(0.1, 3.0))} if run.reads_test else {})


def everything(how=SMALL, salt=lambda run: 0, names=NAMES):
    """All runs of a protocol, in the order in which they become known, and their results."""
    runs, made = [], []
    for cell in plan.contests(how, names, WORKLOADS):
        while new := cell.runs(made):
            runs += new
            made += [line_of(run, salt(run)) for run in new]
    return runs, made


TUNING = ("search", "rates", "target")


@pytest.fixture(scope="module")
def whole():
    return everything(protocol.FULL)


def test_no_trial_sees_a_held_out_workload_a_fresh_seed_or_the_test(whole):
    runs, _ = whole
    trials = [run for run in runs if run.track in TUNING]
    others = [run for run in runs if run.track not in TUNING]
    assert len(trials) > 200
    assert {run.workload for run in trials} <= set(workloads.TUNED)
    assert not {run.seed for run in trials} & {run.seed for run in others}
    assert not any(run.reads_test for run in trials)
    assert not {run.seed for run in runs if run.track == "target-fresh"} & {
        run.seed for run in runs if run.track in ("fresh", "fresh-rates", "defaults")
    }
    assert {run.workload for run in others} == set(WORKLOADS)


def test_choices_do_not_depend_on_what_is_reported():
    """With other results from fresh seeds, of the test and of held-out workloads, all runs are the same."""
    runs, _ = everything()
    changed, _ = everything(salt=lambda run: int(run.track not in (*TUNING, "target-fresh")))
    assert runs == changed


def test_choices_depend_on_the_trials():
    runs, _ = everything()
    changed, _ = everything(salt=lambda run: int(run.track in TUNING))
    assert runs != changed


def test_every_optimizer_gets_the_same_seeds_and_as_many_trials(whole):
    runs, _ = whole
    for workload in WORKLOADS:
        of_one = {
            name: sorted((run.track, run.seed) for run in runs if (run.contender, run.workload) == (name, workload))
            for name in ("AdamW", "Lion")
        }
        without_targets = [pair for pair in of_one["AdamW"] if not pair[0].startswith("target")]
        assert without_targets == of_one["Lion"]
        assert len({seed for track, seed in of_one["Lion"] if track == "fresh"}) == (5 if "large" in workload else 10)


def test_the_target_is_what_nine_of_ten_runs_of_the_best_setter_reach(whole):
    _, made = whole
    by_setter = [
        sorted(min(line["curve"]) for line in made if (line["workload"], line["contender"], line["track"]) == of)
        for of in (("digits", name, "target-fresh") for name in SETTERS)
    ]
    best = min(by_setter, key=np.median)
    target = protocol.target(made, "digits")
    assert sum(value <= target for value in best) == 9


def test_a_stopped_comparison_continues_where_it_was(tmp_path):
    runs, made = everything()
    for line in made[: len(made) // 2]:
        lines.append(tmp_path, line)
    with (tmp_path / lines.NEW).open("a") as file:
        file.write('{"workload": "digits", "contend')
    known = lines.read(tmp_path)
    assert len(known) == len(made) // 2
    again = []
    for cell in plan.contests(SMALL, NAMES, WORKLOADS):
        while new := cell.runs(known):
            again += new
            known += [line_of(run) for run in new]
    assert sorted(map(lines.key, again)) == sorted(map(lines.key, runs[len(made) // 2 :]))


def test_a_part_of_a_line_is_replaced_by_the_next_one(tmp_path):
    first, second = (line_of(protocol.Run("digits", "Lion", "search", number, 1)) for number in range(2))
    lines.append(tmp_path, first)
    with (tmp_path / lines.NEW).open("a") as file:
        file.write('{"workload": "digits", "contend')
    lines.append(tmp_path, second)
    assert lines.read(tmp_path) == [first, second]
    (tmp_path / lines.NEW).write_text("{}}\n" + json.dumps(first) + "\n")
    with pytest.raises(ValueError, match=r"line 1 of .* is not a line of JSON"):
        lines.read(tmp_path)


def test_the_last_of_two_lines_of_a_run_counts(tmp_path):
    line = line_of(protocol.Run("digits", "Lion", "search", 0, 1))
    lines.append(tmp_path, line)
    lines.append(tmp_path, line | {"date": "2030-01-01"})
    assert [found["date"] for found in lines.read(tmp_path)] == ["2030-01-01"]


def test_packed_lines_are_the_same(tmp_path):
    _, made = everything()
    for line in made:
        lines.append(tmp_path, line)
    lines.pack(tmp_path, lines.read(tmp_path))
    assert not (tmp_path / lines.NEW).exists()
    assert len(list(tmp_path.glob("*.xz"))) == len(NAMES)
    assert sorted(lines.read(tmp_path), key=lines.key) == sorted(made, key=lines.key)


# Stale results


def test_a_changed_rule_makes_its_lines_stale(monkeypatch):
    """Only those of that class."""
    _, made = everything()
    before = {name: rules.numbers(find(name)) for name in NAMES}
    made = [line | {"rule": before[line["contender"]]} for line in made[:: len(made) // 40]]
    assert results.current(made, before.get)[1] == {}
    rule = keras_adaptive.Lion.rule

    def other(self, h, theta, g, m):
        delta, slots = rule(self, h, theta, g, m)
        return 1.01 * delta, slots

    monkeypatch.setattr(keras_adaptive.Lion, "rule", other)
    after = {name: rules.numbers(find(name)) for name in NAMES}
    valid, stale = results.current(made, after.get)
    assert stale == {"Lion": "its rule has changed"}
    assert {line["contender"] for line in valid} == set(NAMES) - {"Lion"}


@pytest.mark.parametrize("name", CONTENDERS)
def test_every_hyperparameter_shows_in_a_rules_numbers(name):
    """A tuned setting that is further from 1 changes the numbers."""
    contender = find(name)
    before = rules.numbers(contender)
    assert rules.same(before, rules.numbers(contender))
    for axis in contender.axes:
        value = contender.default(axis)
        moved = 1 - min(30 * (1 - value), 0.5) if axis != "weight_decay" else 3.0
        changed = dataclasses.replace(contender, arguments={**contender.arguments, axis: moved}, axes={})
        assert not rules.same(before, rules.numbers(changed)), axis


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"settings": {"learning_rate": 7.0}}, "its search space has changed"),
        ({"setup": "other"}, "the model, the batches or the budget of 'digits' have changed"),
        ({"data": "other"}, "the data of 'digits' is not that of the other results"),
        ({"workload": "gone"}, "there is no workload 'gone'"),
    ],
)
def test_other_lines_that_no_longer_hold(change, reason):
    _, made = everything(names=("Lion",))
    made = [line for line in made if line["workload"] == "digits"]
    place = next(place for place, line in enumerate(made) if line["contender"] == "Lion")
    made[place] = made[place] | change
    valid, stale = results.current(made, lambda name: [1.0, 2.0])
    assert stale == {"Lion": reason}
    assert len(valid) == len(made) - 1


# Choices and figures, from results that are made up by hand


def by_hand(curves, tests):
    """Results on digits and mnist1d of AdamW and Lion.

    Args:
        curves: by contender, the lowest loss of each of the 15 trials, reached half-way.
        tests: by contender, the loss of the test after each way of tuning.
    """
    made = []
    for cell in plan.contests(protocol.FULL, tuple(curves), ("digits", "mnist1d")):
        while new := cell.runs(made):
            for run in new:
                line = line_of(run)
                loss = curves[run.contender][run.number] if run.track == "search" else 1.0
                # The target is 1.
                line["curve"] = [5.0] * 24 + [loss] * 26
                if run.reads_test:
                    # A little other for each seed, in the same way for both.
                    line["test"] = tests[run.contender][run.track] * (1 + 0.01 * (run.seed % 10))
                made.append(line)
    return made


AFTER = {"defaults": 4.0, "fresh-rates": 3.0, "fresh": 2.0}
CURVES = {"AdamW": [3.0, 0.9, 2.0, 2.5, 4.0] * 3, "Lion": [3.0, 4.0, 2.0, 2.5, 1.5] * 3}


def test_each_study_chooses_the_first_at_the_target_or_else_the_smallest_loss():
    made = by_hand(CURVES, {name: AFTER for name in CURVES})
    assert protocol.target(made, "digits") == 1.0
    chosen = {name: protocol.winners(protocol.FULL, made, "digits", name) for name in CURVES}
    assert chosen == {"AdamW": [1, 6, 11], "Lion": [4, 9, 14]}
    early = [
        line | {"curve": [0.95] * 50} if line["number"] == 3 and line["track"] == "search" else line for line in made
    ]
    assert protocol.winners(protocol.FULL, early, "digits", "AdamW") == [3, 6, 11]
    rates = [line | {"curve": [9.0 - line["number"] % 6] * 50} if line["track"] == "rates" else line for line in made]
    assert protocol.best_rate(protocol.FULL, rates, "digits", "Lion") == 5
    with pytest.raises(protocol.Incomplete, match="'Lion' has trials on 'digits' to run"):
        protocol.winners(protocol.FULL, [line for line in made if line["number"] != 3], "digits", "Lion")


def test_the_table_of_scores_from_known_results():
    """Lion's losses are half of AdamW's with the defaults, and twice as large after all trials."""
    lion = {"defaults": 2.0, "fresh-rates": 3.0, "fresh": 4.0}
    made = by_hand(CURVES, {"AdamW": AFTER, "Lion": lion})
    for place, line in enumerate(made):
        if line["contender"] == "Lion" and line["track"] == "fresh":
            made[place] = line | {"curve": [5.0] * 49 + [1.0]}
        made[place] |= {
            "state_bytes": {"AdamW": 80, "Lion": 40}[line["contender"]] if line["contender"] in CURVES else 0
        }
    times = [(name, where) for name in CURVES for where in ("digits", "mnist1d")]
    for name, where in times:
        line = line_of(protocol.Run(where, name, "time", 0, 0))
        made.append(line | {"seconds": {"AdamW": 2.0, "Lion": 1.0}[name], "seconds_of_adamw": 2.0, "device": "clock"})
    found = results.Results(made, protocol.FULL, ("digits", "mnist1d"))
    head, table = report.main(found)
    cells = {line[0]: dict(zip(head, line, strict=True)) for line in table}
    # AdamW is there after half of the budget, Lion after all of it: twice as long in steps, as long in seconds.
    assert [line[0] for line in table] == ["AdamW", "Lion"]
    assert cells["AdamW"] == {
        "optimizer": "AdamW",
        "score, 5 trials": "1.00 (1.00 to 1.00)",
        "rank": "1",
        "score, 15 trials": "1.00",
        "score in seconds": "1.00 (1.00 to 1.00)",
        "loss, defaults": "2.00",
        "loss, 7 rates": "1.50",
        "loss, 15 trials": "1.00",
        "good rates": "3.0",
        "step time": "1.00",
        "bytes": "8",
    }
    assert cells["Lion"] == {
        "optimizer": "Lion",
        "score, 5 trials": "0.67 (0.67 to 0.67)",
        "rank": "2",
        "score, 15 trials": "0.67",
        "score in seconds": "1.00 (1.00 to 1.00)",
        "loss, defaults": "1.00 -",
        "loss, 7 rates": "1.50 =",
        "loss, 15 trials": "2.00 +",
        "good rates": "3.0",
        "step time": "0.50",
        "bytes": "4",
    }
    assert report.times(found)[1][0] == ["AdamW", "50 % (3 of 15)", "50 % (3 of 15)"]
    assert report.times(found)[1][1] == ["Lion", "100 % (0 of 15)", "100 % (0 of 15)"]
    assert report.by_workload(found, "trials")[1][1] == ["Lion", "4.18 +", "4.18 +"]
    assert "on clock, one core" in report.notes(found)[0]


def test_a_class_that_is_not_complete_is_named_and_takes_nothing_from_the_others():
    made = by_hand(CURVES, {name: AFTER for name in CURVES})
    part = [line_of(protocol.Run("digits", "Yogi", "search", number, 1)) for number in range(4)]
    found = results.Results(made + part, protocol.FULL, ("digits", "mnist1d"))
    assert set(found.names) == set(CURVES)
    assert found.left_out == {"Yogi": ["digits", "mnist1d"]}


def test_all_trials_stand_for_the_best_study():
    """The second study's point ends with the smallest validation loss. Its runs of the test are reported."""
    curves = CURVES | {"Lion": [3.0, 4.0, 2.0, 2.5, 1.5, 3.0, 4.0, 2.0, 2.5, 1.2, 3.0, 4.0, 2.0, 2.5, 1.5]}
    made = by_hand(curves, {name: AFTER for name in CURVES})
    made = [line | {"test": 7.0} if line["track"] == "fresh" and line["number"] == 9 else line for line in made]
    found = results.Results(made, protocol.FULL, ("digits", "mnist1d"))
    assert set(found.losses("Lion", "digits", "trials")) == {7.0}


def test_the_best_of_its_trials_sets_an_optimizers_target():
    trials = [line_of(protocol.Run("digits", "AdamW", "target", number, 5)) for number in range(60)]
    trials = [line | {"curve": [5.0] * 49 + [0.5 if line["number"] == 33 else 2.0]} for line in trials]
    runs = protocol.next_target_runs(protocol.FULL, trials, "digits", find("AdamW"))
    assert {(run.track, run.number) for run in runs} == {("target-fresh", 33)}
    assert len(runs) == 10


def test_the_score_of_held_out_workloads_is_from_their_runs(whole):
    """Two optimizers: the median of five seeds, as a share of the budget."""
    _, made = whole
    chosen = [line for line in made if line["contender"] in ("AdamW", "Lion") or line["track"].startswith("target")]
    found = results.Results(chosen, protocol.FULL, WORKLOADS)
    target = protocol.target(made, "digits-large-batch")
    shares = {name: [] for name in found.names}
    for line in chosen:
        if line["workload"] == "digits-large-batch" and line["track"] == "fresh":
            reached = [place for place, loss in enumerate(line["curve"], start=1) if loss <= target]
            shares[line["contender"]].append(reached[0] / 50 if reached else np.inf)
    times = {name: sorted(found)[2] for name, found in shares.items()}
    best = min(times.values())
    expected = {name: max(0.0, (4 - share / best) / 3) if share < np.inf else 0.0 for name, share in times.items()}
    assert found.carried_over() == pytest.approx(expected)


def test_few_seeds_give_no_signs():
    made = by_hand(CURVES, {name: AFTER for name in CURVES})
    made = [line for line in made if line["seed"] < 1003]
    how = dataclasses.replace(protocol.FULL, fresh=3)
    found = results.Results(made, how, ("digits", "mnist1d"))
    assert report.by_workload(found, "trials")[1][1] == ["Lion", "2.02", "2.02"]
    assert "permutation" not in report.text(found)


def test_a_run_that_diverged_is_counted():
    made = by_hand(CURVES, {name: AFTER for name in CURVES})
    lost = next(line for line in made if line["contender"] == "Lion" and line["track"] == "fresh")
    lost["test"] = None
    found = results.Results(made, protocol.FULL, ("digits", "mnist1d"))
    # It is a run of the first study, which is the best one: all have the same loss.
    assert report.by_workload(found, "trials")[1][1][0:2] == ["Lion", "2.11 (1 diverged) ="]


# Search spaces


def test_points_are_fixed_and_spread():
    stored = json.loads(points.FILE.read_text())
    assert set(stored) == {*CONTENDERS, *(f"targets of {name}" for name in SETTERS)}
    for name, found in stored.items():
        assert len(found) == (60 if name.startswith("targets") else 15)
        places = np.array(found)
        assert places.min() >= 0
        assert places.max() <= 1
        # Every third of every axis has about a third of the points.
        thirds = [np.bincount(np.minimum((3 * axis).astype(int), 2), minlength=3) for axis in places.T]
        assert np.min(thirds) >= len(found) // 5, name


@pytest.mark.parametrize("name", CONTENDERS)
def test_one_search_space_around_the_default(name):
    contender = find(name)
    assert len(contender.space) <= points.AXES
    rates = [protocol.settings(contender, "rates", number)["learning_rate"] for number in range(7)]
    assert rates[3] == pytest.approx(contender.default("learning_rate"), rel=1e-3)
    np.testing.assert_allclose(np.diff(np.log10(rates)), 0.5, atol=1e-3)
    for number in range(15):
        settings = protocol.settings(contender, "search", number)
        assert rates[0] * 0.999 <= settings["learning_rate"] <= rates[-1] * 1.001
        assert settings["horizon"] in ((0.0,) if contender.constant else contenders.HORIZONS)
        assert all(0 <= value < 1 for axis, value in settings.items() if axis not in ("learning_rate", "horizon"))


def test_another_class_joins_with_a_search_space_of_its_own():
    contender = find("Yogi")
    assert set(contender.space) == {"learning_rate", "weight_decay", "horizon"}
    assert len({protocol.settings(contender, "search", number)["learning_rate"] for number in range(15)}) == 15


@pytest.mark.parametrize("name", ["Muon", "NorMuon", "Soap", "Shampoo"])
def test_word_tables_are_updated_element_by_element(name):
    """Two elements of a table change places: their updates do, and nothing else changes."""
    model = workloads.word_vectors()

    def table(swapped):
        keras.utils.set_random_seed(3)
        random = np.random.default_rng(4)
        weights = random.normal(size=(workloads.data.WORDS, 32)).astype("float32")
        optimizer = find(name).make(model)
        optimizer.build(model.trainable_variables)
        first = model.trainable_variables[0]
        first.assign(_swapped(weights, swapped))
        for _ in range(2):
            gradient = _swapped(random.normal(size=weights.shape).astype("float32"), swapped)
            zeros = [keras.ops.zeros(v.shape) for v in model.trainable_variables[1:]]
            optimizer.apply([keras.ops.convert_to_tensor(gradient), *zeros], model.trainable_variables)
        return _swapped(keras.ops.convert_to_numpy(first), swapped)

    np.testing.assert_allclose(table(True), table(False), rtol=1e-6, atol=1e-7)


def _swapped(array, swapped):
    array = np.array(array)
    if swapped:
        array[7, 3], array[100, 20] = array[100, 20], array[7, 3]
    return array


# The command


def test_an_unknown_name_is_refused_in_one_line(capsys):
    for arguments, message in (
        (["--only", "Lionn"], "no optimizer has this name; the nearest are 'Lion'"),
        (["--mini", "--workloads", "mnist"], "argument --workloads: there are digits, mnist1d"),
        (["--mini", "--processes", "0"], "must be a whole number of at least 1. Received: '0'"),
        (["--score", "--workloads", "text-wide"], "text-wide needs text, on which its settings are tuned"),
        (["--score", "--picture", "no/such/folder.png"], "must be a file in a folder that exists"),
        ([], "one of the arguments --mini --only --full --score is required"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["compare", *arguments])
        assert ended.value.code == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1


def test_made_up_results_are_printed_and_drawn(tmp_path, capsys, monkeypatch):
    _, made = everything(protocol.FULL, names=("AdamW", "Lion"))
    for line in made:
        lines.append(tmp_path, line)
    monkeypatch.setattr(lines, "STORED", tmp_path)
    monkeypatch.setattr(rules, "now", lambda name: [1.0, 2.0])
    drawn = tmp_path / "compare.png"
    chosen = ["--workloads", "digits,text,digits-large-batch"]
    assert main(["compare", "--score", *chosen, "--picture", str(drawn)]) == 0
    printed = capsys.readouterr().out
    found = results.Results(made, protocol.FULL, ("digits", "text", "digits-large-batch"))
    assert sorted(found.names) == ["AdamW", "Lion"]
    assert report.text(found) in printed
    assert drawn.read_bytes().startswith(b"\x89PNG")
    losses = [line["test"] for line in made if _is(line, "Lion", "digits", "defaults")]
    assert f"{np.median(losses):.3g}" in printed


def test_results_of_another_text_are_not_added_to(monkeypatch, capsys):
    """It is said before anything runs."""
    line = line_of(protocol.Run("text", "Lion", "search", 0, 1))
    monkeypatch.setattr(command, "_known", lambda *given: [line])
    monkeypatch.setattr(command, "NEEDED", {})
    with pytest.raises(SystemExit):
        main(["compare", "--only", "Lion"])
    said = capsys.readouterr().err
    assert "the data of text is not that of the results" in said
    assert "--workloads digits,mnist1d,diamonds,words,picture,digits-large-batch,text-wide" in said


def _is(line, *of):
    return (line["contender"], line["workload"], line["track"]) == of


def test_own_results_count_more_than_those_of_the_repository(tmp_path, monkeypatch):
    """Of the repository a small comparison takes the targets alone."""
    target = line_of(protocol.Run("digits", "AdamW", "target", 0, 5))
    trial = line_of(protocol.Run("digits", "AdamW", "search", 0, 1))
    for folder, lines_ in (("stored", [target, trial]), ("own", [trial | {"date": "2030-01-01"}]), ("new", [])):
        (tmp_path / folder).mkdir()
        for line in lines_:
            lines.append(tmp_path / folder, line)
    monkeypatch.setattr(lines, "STORED", tmp_path / "stored")
    monkeypatch.setattr(rules, "now", lambda name: [1.0, 2.0])

    def known(folder, mini=False):
        given = argparse.Namespace(full=False, mini=mini, output=tmp_path / folder, score=False)
        return {(line["track"], line["date"]) for line in command._known(given, tmp_path / folder)}

    assert known("own") == {("target", "2026-11-27"), ("search", "2030-01-01")}
    assert known("new") == {("target", "2026-11-27"), ("search", "2026-11-27")}
    assert known("new", mini=True) == {("target", "2026-11-27")}


def test_nothing_to_show_is_said(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(lines, "STORED", tmp_path)
    assert main(["compare", "--score"]) == 1
    assert "there are no results to show" in capsys.readouterr().err


# Processes

ANSWER = """
import json, sys
for row in sys.stdin:
    job = json.loads(row)
    if job["contender"] == "Lion":
        sys.exit("no Lion here")
    for run in job["runs"]:
        print(json.dumps(run), flush=True)
    print(flush=True)
"""


def test_what_fails_is_named_and_the_rest_is_done(monkeypatch):
    monkeypatch.setattr(pool, "COMMAND", [sys.executable, "-c", ANSWER])
    made, written = [], []

    def cell(name, needs=()):
        run = protocol.Run("digits", name, "search", 0, 1)
        return pool.Cell(
            "digits", name, lambda made: [] if lines.key(run) in map(lines.key, made) else [run], list(needs)
        )

    good, lion = cell("AdamW"), cell("Lion")
    work = pool.Pool(made, 2, 1, written.append)
    work.run([lion, cell("Adam", [lion]), good, cell("Muon", [good])])
    assert sorted(line["contender"] for line in written) == ["AdamW", "Muon"]
    assert made == written
    failure, cancelled = work.failures
    assert failure.startswith("Lion on digits: Failed: the process ended with status 1")
    assert "no Lion here" in failure
    assert cancelled == "Adam on digits: it needs Lion on digits"


SLOW = """
import json, sys, time
for row in sys.stdin:
    job = json.loads(row)
    for run in job["runs"]:
        print(json.dumps(run | {"pid": __import__("os").getpid()}), flush=True)
        time.sleep(60)
"""
INTERRUPTED = """
import sys
from keras_adaptive.__main__ import main
from keras_adaptive.compare import pool
pool.COMMAND = [sys.executable, "-c", {slow!r}]
sys.exit(main(["compare", "--full", "--workloads", "digits", "--processes", "2", "--output", {folder!r}]))
"""


@pytest.mark.full
def test_an_interrupt_ends_all_processes_and_loses_no_line(tmp_path):
    code = INTERRUPTED.format(slow=SLOW, folder=str(tmp_path))
    running = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while len(found := lines.read(tmp_path)) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "stopped; the same command continues" in said
    assert len(lines.read(tmp_path)) == len(found) == 2
    for line in found:
        with pytest.raises(ProcessLookupError):
            os.kill(line["pid"], 0)


# The pages


@pytest.mark.parametrize("path", ["README.md", "keras_adaptive/compare/README.md"])
def test_the_pages_have_the_tables_of_the_results(path):
    """All that is printed is computed from the lines in the repository, all of which hold."""
    page = (ROOT / path).read_text("utf-8")
    valid, stale = results.current(lines.read(lines.STORED))
    assert stale == {}
    found = results.Results(valid, protocol.FULL, list(workloads.WORKLOADS))
    names = pages.tables_of(page)
    assert names
    for name in names:
        assert pages.block(page, name) == pages.TABLES[name](found)


def test_a_table_is_put_between_its_marks(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- compare -->\nold\n<!-- /compare -->\nafter\n")
    monkeypatch.setitem(pages.TABLES, "compare", lambda results: f"new {results}")
    pages.write(page, 7)
    assert page.read_text() == "before\n<!-- compare -->\nnew 7\n<!-- /compare -->\nafter\n"
    assert pages.block(page.read_text(), "compare") == "new 7"
    with pytest.raises(ValueError, match="must have the lines <!-- compare -->"):
        pages.tables_of("none")


def test_the_results_in_the_repository_are_small():
    files = [file for file in lines.STORED.iterdir()]
    assert {file.suffix for file in files} == {".xz"}
    assert sum(file.stat().st_size for file in files) <= 5e6
