"""Replicas and workers read the batches of a single device, each once, also when they start at a later epoch."""

import itertools
import json

import numpy as np
import pytest
import scripts
from cluster import configurations

pytestmark = pytest.mark.on("tensorflow")
CASES = ["index:0", "index:1", "records:0", "records:1", "images:0", "text:0"]
STEPS, EPOCHS = 5, 3


def ends(folder, cases, *options, processes=({},), backend="tensorflow"):
    """What the examples of each case were taken for, by process."""
    script = scripts.ROOT / "tests" / "examples" / "stream_script.py"
    done = scripts.run_at_once(script, processes, [",".join(cases), *options], folder, backend)
    assert not any(each.returncode for each in done), [each.stderr[-4000:] for each in done]
    return [json.loads(each.stdout.splitlines()[-1]) for each in done]


def flat(lists):
    return list(itertools.chain.from_iterable(lists))


def joined(parts):
    """The batches that these parts, by replica, make."""
    return [flat(step) for step in zip(*(parts[each] for each in sorted(parts)), strict=True)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one device takes, by case: batches for training and for the test, and how often each example was taken."""
    (found,) = ends(tmp_path_factory.mktemp("alone"), CASES)
    return found


def test_one_device_takes_each_example_once_per_epoch(alone):
    for case, end in alone.items():
        batches = joined(end["taken"]["train"])
        first = int(case.split(":")[1])
        assert len(batches) == (EPOCHS - first) * STEPS
        np.testing.assert_array_equal(end["counts"], np.bincount(flat(batches), minlength=22))
        if not case.startswith("text"):  # its windows are drawn from random places
            for epoch in range(EPOCHS - first):
                taken = flat(batches[epoch * STEPS : (epoch + 1) * STEPS])
                assert len(set(taken)) == len(taken) == 20
        if case.startswith(("index", "records")):
            # Six examples fill one and a half batches.
            assert joined(end["taken"]["test"]) == [[0, 1, 2, 3], [4, 5, 0, 1]] * (EPOCHS - first)


@pytest.mark.parametrize("source", ["index", "records"])
def test_a_restart_takes_the_remaining_examples(alone, source):
    first, later = (joined(alone[f"{source}:{epoch}"]["taken"]["train"]) for epoch in (0, 1))
    assert first[STEPS:] == later
    assert first[:STEPS] != later[:STEPS]


def assert_same(alone, processes):
    for case, end in alone.items():
        for which, parts in end["taken"].items():
            of_replicas = {}
            for process in processes:
                of_replicas |= process[case]["taken"][which]
            assert len(of_replicas) == 2 or not parts
            assert joined(of_replicas) == joined(parts), (case, which)


def test_two_replicas_take_the_examples_of_one_device(alone, tmp_path):
    assert_same(alone, ends(tmp_path, CASES, "--replicas", 2))


@pytest.mark.full
def test_two_workers_take_the_examples_of_one_device(alone, tmp_path):
    assert_same(alone, ends(tmp_path, CASES, "--strategy", "multiworker", processes=configurations(2)))


@pytest.mark.full
@pytest.mark.parametrize("options", [[], ["--replicas", 2]], ids=["one device", "two"])
def test_jax_takes_each_example_equally_often(alone, tmp_path, options):
    (found,) = ends(tmp_path, CASES, *options, backend="jax")
    assert {case: end["counts"] for case, end in found.items()} == {case: end["counts"] for case, end in alone.items()}


@pytest.mark.full
@pytest.mark.xfail(strict=True, raises=AssertionError, reason="Keras makes the iterator of a generator twice")
def test_two_replicas_take_the_examples_of_a_generator(alone, tmp_path):
    """If this passes, `streams.stream` may give `fit` a generator."""
    (found,) = ends(tmp_path, ["generator:0"], "--replicas", 2)
    assert found["generator:0"]["counts"] == alone["index:0"]["counts"]
