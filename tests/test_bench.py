"""`python -m keras_adaptive bench` on tiny workloads. The measured times are not tested."""

import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from keras_adaptive.__main__ import main
from keras_adaptive.bench import clock, environment, first_step, measure, peers, specification
from keras_adaptive.bench.backends import process
from keras_adaptive.bench.backends import running as backend
from keras_adaptive.bench.progress import progress
from keras_adaptive.bench.workloads import WORKLOADS, Workload
from keras_adaptive.core.backends import running as backends

pytestmark = pytest.mark.full_on("jax", "tensorflow")

PNG = b"\x89PNG\r\n\x1a\n"
# Bytes per parameter: g, theta and the slots are read, theta and the slots are written.
FLOORS = {"SGD": 12, "SGD:momentum=0.9": 20, "Adam": 28}
TINY = Workload("tiny", "a matrix and a vector", {"kernel": (8, 4), "bias": (4,)})


def run(*arguments):
    return main(["bench", "--size", "0.001", "--repeats", "2", *arguments])


def test_prints_a_table_and_writes_what_it_measured(tmp_path, capsys):
    written, drawn = tmp_path / "bench.json", tmp_path / "bench.png"
    optimizers = ["SGD", "Adam"]
    asked = ["--optimizers", ",".join(optimizers), "--workloads", "large,embedding"]
    assert run(*asked, "--output", str(written), "--picture", str(drawn)) == 0
    printed, said = capsys.readouterr()
    content = json.loads(written.read_text(encoding="utf-8"))
    assert drawn.read_bytes().startswith(PNG)
    assert content["machine"]["backend"] == keras.backend.backend()
    assert content["machine"]["device"] in printed
    assert {name: content[name] for name in ("repeats", "size")} == {"repeats": 2, "size": 0.001}
    assert not content["interrupted"]
    table = printed[printed.index("workload ") :].splitlines()[1:]
    assert len(table) == len(content["results"])
    assert "ratios in each round" in printed
    # Not on a terminal.
    assert said.splitlines()[-1].startswith("100 % - ")
    assert "━" not in said
    ours = [row for row in content["results"] if row["by"] == measure.OURS]
    assert [(row["workload"], row["optimizer"]) for row in ours] == [
        (workload, name) for workload in ("large", "embedding") for name in optimizers
    ]
    for row in content["results"]:
        assert len(row["times"]) == 2
        assert row["milliseconds"] == pytest.approx(1000 * statistics.median(row["times"]))
        assert min(row["floor_ratio"], row["gigabytes_per_second"]) > 0
        assert (row["ours_ratio"] is None) == (row["by"] == measure.OURS)
        parameters = WORKLOADS[row["workload"]](0.001).parameters
        if row["workload"] == "large":
            assert row["floor_bytes"] == pytest.approx(FLOORS[row["optimizer"]] * parameters, rel=1e-3)
    keras_has = {f"Keras {form}" for form in backend.FORMS} if len(backend.FORMS) > 1 else {"Keras"}
    others = {backend.other_library(name) for name in optimizers} - {None}
    assert {row["by"] for row in content["results"]} == {measure.OURS, *keras_has, *others}


def test_a_terminal_has_a_progress_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress(3) as tick:
        tick("Adam, large")
        tick("Adam, small", 2)
    said = capsys.readouterr().err
    assert "3/3" in said
    assert said.endswith("Adam, small\n")


def test_a_log_file_has_a_line_for_each_tenth(capsys):
    with progress(40) as tick:
        for _ in range(3):
            tick("Adam, large", 9)
    assert capsys.readouterr() == ("", "22 % - Adam, large\n45 % - Adam, large\n67 % - Adam, large\n")


def test_options_apply_to_all_and_variants_are_compared_with_the_first(tmp_path):
    written = tmp_path / "bench.json"
    variants = "Adam:slot_dtype=float32,Adam"
    asked = ["--optimizers", variants, "--options", "slot_dtype=bfloat16", "--workloads", "large"]
    assert run(*asked, "--output", str(written)) == 0
    results = json.loads(written.read_text(encoding="utf-8"))["results"]
    of = {(row["optimizer"], row["by"]): row for row in results}
    first, second = ("Adam:slot_dtype=float32", "Adam:slot_dtype=bfloat16")
    parameters = WORKLOADS["large"](0.001).parameters
    assert of[first, measure.OURS]["floor_bytes"] == 28 * parameters
    assert of[second, measure.OURS]["floor_bytes"] == 20 * parameters
    assert of[second, first]["times"] == of[first, measure.OURS]["times"]


