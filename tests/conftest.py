"""Enters the world of this process before Keras is imported, and keeps the tests that belong to it."""

import inspect
import os

import pytest
import worlds
from elsewhere import Elsewhere
from outcomes import Outcomes

os.environ.update(worlds.environment(worlds.current()))
OUTCOMES = Outcomes()
RUNS = pytest.StashKey[Elsewhere]()


def pytest_collection_modifyitems(config, items):
    """A test marked on(...) belongs to those worlds; any other to the main world of the three backends."""
    world = worlds.current()

    def belongs(item):
        marks = [mark for mark in item.iter_markers("on")]
        return all(world in mark.args for mark in marks) if marks else world in ("tensorflow", "jax", "torch")

    kept = [item for item in items if belongs(item)]
    config.hook.pytest_deselected(items=[item for item in items if not belongs(item)])
    items[:] = kept


@pytest.fixture
def float64():
    """floatx float64, so that the learning rate is not rounded either."""
    import keras

    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx("float32")


@pytest.fixture(autouse=True)
def seeded():
    """Models begin alike in every run; the seed can be set from outside to try others."""
    import keras

    keras.utils.set_random_seed(int(os.environ.get("KERAS_ADAPTIVE_SEED", "1")))


@pytest.fixture(scope="session", autouse=True)
def elsewhere(request):
    """The other worlds that tests of this run ask for, begun at once: this world leaves a core idle.

    With pytest-xdist the cores are busy, and a world begins when its test does.
    """
    runs = request.config.stash[RUNS] = Elsewhere()
    if not hasattr(request.config, "workerinput"):
        for item in request.session.items:
            if "elsewhere" in inspect.signature(item.function).parameters:
                runs.begin(**item.callspec.params)
    yield runs
    runs.close()


def pytest_terminal_summary(terminalreporter, config):
    """One line for each other world, before the closing line of this one."""
    if RUNS in config.stash:
        for line in config.stash[RUNS].closing_lines():
            terminalreporter.write_line(line)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    OUTCOMES.note(item, report)
    return report


def pytest_sessionfinish():
    OUTCOMES.write()
