"""The docstrings are complete, and their examples run."""

import doctest
import inspect
import json
import re

import keras
import pytest

import keras_adaptive
from keras_adaptive.catalogue.docstrings import sections
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.options import OPTIONS

PUBLIC = [getattr(keras_adaptive, name) for name in keras_adaptive.__all__]
ALGORITHMS = [
    item
    for item in PUBLIC
    if isinstance(item, type) and issubclass(item, AdaptiveOptimizer) and item is not AdaptiveOptimizer
]
each_name = pytest.mark.parametrize("item", PUBLIC)
each_class = pytest.mark.parametrize("cls", ALGORITHMS)


def described(text):
    """The names that an Args section describes: `name: …` and `name, name: …`, at any depth."""
    lists = re.findall(r"^ +((?:\*\*)?\w+(?:, \w+)*): ", text, re.MULTILINE)
    return {name.lstrip("*") for names in lists for name in names.split(", ")}


def equations(cls):
    """The indented lines before the first section."""
    return "\n".join(re.findall(r"^    .+$", sections(cls)[""], re.MULTILINE))


@each_name
@pytest.mark.quick
def test_the_docstring_has_every_section(item):
    """Classes without arguments have none to describe or to refuse."""
    of_arguments = {"Args", "Raises"} if inspect.signature(item).parameters else set()
    assert {"", "Example"} | of_arguments <= set(sections(item))


@each_name
@pytest.mark.quick
def test_every_argument_is_described_with_its_default(item):
    parameters = inspect.signature(item).parameters
    arguments = sections(item).get("Args", "")
    assert described(arguments) == set(parameters)
    for name, parameter in parameters.items():
        if parameter.default is not parameter.empty:
            (of_this,) = re.findall(rf"^    {name}: (.*(?:\n     .*)*)", arguments, re.MULTILINE)
            default = json.dumps(parameter.default) if isinstance(parameter.default, str) else parameter.default
            assert f"Default {default}" in " ".join(of_this.split())


@each_class
@pytest.mark.quick
def test_the_docstring_helps_to_choose_and_to_start(cls):
    """The origin of the defaults, a learning rate, what goes wrong, and what a relative does otherwise."""
    found = sections(cls)
    assert {"Defaults", "Start with", "Pitfalls", "Differs from"} <= set(found)
    assert re.search(r"\d", found["Start with"])
    assert found["Pitfalls"].strip().startswith("- ")
    others = set(re.findall(r"`(\w+)`", found["Differs from"])) - {cls.__name__}
    assert others & {each.__name__ for each in ALGORITHMS}


@each_class
@pytest.mark.quick
def test_the_source_and_the_slots_are_named(cls):
    assert re.search(r"\b(19|20)\d\d\b", sections(cls)["Source"])
    assert all(re.search(rf"\b{slot.name}\b", sections(cls)["Slots"]) for slot in cls.slots)


@pytest.mark.quick
def test_every_option_is_described():
    documented = sections(AdaptiveOptimizer)["Args"]
    assert described(documented) == {"learning_rate", *OPTIONS}


@each_class
@pytest.mark.quick
def test_the_equations_use_the_letters_of_the_rule(cls):
    text = equations(cls)
    assert "theta_t = theta_{t-1} - " in text
    for slot in cls.slots:
        if slot.name.endswith("_0"):
            # The start itself, which stays what it is.
            assert f"{slot.name} = theta_0" in text
            continue
        assert re.search(rf"\b{slot.name}_t = .*\b{slot.name}_{{t-1}}", text)
        assert re.search(rf"\b{slot.name}_0 = ", text)
    # It has one value, which changes no equation.
    assert all(re.search(rf"\b{name}\b", text) for name in cls.hyperparameters if name != "amsgrad")
    assert list(inspect.signature(cls.rule).parameters) == [
        "self",
        "h",
        "theta",
        "g",
        *(slot.name for slot in cls.slots),
    ]


@each_name
@pytest.mark.quick
@pytest.mark.full_on("tensorflow", "jax")
def test_the_example_runs(item):
    """On every backend: examples print NumPy arrays."""
    globs = {"keras": keras, "keras_adaptive": keras_adaptive, **dict(zip(keras_adaptive.__all__, PUBLIC, strict=True))}
    found = doctest.DocTestFinder(recurse=False).find(item, globs=globs)
    assert sum(len(test.examples) for test in found) >= 2
    report = []
    for test in found:
        doctest.DocTestRunner().run(test, out=report.append)
    assert not report, "".join(report)