@pytest.mark.parametrize("name", FLOORS)
def test_the_floor_counts_the_bytes_of_the_state(name):
    (specified,) = specification.parse(name, {})
    optimizer = specified.make()
    optimizer.build(TINY.variables())
    gradients = TINY.gradients()
    assert TINY.floor_bytes(gradients, measure.state_bytes(optimizer)) == FLOORS[name] * TINY.parameters


@pytest.mark.on("tensorflow")
def test_the_floor_of_a_sparse_update_counts_only_its_rows():
    table = Workload("table", "a table", {"embeddings": (100, 8)}, np.array([3, 5, 3, 7], "int32"))
    (gradient,) = gradients = table.gradients()
    assert gradient.values.shape == (4, 8)
    values_and_ids, three_rows = 4 * (4 * 8 + 4), 3 * 8 * 4
    slots = 2 * 4 * table.parameters
    assert table.floor_bytes(gradients, slots) == values_and_ids + 2 * 3 * three_rows


def test_some_ids_of_the_embedding_occur_more_than_once():
    ids = WORKLOADS["embedding"](1.0).ids
    assert len(ids) == 4096
    assert 0.5 < len(np.unique(ids)) / len(ids) < 0.98


def test_the_workloads_have_the_described_sizes():
    sizes = {name: (len(made.shapes), made.parameters) for name, made in ((n, w(1.0)) for n, w in WORKLOADS.items())}
    assert sizes["large"] == (1, 2**24)
    assert sizes["mixed"][0] == pytest.approx(200, rel=0.05)
    assert sizes["mixed"][1] == pytest.approx(50e6, rel=0.1)
    assert sizes["small"][0] == 1000
    assert sizes["embedding"] == (1, 64_000_000)


# Peers

KERAS_HAS = [name for name in specification.CLASSES if peers.class_of_keras(name)]
ANOTHER_HAS = [name for name in specification.CLASSES if backend.other_library(name)]


