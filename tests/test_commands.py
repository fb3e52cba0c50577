"""`python -m keras_adaptive`: what it imports, what `list` and `show` print."""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import keras_adaptive
from keras_adaptive import __main__ as commands
from keras_adaptive.bench.specification import CLASSES
from keras_adaptive.bench.workloads import WORKLOADS as OF_BENCH
from keras_adaptive.catalogue import docstrings, entries, page
from keras_adaptive.compare import arguments as of_compare
from keras_adaptive.compare.workloads import WORKLOADS as OF_COMPARE

HEAVY = ("keras", "tensorflow", "jax", "torch", "numpy")
COLUMNS = 100


def command(*arguments, folder=None, **environment):
    """Runs Python in a separate process, with the package that is tested here."""
    search = os.pathsep.join(filter(None, [str(folder or ""), str(Path(keras_adaptive.__file__).parents[1])]))
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": search, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.quick
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([name, "--help"] for name in commands.COMMANDS)])
def test_help_imports_neither_keras_nor_a_backend(arguments):
    done = command("-X", "importtime", "-m", "keras_adaptive", *arguments)
    assert done.returncode == 0
    imported = set(re.findall(r"\| +([\w.]+)$", done.stderr, re.MULTILINE))
    assert "keras_adaptive.compare.arguments" in imported
    assert not imported & set(HEAVY)


@pytest.mark.quick
def test_the_version_is_printed():
    assert command("-m", "keras_adaptive", "--version").stdout == f"keras_adaptive {keras_adaptive.__version__}\n"


@pytest.mark.quick
def test_help_is_written_in_sentences():
    for _, what, add_arguments in commands.COMMANDS.values():
        assert re.fullmatch(r"[A-Z].*\.", what)
        parser = argparse.ArgumentParser(add_help=False)
        add_arguments(parser)
        for action in parser._actions:
            assert re.fullmatch(r"[A-Z].*\.", action.help), action.dest


@pytest.mark.quick
def test_the_names_of_workloads_are_those_that_there_are():
    """The modules with the arguments name them again, since they do not import what makes them."""
    assert tuple(OF_COMPARE) == of_compare.WORKLOADS
    assert len(OF_BENCH) == len({make.__name__ for make in OF_BENCH.values()})
    assert all(make.__name__ == name for name, make in OF_BENCH.items())


def test_a_command_has_all_classes():
    """`python -m keras_adaptive` begins without them."""
    done = command("-m", "keras_adaptive", "show", "adam")
    assert done.returncode == 0, done.stderr
    assert "beta_1 m_{t-1}" in done.stdout


@pytest.mark.full_on("tensorflow", "jax")
def test_another_command_has_all_classes_from_the_start(tmp_path):
    """Keras must know them when that command loads a model."""
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "__init__.py").write_text("import keras_adaptive\nfound = keras_adaptive.Adam.__name__\n")
    (folder / "__main__.py").write_text("import other\nprint(other.found)\n")
    done = command("-m", "other", "keras_adaptive", folder=tmp_path)
    assert done.stdout == "Adam\n", done.stderr


def test_a_backend_that_is_missing_is_named_with_the_remedy(tmp_path):
    """Keras chooses TensorFlow by default, also where only JAX is installed."""
    (tmp_path / "tensorflow.py").write_text(
        "raise ModuleNotFoundError('No module named tensorflow', name='tensorflow')"
    )
    done = command("-m", "keras_adaptive", "list", folder=tmp_path, KERAS_BACKEND="tensorflow")
    assert done.returncode == 2
    said = "python -m keras_adaptive: Keras's backend tensorflow is not installed: set KERAS_BACKEND=jax\n"
    assert done.stderr.splitlines()[-1] == said.strip()
    assert "Traceback" not in done.stderr


def test_an_unknown_backend_is_named_without_a_traceback():
    for backend, said in (("numpy", "the Keras backends tensorflow, jax and torch"), ("foo", "foo")):
        done = command("-m", "keras_adaptive", "list", KERAS_BACKEND=backend)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False)
        assert said in done.stderr.splitlines()[-1]


