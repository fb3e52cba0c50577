"""How tests of examples run them: in an empty folder, with one folder of prepared data for all.

Each run is a process, and all of them take minutes, so they are part of the full run.
"""

from pathlib import Path

import pytest
import scripts


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.full)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """Where the digits are prepared, once for all runs."""
    return tmp_path_factory.mktemp("tensorflow_datasets")


@pytest.fixture
def run(tmp_path, data_dir):
    """Runs a script once: `run("train_image.py", "--epochs", 2, backend="jax")`."""

    def one(script, *arguments, backend="tensorflow", **environment):
        configuration = {"TFDS_DATA_DIR": str(data_dir), **environment}
        (done,) = scripts.run_at_once(script, [configuration], arguments, tmp_path, backend)
        return done

    return one


@pytest.fixture
def run_here(run, tmp_path, data_dir):
    """Runs a script once in this process, with the arguments of `run`: for those that it refuses."""

    def one(script, *arguments, **environment):
        # A process has one set of devices.
        if {"--replicas", "--strategy"} & set(arguments):
            return run(script, *arguments, **environment)
        return scripts.run_here(script, arguments, tmp_path, {"TFDS_DATA_DIR": str(data_dir), **environment})

    return one
