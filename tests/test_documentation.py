"""The documentation is complete and correct, and its examples run."""

import doctest
import inspect
import json
import os
import re
import subprocess
import sys
from decimal import Decimal, InvalidOperation
from pathlib import Path

import keras
import pytest

import keras_adaptive
from keras_adaptive.catalogue.docstrings import sections
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.options import OPTIONS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

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


# Docstrings


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


# README


@pytest.fixture(params=["float32", pytest.param("mixed_float16", marks=pytest.mark.full)])
def policy(request):
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy("float32")


@pytest.mark.full_on("tensorflow")
def test_the_code_blocks_of_a_readme_run_in_order(policy, tmp_path, monkeypatch):
    """All of them, as one program of this backend."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 3
    namespace = {"__name__": "readme"}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)


@pytest.mark.quick
def test_paths_in_the_readmes_exist():
    """Files and folders in code font, pictures, scripts, and the two commands."""
    named = re.findall(r"`((?:keras_adaptive|tests|examples|\.ci)/[\w./]*)`", README)
    pictures = re.findall(r"!\[[^]]*\]\(([^)]*)\)", README)
    scripts = re.findall(r"python (examples/\w+\.py)", README)
    for path in named + pictures + scripts + [f"colab/{name}" for name in re.findall(r"`(\w+\.ipynb)`", README)]:
        assert (ROOT / path).exists(), path
    assert pictures
    commands = 'pip install -e ".[examples]" && python examples/train_image.py', 'pip install -e ".[test]" && pytest'
    runner = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for command in commands:
        assert f"\n{command}\n" in README
        assert f"\nbash -c '{command}'\n" in runner


def other_defaults():
    """Class, argument and our default, where both classes take the argument and the defaults differ."""
    for name in keras_adaptive.__all__:
        ours, theirs = getattr(keras_adaptive, name), getattr(keras.optimizers, name, None)
        if inspect.isclass(theirs):
            here, there = (inspect.signature(cls).parameters for cls in (ours, theirs))
            # An argument whose default is None may stand for a number.
            config = ours(learning_rate=0.1).get_config()
            defaults = config | {each: here[each].default for each in here if here[each].default is not None}
            for argument in [each for each in there if each in defaults and each != "name"]:
                if defaults[argument] != there[argument].default:
                    yield name, argument, defaults[argument]


@pytest.mark.quick
def test_the_readme_names_defaults_that_differ_from_keras():
    """For every argument, and its rows hold no other number."""
    differ = list(other_defaults())
    assert len({argument for _, argument, _ in differ}) >= 5
    for name, argument, default in differ:
        row = rf"^\| `{argument}`, by default .*\| by default .*\b{default} in `{name}`"
        assert re.search(row, README, re.MULTILINE), (name, argument, default)
    written = re.findall(r"^\| `(\w+)`, by default [^|]*\| (by default .*)$", README, re.MULTILINE)
    named = {(argument, name) for argument, text in written for name in re.findall(r" in `(\w+)`", text)}
    assert named == {(argument, name) for name, argument, _ in differ}


@pytest.mark.quick
def test_the_readme_names_every_class():
    assert all(re.search(rf"\b{name}\b", README) for name in keras_adaptive.__all__)


# The table of defects


def table(markdown):
    """Keras's version, and the rows of the table of defects by their first column."""
    version, body = re.search(
        r"^\| \| Keras ([\d.]+) \| keras_adaptive \|\n\|[-|]+\|\n((?:\|.*\n)+)", markdown, re.MULTILINE
    ).groups()
    cells = (line.strip("| ").split(" | ") for line in body.splitlines())
    return version, {what: figures for what, *figures in cells}


def agree(written, measured):
    """The same words, or numbers that differ by at most one unit of the last digit that is written."""
    if written == measured:
        return True
    try:
        written, measured = Decimal(written), Decimal(measured)
    except InvalidOperation:
        return False
    return abs(written - measured) <= Decimal((0, (1,), written.as_tuple().exponent))


@pytest.mark.quick
def test_figures_agree_to_the_written_digits():
    assert agree("0.73", "0.74")
    assert agree("<1e-6", "<1e-6")
    assert not agree("0.73", "0.75")
    assert not agree("0.73", "<1e-6")
    assert not agree("1", "ValueError")
    assert not agree("accepted", "ValueError")


@pytest.mark.full_on("tensorflow", "jax")
def test_the_list_command_handles_a_closed_pipe():
    command = [sys.executable, "-m", "keras_adaptive", "list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as listing:
        listing.stdout.close()
        complaints = listing.stderr.read()
    assert "BrokenPipeError" not in complaints
    assert listing.returncode == 1


@pytest.mark.full
@pytest.mark.on("tensorflow")
def test_the_table_of_defects_is_current():
    version, written = table(README)
    if keras.__version__ != version:
        pytest.skip(f"the README's figures are those of Keras {version}")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "defects.py")],
        env={**os.environ, "PYTHONPATH": str(Path(keras_adaptive.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    _, measured = table(done.stdout)
    assert list(written) == list(measured)
    wrong = {
        what: (figures, measured[what])
        for what, figures in written.items()
        if not all(agree(*pair) for pair in zip(figures, measured[what], strict=True))
    }
    assert not wrong