def test_a_terminal_without_a_character_shows_the_page_all_the_same():
    done = command("-m", "keras_adaptive", "show", "WarmupStableDecay", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "H?gele" in done.stdout


# list


@pytest.fixture(scope="module")
def catalogue():
    return entries.catalogue()


def test_the_list_fits_a_terminal(catalogue):
    lines = entries.plain(catalogue).splitlines()
    assert max(map(len, lines)) <= COLUMNS
    named = [line.split(" ")[0] for line in lines[1 : lines.index("")] if not line.startswith(" ")]
    assert named == sorted(CLASSES, key=str.lower)


def test_every_entry_has_all_facts(catalogue):
    assert [one.name for one in catalogue if not (one.what and one.paper and one.year)] == []
    facts = {one.name: one for one in catalogue}
    assert facts["Adam"].bytes_per_parameter == "8"
    assert facts["SGD"].sparse == "yes"
    assert facts["Lion"].sparse == "if lazy"
    assert facts["Lamb"].sparse == "no"
    assert facts["ScheduleFreeSGD"].wants == facts["DoG"].wants == "EvaluationWeights"
    assert facts["Muon"].wants == "schedule, companions"
    assert facts["Adagrad"].wants == facts["SM3"].wants == ""


# show


@pytest.mark.quick
@pytest.mark.parametrize("name", keras_adaptive.__all__)
def test_every_public_name_has_a_page(name):
    item = getattr(keras_adaptive, name)
    # These are in other words on the page; what an algorithm raises is the same sentence for all.
    elsewhere = {"", "Args", "Slots", *(["Raises"] if name in CLASSES else [])}
    for text in (page.plain(item), page.markdown(item)):
        assert docstrings.title(item) in " ".join(text.split())
        for heading in set(docstrings.sections(item)) - elsewhere:
            assert heading in text


@pytest.mark.quick
def test_a_page_has_the_arguments_and_the_equations():
    text = page.markdown(keras_adaptive.Adam)
    assert "| `beta_2` | `0.999` | Decay rate of the moving average of the squared gradient. " in text
    assert "```text\nm_t = beta_1 m_{t-1} + (1 - beta_1) g_t " in text
    assert "8 bytes per parameter" in text
    assert re.search(r"^\| digits \| [\d.]+ \|", text, re.MULTILINE)


@pytest.mark.quick
def test_an_option_is_described(capsys):
    for name in ("clipnorm", "CLIPNORM"):
        assert commands.main(["show", name]) == 0
        assert capsys.readouterr().out.startswith("clipnorm: Maximum norm of each variable's gradient")
    with pytest.raises(SystemExit):
        commands.main(["show", "clipnrm"])
    assert "the nearest are clipnorm" in capsys.readouterr().err


@pytest.mark.quick
@pytest.mark.parametrize("name", CLASSES)
def test_a_page_fits_a_terminal(name):
    """But for equations and code, and for lists whose lines end where they were written."""
    text = page.plain(CLASSES[name])
    assert [line for line in text.splitlines() if len(line) > COLUMNS and not line.startswith("    ")] == []


@pytest.mark.quick
def test_a_terminal_is_told_where_a_link_leads(capsys):
    assert commands.main(["show", "Adam"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "these options (`python -m keras_adaptive show AdaptiveOptimizer`)" in said
    assert "(`keras_adaptive/compare/README.md`)" in said


@pytest.mark.quick
def test_an_unknown_name_leads_to_the_nearest(capsys):
    with pytest.raises(SystemExit) as ended:
        commands.main(["show", "adamv"])
    assert ended.value.code == 2
    assert "the nearest are Adam," in capsys.readouterr().err


@pytest.mark.full_on("tensorflow", "jax")
def test_the_list_command_handles_a_closed_pipe():
    command = [sys.executable, "-m", "keras_adaptive", "list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as listing:
        listing.stdout.close()
        complaints = listing.stderr.read()
    assert "BrokenPipeError" not in complaints
    assert listing.returncode == 1
