"""Enters the world of this process before Keras is imported, and selects the tests that belong to it."""

import os

import pytest
import worlds
from outcomes import Outcomes

os.environ.update(worlds.environment(worlds.current()))
OUTCOMES = Outcomes()


def pytest_xdist_auto_num_workers(config):
    """Two processes; for the tests of a name or of one file none but this one, as others take long to start."""
    chosen = config.option.keyword or (len(config.args) == 1 and ".py" in config.args[0])
    return 0 if chosen else 2


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """A test marked on(...) belongs to those worlds; any other to the main world of the three backends.

    One marked full_on(...) is `full` in those.
    """
    world = worlds.current()
    for item in items:
        if any(world in mark.args for mark in item.iter_markers("full_on")):
            item.add_marker(pytest.mark.full)

    def belongs(item):
        marks = [mark for mark in item.iter_markers("on")]
        return all(world in mark.args for mark in marks) if marks else world in ("tensorflow", "jax", "torch")

    kept = [item for item in items if belongs(item)]
    config.hook.pytest_deselected(items=[item for item in items if not belongs(item)])
    items[:] = kept


@pytest.fixture
def float64():
    """floatx float64, so that the learning rate is not rounded either, and layers of that dtype."""
    import keras

    # Keras takes the policy from floatx once, when the first layer of the process is made.
    for dtype in ("float64", "float32"):
        keras.config.set_floatx(dtype)
        keras.config.set_dtype_policy(dtype)
        if dtype == "float64":
            yield


@pytest.fixture(autouse=True)
def seeded():
    """Models begin alike in every run; the seed can be set from outside to try others."""
    import keras

    keras.utils.set_random_seed(int(os.environ.get("KERAS_ADAPTIVE_SEED", "1")))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    OUTCOMES.note(item, report)
    return report


def pytest_sessionfinish():
    OUTCOMES.write()
