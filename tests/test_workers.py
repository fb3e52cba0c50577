"""Several processes that train together match one device: real processes on this machine's network."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import worlds
from cases import each
from cluster import configurations, free_ports
from support import OPTIONS, difference, values

pytestmark = [pytest.mark.on("tensorflow"), pytest.mark.full]
SCRIPTS = Path(__file__).parent / "workers"


def started(script, configurations, *arguments):
    """Runs the script once per configuration, all at the same time, and waits for them."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPTS / script), *map(str, arguments)],
            env=environment | worlds.environment("tensorflow") | configuration,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for configuration in configurations
    ]
    try:
        outputs = [process.communicate(timeout=900)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output[-6000:]


def two_workers(*arguments):
    started("multi_worker.py", configurations(2), *arguments)


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    """What two workers hold after the table of cases, by name."""
    directory = tmp_path_factory.mktemp("workers")
    two_workers(directory)
    return [dict(np.load(directory / f"worker{index}.npz")) for index in range(2)]


def kept(ends, name):
    return [value for key, value in ends.items() if key.startswith(f"{name}/weights/")]


@each()
def test_workers_hold_the_same_bits(case, workers):
    first, second = workers
    names = [name for name in first if name.startswith(f"{case.name}/")]
    assert names
    for name in names:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


@each()
@pytest.mark.parametrize("options", OPTIONS)
def test_a_loop_on_workers_matches_one_device(case, options, workers):
    from replicas import noisy_loop

    alone = noisy_loop(case, OPTIONS[options], replicated=False)
    assert difference(kept(workers[0], f"{case.name}/loop/{options}"), values(alone.weights)) <= 1e-6


@each()
def test_an_infinity_on_one_worker_halves_the_scale_on_both(case, workers):
    """And moves no weight. In float32: of bfloat16, TensorFlow's collective operations make no variable."""
    from replicas import spoilt_loop

    alone = spoilt_loop(case, replicated=False, dtype="float32", loss_scale_factor="dynamic")
    ends = kept(workers[0], f"{case.name}/loop/spoilt")
    assert ends[-1] == 2.0**14
    assert difference(ends, values([*alone.weights, alone.optimizer.dynamic_scale])) <= 1e-6


@each()
def test_fit_on_workers_matches_one_device(case, workers):
    """By the strategy of examples/multiworker.py."""
    from replicas import fitted

    alone = fitted(lambda: case.make(**OPTIONS["everything"]), replicated=False)
    assert difference(kept(workers[0], f"{case.name}/fit/everything"), values(alone.trainable_variables)) <= 1e-6


@pytest.fixture(scope="module", params=[1, 2])
def coordinator(request, tmp_path_factory):
    """What the weights are after the table of cases on one parameter server and some workers, by name."""
    directory = tmp_path_factory.mktemp("coordinator")
    ports = free_ports(request.param + 1)
    started("parameter_server.py", [{"KERAS_ADAPTIVE_REPLICAS": "1"}], directory, request.param, *ports)
    return dict(np.load(directory / "coordinator.npz"))


@each()
@pytest.mark.parametrize("options", ["plain", "everything"])
def test_a_loop_on_a_parameter_server_matches_one_device(case, options, coordinator, monkeypatch):
    """Also with two workers, where each step waits for the one before."""
    import replicas

    monkeypatch.setattr(replicas, "COUNT", 1)
    alone = replicas.noisy_loop(case, OPTIONS[options], replicated=False)
    alone.optimizer.finalize_variable_values(alone.weights)
    assert difference(kept(coordinator, f"{case.name}/loop/{options}"), values(alone.weights)) <= 1e-6


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="keras#20585: fit reduces a tuple")
def test_keras_fits_on_workers_without_the_example(tmp_path):
    """If this passes, examples/multiworker.py is no longer needed."""
    two_workers(tmp_path, "plain")
    ends = [(tmp_path / f"worker{index}.txt").read_text() for index in range(2)]
    assert ends == ["trained", "trained"]
