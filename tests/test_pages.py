"""The pages of the documentation: their code runs, their links lead somewhere, their tables are those of today."""

import functools
import importlib.util
import inspect
import re
import shlex
from pathlib import Path

import keras
import pages
import pytest

import keras_adaptive
from keras_adaptive.__main__ import COMMANDS, make_parsers
from keras_adaptive.bench.specification import CLASSES

ROOT = Path(__file__).parents[1]
FOLDERS = ("keras_adaptive", "examples", "tests", "colab")
FILES = sorted(path.relative_to(ROOT).as_posix() for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))
FILES += sorted(path.name for path in ROOT.glob("*.md"))
GUIDES = [path for path in FILES if path.startswith("examples/guides/")]
# A block of code, and the line above it.
BLOCK = re.compile(r"^([^\n]*)\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def text_of(path):
    return (ROOT / path).read_text(encoding="utf-8")


# Why a block is not run everywhere, and whether it runs here. The guides' blocks for JAX are run by test_guides.py.
NEEDS = {
    "needs TensorFlow": lambda: keras.backend.backend() == "tensorflow",
    "needs the package keras-hub": lambda: importlib.util.find_spec("keras_hub") is not None,
}


def blocks(path):
    """The blocks of Python of a page, but for those that say above why they are not run here."""
    for above, code in BLOCK.findall(text_of(path)):
        reason = re.fullmatch(r"<!-- not run: (.{5,}) -->", above)
        if not reason or NEEDS.get(reason[1], bool)():
            yield code


def anchors(path):
    """The anchors of the headings of a page, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"(?ms)^```.*?^```", "", text_of(path)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# Code


@pytest.fixture(params=["float32", pytest.param("mixed_float16", marks=pytest.mark.full)])
def policy(request):
    keras.config.set_dtype_policy(request.param)
    yield
    keras.config.set_dtype_policy("float32")


def run(path, folder, monkeypatch):
    """The blocks of a page as one program, in an empty folder."""
    monkeypatch.chdir(folder)
    before = keras.config.dtype_policy()
    namespace = {"__name__": "page"}
    try:
        for code in blocks(path):
            exec(compile(code, path, "exec"), namespace)
    finally:
        keras.config.set_dtype_policy(before)


def test_the_code_of_the_readme_runs_in_order(policy, tmp_path, monkeypatch):
    assert len(list(blocks("README.md"))) >= 2
    run("README.md", tmp_path, monkeypatch)


@pytest.mark.full_on("tensorflow", "jax")
@pytest.mark.parametrize("path", GUIDES)
def test_the_code_of_a_guide_runs_in_order(path, tmp_path, monkeypatch):
    run(path, tmp_path, monkeypatch)


@pytest.mark.quick
def test_all_code_of_the_other_pages_is_run_elsewhere():
    """Their blocks are examples of docstrings, which other tests run, or commands."""
    assert [path for path in FILES if path not in ("README.md", *GUIDES) and list(blocks(path))] == []


@pytest.mark.quick
@pytest.mark.parametrize("path", [path for path in FILES if path != "CHANGELOG.md"])
def test_the_commands_of_a_page_are_understood(path, tmp_path, monkeypatch):
    """Those of the package, in blocks and in code font; a name in capitals stands for a file or folder."""
    monkeypatch.chdir(ROOT)
    parser, _ = make_parsers()
    for command in re.findall(r"python -m keras_adaptive((?: [^\s`&]+)+)", text_of(path)):
        words = shlex.split(command)
        if words[0] in COMMANDS and len(words) > 1:
            parser.parse_args(words)


# Links


@pytest.mark.quick
@pytest.mark.parametrize("path", FILES)
def test_links_lead_somewhere(path):
    page = re.sub(r"(?ms)^```.*?^```|`[^`\n]*`", "", text_of(path))
    for target in re.findall(r"\]\(([^)\s]*)\)", page):
        if not target.startswith(("https://", "http://")):
            name, _, anchor = target.partition("#")
            file = (ROOT / path).parent / name if name else ROOT / path
            assert file.exists(), target
            assert not anchor or anchor in anchors(file.resolve().relative_to(ROOT)), target


@pytest.mark.quick
@pytest.mark.parametrize("path", [path for path in FILES if path != "CHANGELOG.md"])
def test_files_that_a_page_names_exist(path):
    """In code font and in commands, from the top folder. The changelog also names what was."""
    page = text_of(path)
    named = re.findall(r"`((?:keras_adaptive|tests|examples|colab|\.ci)/[\w./]*)`", page)
    for name in named + re.findall(r"python ((?:examples|tests)/\w+\.py)", page):
        assert (ROOT / name).exists(), name


# The README


@pytest.mark.quick
def test_the_readme_is_short():
    assert len(text_of("README.md").splitlines()) <= 200


@pytest.mark.quick
def test_the_two_commands_of_the_readme_are_those_that_ci_runs():
    commands = 'pip install -e ".[examples]" && python examples/train_image.py', 'pip install -e ".[test]" && pytest'
    for command in commands:
        assert f"\n{command}\n" in text_of("README.md")
        assert f"\nbash -c '{command}'\n" in text_of(".ci/run")


@pytest.mark.quick
def test_the_numbers_of_the_readme_are_those_of_the_pages():
    readme = text_of("README.md")
    assert f"[All {len(CLASSES)}](keras_adaptive/optimizers/README.md)" in readme
    verdicts = re.findall(r"\*\*(.*)\*\* \|$", text_of("examples/keras_compared.md"), re.MULTILINE)
    ours, ties = verdicts.count("keras_adaptive ahead"), verdicts.count("no difference seen")
    assert len(verdicts) == ours + ties
    words = " ".join(readme.split())
    assert f"ahead in {ours} of {len(verdicts)} pairs, Keras's in none, and {ties} show no difference" in words
    found = re.findall(r"\*\*(.*reproduced.*)\*\* \|$", text_of("examples/lecture.md"), re.MULTILINE)
    assert (len(found), found.count("reproduced")) == (6, 5)
    assert "five of six reproduced" in readme


# Pages that are written by commands


@functools.cache
def written():
    return {pages.FOLDER / "README.md": pages.catalogue(), **pages.pages()}


@pytest.mark.quick
@pytest.mark.parametrize("file", [path for path in FILES if path.startswith("keras_adaptive/optimizers/")])
def test_the_pages_of_the_optimizers_are_those_of_today(file):
    """`python tests/pages.py` writes them."""
    assert text_of(file) == written()[ROOT / file]


@pytest.mark.quick
def test_every_optimizer_has_a_page():
    assert {path for path in FILES if path.startswith("keras_adaptive/optimizers/")} == {
        path.relative_to(ROOT).as_posix() for path in written()
    }


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
def test_the_guide_names_the_defaults_that_differ_from_keras():
    """For every argument, and its rows hold no other number."""
    page = text_of("examples/guides/migrating.md")
    differ = list(other_defaults())
    assert len({argument for _, argument, _ in differ}) >= 5
    for name, argument, default in differ:
        row = rf"^\| `{argument}`, by default .*\| by default .*\b{default} in `{name}`"
        assert re.search(row, page, re.MULTILINE), (name, argument, default)
    written = re.findall(r"^\| `(\w+)`, by default [^|]*\| (by default .*)$", page, re.MULTILINE)
    named = {(argument, name) for argument, text in written for name in re.findall(r" in `(\w+)`", text)}
    assert named == {(argument, name) for name, argument, _ in differ}


@pytest.mark.quick
def test_the_pages_name_everything_that_is_public():
    everything = "\n".join(text_of(path) for path in FILES if path != "CHANGELOG.md")
    assert [name for name in keras_adaptive.__all__ if not re.search(rf"\b{name}\b", everything)] == []