def test_classes_that_other_libraries_have_are_compared():
    least = {"SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "Adamax", "Nadam", "Lion", "Adafactor", "Lamb"}
    assert least <= set(KERAS_HAS)
    if keras.backend.backend() == "jax" and importlib.util.find_spec("optax"):
        assert least | {"ScheduleFreeAdamW", "Muon"} <= set(ANOTHER_HAS)
    if keras.backend.backend() == "torch":
        assert least - {"Lion", "Lamb"} <= set(ANOTHER_HAS)


@pytest.mark.parametrize("name", KERAS_HAS)
def test_keras_has_the_same_learning_rate_and_momenta(name):
    ours = specification.Specification(name, {"learning_rate": 0.0625})
    theirs = peers.of_keras(ours)
    assert float(ops.convert_to_numpy(theirs.learning_rate)) == 0.0625
    own = ours.make()
    for matched in ("beta_1", "beta_2", "rho", "momentum", "nesterov"):
        if hasattr(theirs, matched) and hasattr(own, matched):
            assert getattr(theirs, matched) == getattr(own, matched)


def test_options_for_every_library_reach_the_peer():
    asked = specification.Specification("Adam", {"global_clipnorm": 1.0, "slot_dtype": "bfloat16"})
    assert peers.of_keras(asked).global_clipnorm == 1.0
    assert peers.settings(asked) is None
    assert peers.settings(specification.Specification("Adam", {"slot_dtype": "bfloat16"}))["beta_2"] == 0.999


@pytest.mark.on("jax", "torch")
@pytest.mark.parametrize("name", ANOTHER_HAS)
def test_the_other_library_takes_a_step(name):
    matrix = Workload("matrix", "a matrix", {"kernel": (8, 4)})
    settings = peers.settings(specification.Specification(name, {}))
    update = backend.other(name, settings, matrix.variables(), matrix.gradients())
    update()
    update()
    assert update.state_bytes >= 0


@pytest.mark.parametrize("form", backend.FORMS)
def test_an_update_takes_a_step_at_each_call(form):
    optimizer, variables = specification.CLASSES["Adam"](), TINY.variables()
    optimizer.build(variables)
    update = backend.update(optimizer, variables, TINY.gradients(), backend.FORMS[form])
    for _ in range(3):
        update()
    state = update.stored[0] if keras.backend.backend() == "jax" else optimizer.variables
    (place,) = (place for place, variable in enumerate(optimizer.variables) if variable is optimizer.iterations)
    assert int(ops.convert_to_numpy(state[place])) == 3
    extra = update.extra_bytes()
    assert extra is None or extra >= 0


class Wasteful(keras.optimizers.SGD):
    """Holds three times as much as the gradient, at once and where no compiler can leave it out."""

    def update_step(self, gradient, variable, learning_rate):
        several = ops.stack([gradient, 2 * gradient, 3 * gradient])
        self.assign_sub(variable, ops.sort(several, axis=0)[1] * learning_rate)


@pytest.mark.parametrize("form", backend.FORMS)
def test_extra_memory_of_a_step_is_measured_at_every_call(form):
    large = Workload("large", "4 MB", {"kernel": (1024, 1024)})
    seen = {}
    for cls in (keras.optimizers.SGD, Wasteful):
        optimizer, variables = cls(), large.variables()
        optimizer.build(variables)
        update = backend.update(optimizer, variables, large.gradients(), backend.FORMS[form])
        # The allocator of TensorFlow keeps for the later steps what the first ones took.
        for _ in range(3):
            update()
        seen[cls] = update.extra_bytes()
    if None in seen.values():
        pytest.skip("this system does not say what a process has")
    assert seen[Wasteful] > seen[keras.optimizers.SGD] + 8e6


# The clock


def test_calls_take_turns_and_warm_up_is_left_out():
    made: list[int] = []
    ticks: list[int] = []
    times = clock.rounds([lambda: made.append(0), lambda: made.append(1)], 2, lambda: ticks.append(len(made)))
    assert made == [0, 1, 1, 0] * (clock.WARM_UP // 2 + 1)
    assert ticks == [2, 4, 6, 8]
    assert [len(of_one) for of_one in times] == [2, 2]


def test_a_ratio_compares_times_of_the_same_round():
    assert clock.ratio([2.0, 20.0, 9.0], [1.0, 10.0, 3.0]) == 2.0


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="this system does not say how much memory is used"
)
def test_freed_memory_is_measured():
    assert 60e6 < process.extra_bytes(lambda: np.ones(8_000_000).sum()) < 120e6
    assert process.extra_bytes(lambda: None) < 10e6


# What goes wrong


def refused(capsys, *arguments):
    """The one line that it says."""
    with pytest.raises(SystemExit) as ended:
        run(*arguments)
    assert ended.value.code == 2
    (said,) = capsys.readouterr().err.splitlines()
    return said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--optimizers", "Adam,rmspop"], "nearest names are RMSprop"),
        (["--optimizers", "qqqq"], "unknown optimizer"),
        (["--optimizers", "Adam:beta_1"], "name=value"),
        (["--optimizers", "Adam:beta_1=2"], "beta_1"),
        (["--options", "no_option=1"], "no_option"),
        (["--workloads", "large,huge"], "mixed"),
        (["--repeats", "0"], "at least 1"),
        (["--size", "nan"], "above 0"),
        (["--output", "/no/such/folder/bench.json"], "folder"),
        (["--output", "."], "must be a file"),
        (["--output", ""], "must be a file"),
        (["--picture", "bench.json"], ".png"),
        (["--tpu-compile", "v1"], "v5e"),
        (["--tpu-compile", "v5e", "--workloads", "embedding"], "large, mixed"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused_in_one_line(arguments, says, capsys):
    assert says in refused(capsys, *arguments)


def test_missing_packages_are_named(capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "matplotlib is not installed" in refused(capsys, "--picture", "bench.png")
    if keras.backend.backend() == "torch":
        assert "the backend must be jax or tensorflow" in refused(capsys, "--tpu-compile", "v5e")
    else:
        assert "Linux only" in refused(capsys, "--tpu-compile", "v5e") or "jax is not" in environment.missing()


@pytest.mark.parametrize(("broken", "status"), [(keras.optimizers.SGD, 0), (specification.CLASSES["SGD"], 1)], ids=str)
def test_a_failure_gets_a_row_and_the_others_continue(broken, status, capsys, monkeypatch, tmp_path):
    def fails(self, variables):
        raise MemoryError("no\nmore")

    monkeypatch.setattr(broken, "build", fails)
    written, drawn = tmp_path / "bench.json", tmp_path / "bench.png"
    asked = ["--optimizers", "SGD", "--workloads", "large"]
    assert run(*asked, "--output", str(written), "--picture", str(drawn)) == status
    printed, errors = capsys.readouterr()
    assert "failed" in printed
    assert "MemoryError: no more" in errors
    failed = [row for row in json.loads(written.read_text(encoding="utf-8"))["results"] if row["error"]]
    assert len(failed) == (1 if status else len(backend.FORMS))
    assert not any(row["times"] for row in failed)
    assert drawn.exists()


def test_a_failed_workload_does_not_stop_the_others(capsys, monkeypatch):
    triad, table = backend.triad, WORKLOADS["embedding"](0.001).parameters

    def of_small_arrays(elements):
        if elements == table:
            raise MemoryError("no more")
        return triad(elements)

    monkeypatch.setattr(backend, "triad", of_small_arrays)
    assert run("--optimizers", "SGD", "--workloads", "embedding,large") == 1
    printed, errors = capsys.readouterr()
    assert "\nSGD by keras_adaptive, embedding: MemoryError: no more" in errors, "a line of its own, below the bar"
    assert printed.count("failed") == 1


def test_the_triad_of_an_accelerator_is_large(monkeypatch, tmp_path):
    """A small triad takes as long as its launch, which would make the floor too high."""
    triad, asked = backend.triad, []

    def small(elements):
        asked.append(elements)
        return triad(1000)

    monkeypatch.setattr(backend, "triad", small)
    rates = []
    for accelerated in (False, True):
        monkeypatch.setattr(backends, "is_accelerated", lambda accelerated=accelerated: accelerated)
        assert run("--optimizers", "SGD", "--workloads", "large", "--output", str(tmp_path / "found.json")) == 0
        rates.append(json.loads((tmp_path / "found.json").read_text())["results"][0]["gigabytes_per_second"])
    assert asked[1] >= 2**28 > asked[0]
    assert rates[1] > 10 * rates[0]


def test_an_accelerator_has_the_time_on_the_device_too(monkeypatch, tmp_path, capsys):
    """A call that hands over its arguments for a second takes long, and the updates themselves do not."""
    triad, update = backend.triad, backend.update
    monkeypatch.setattr(backends, "is_accelerated", lambda: True)
    monkeypatch.setattr(backend, "triad", lambda elements: triad(1000))

    class Slow(type(triad(1000))):
        def __call__(self):
            super().__call__()
            time.sleep(0.2)

    def slow(*arguments):
        made = update(*arguments)
        made.__class__ = Slow
        return made

    monkeypatch.setattr(backend, "update", slow)
    assert run("--optimizers", "SGD", "--workloads", "large", "--output", str(tmp_path / "found.json")) == 0
    ours, theirs, *_ = json.loads((tmp_path / "found.json").read_text())["results"]
    for row in (ours, theirs):
        assert row["milliseconds"] >= 200
        assert row["device_milliseconds"] < 100
    assert "device ms" in capsys.readouterr().out
    assert theirs["ours_ratio"] is not None
    monkeypatch.setattr(backends, "is_accelerated", lambda: False)
    assert run("--optimizers", "SGD", "--workloads", "large") == 0
    assert "device ms" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["SGD", "Adam"], ids=["before the first", "after the first"])
def test_an_interruption_leaves_the_results_so_far(name, capsys, monkeypatch, tmp_path):
    def until(specification):
        if specification.name == name:
            raise KeyboardInterrupt
        return None

    monkeypatch.setattr(peers, "of_keras", until)
    written, drawn = tmp_path / "bench.json", tmp_path / "bench.png"
    asked = ["--optimizers", "SGD,Adam", "--workloads", "large"]
    assert run(*asked, "--output", str(written), "--picture", str(drawn)) == 130
    content = json.loads(written.read_text(encoding="utf-8"))
    assert content["interrupted"]
    assert {row["optimizer"] for row in content["results"]} == ({"SGD"} if name == "Adam" else set())
    assert "interrupted" in capsys.readouterr().err
    assert drawn.exists()


def test_accumulated_gradients_can_be_measured(capsys):
    assert run("--optimizers", "SGD:gradient_accumulation_steps=2", "--workloads", "large") == 0
    assert "failed" not in capsys.readouterr().out


@pytest.mark.on("jax")
def test_the_tpu_compiler_runs_in_a_separate_process(tmp_path):
    if environment.missing():
        pytest.skip(environment.missing())
    written = tmp_path / "bench.json"
    asked = ["--tpu-compile", "v5e", "--size", "0.01", "--workloads", "large", "--optimizers", "SGD"]
    done = subprocess.run(
        [sys.executable, "-m", "keras_adaptive", "bench", *asked, "--output", str(written)],
        cwd=Path(__file__).parents[1],
        env={name: value for name, value in os.environ.items() if name not in environment.ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    for row in json.loads(written.read_text(encoding="utf-8"))["results"]:
        assert row["hbm_bytes"] == pytest.approx(12.0, rel=0.01)
        assert math.isclose(row["floor_bytes"], 12.0)
        assert row["compile_seconds"] > 0


@pytest.mark.full
@pytest.mark.skipif(bool(first_step.missing()), reason=first_step.missing())
def test_the_first_step_is_compared_with_keras(tmp_path, capsys):
    assert (
        main(["bench", "--first-step", "--size", "0.01", "--optimizers", "Lion", "--output", str(tmp_path / "a.json")])
        == 0
    )
    rows = json.loads((tmp_path / "a.json").read_text())["results"]
    assert [row["by"] for row in rows] == ["keras_adaptive", "Keras"]
    assert all(row["seconds"] > 0.0 and row["parameters"] == rows[0]["parameters"] > 400_000 for row in rows)
    assert "peak MB" in capsys.readouterr().out
