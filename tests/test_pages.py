"""The pages of the documentation: their code runs, their links lead somewhere, their tables are those of today."""

import functools
import importlib.util
import inspect
import re
import shlex
import tomllib
from pathlib import Path

import keras
import pages
import pytest

import keras_adaptive
from keras_adaptive.__main__ import COMMANDS, make_parsers
from keras_adaptive.bench.specification import CLASSES
from keras_adaptive.compare.contenders import CONTENDERS
from keras_adaptive.compare.report import WELL_KNOWN
from keras_adaptive.compare.workloads import TUNED

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
    for command in re.findall(r"python -m keras_adaptive((?: [^\s`&]+)*)", text_of(path)):
        words = shlex.split(command)
        if words and words[0] != "--version":
            assert words[0] in COMMANDS
        # In prose the name alone stands for the command.
        if len(words) > 1:
            parser.parse_args(words)


@pytest.mark.quick
@pytest.mark.parametrize("path", FILES)
def test_extras_that_a_page_names_exist(path):
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    for extras in re.findall(r"\.\[([\w, -]+)\]", text_of(path)):
        assert set(re.split(r", ?", extras)) <= set(project["optional-dependencies"]), extras


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
    numbers = {6: "six", 8: "Eight"}
    assert f"tunes {len(CONTENDERS)} optimizers on {numbers[len(TUNED)]} small problems" in words
    assert f"{numbers[len(WELL_KNOWN)]} of them here" in words
    low, high = re.search(r"Python (3\.\d+) to 3\.(\d+)", readme).groups()
    assert f'requires-python = ">={low},<3.{int(high) + 1}"' in text_of("pyproject.toml")
    found = re.findall(r"\*\*(.*reproduced.*)\*\* \|$", text_of("examples/lecture.md"), re.MULTILINE)
    assert (len(found), found.count("reproduced")) == (6, 5)
    assert "five of six reproduced" in readme


@pytest.mark.quick
def test_the_speeds_of_the_readme_are_those_of_bench():
    """Of Adam: on TensorFlow in `fit`, on JAX on a CPU and a GPU, on torch without and with loops."""
    page = text_of("keras_adaptive/bench/README.md")
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]
    mixed, *others = [row for row in rows if row[:2] == ["mixed", "Adam"]]
    (large,) = [row for row in rows if row[:2] == ["large", "Adam"]]
    on_jax, on_torch, _ = others
    readme = text_of("README.md")
    for text in (
        f"{mixed[4]} in `fit` on a CPU",
        f"{on_jax[3]} on a CPU, {large[3]} on an H200",
        f"{float(on_torch[3]):.2f} on a CPU, {float(on_torch[6]):.2f} with `jit_update=True`",
    ):
        assert f"| {text} |" in readme


@pytest.mark.quick
def test_what_the_readme_concludes_is_in_the_table_of_compare():
    """Losses without tuning, who beats AdamW, and, in a guide, how narrow good learning rates are."""
    page = text_of("keras_adaptive/compare/README.md").split("<!-- compare-all -->\n")[1].split("\n\n")[0]
    head, _, *lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines()]
    rows = {line[0]: dict(zip(head, line, strict=True)) for line in lines}
    words = " ".join(text_of("README.md").split())
    untuned = {name: float(row["loss, defaults"].split()[0]) for name, row in rows.items()}
    losses = [untuned[name] for name in ("Soap", "Mars", "Nadam", "Adopt", "Prodigy")]
    assert f"is {min(losses):.2f} to {max(losses):.2f} times that of a tuned AdamW" in words
    assert f"an untuned AdamW's is {untuned['AdamW']:.2f} times" in words
    assert not [name for name, row in rows.items() if row["loss, 7 rates"].endswith("-")]
    (better,) = [row for row in rows.values() if row["loss, 15 trials"].endswith("-")]
    assert f"only `{better['optimizer']}` does ({better['loss, 15 trials'].split()[0]})" in words
    assert list(rows)[1] == "ScheduleFreeAdamW"
    assert "second in `compare`, by score" in words
    widths = [float(row["good rates"]) for row in rows.values()]
    span = f"span {min(widths)} to {max(widths)} decades, for each of {len(rows)} optimizers"
    assert span in " ".join(text_of("examples/guides/choose_and_tune.md").split())


@pytest.mark.quick
def test_classes_that_the_readme_names_exist():
    """In code font, with a capital: of this package, or of Keras and TensorFlow."""
    of_others = {"MirroredStrategy", "SignMomentum"}
    named = set(re.findall(r"`([A-Z]\w*[a-z]\w*)`", text_of("README.md")))
    assert {name for name in named if not hasattr(keras_adaptive, name)} <= of_others


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
