"""The commands in the docstrings of the scripts: each is accepted, and the first one of each script runs."""

import ast
import importlib.util
import re
import shlex

import pytest
from scripts import ROOT, is_picture, picture_of, result_of, run_here

pytestmark = pytest.mark.on("tensorflow")
# What makes a run short, for each script with a command.
SHORT = {
    "finetune_hub.py": ["--epochs", 1],
    "finetune_kerashub.py": ["--quick"],
    "keras_compared.py": ["--quick", "--seeds", 2, "--only", "unfrozen"],
    "lecture.py": ["--quick", "--seeds", 1, "--claims", 1],
    "train_cartpole.py": ["--updates", 2],
    "train_embeddings.py": ["--steps", 6, "--rows", 3000, "--size", 8],
    "train_image.py": ["--epochs", 1],
    "train_imagenet.py": ["--epochs", 2, "--image-size", 16, "--steps-per-epoch", 3, "--warmup-epochs", 1],
    "train_text.py": ["--steps", 4, "--evaluations", 2, "--context", 16],
}
NEEDS = {"finetune_kerashub.py": "keras_hub"}


def commands():
    """The script, the arguments and the environment of each command in a docstring of examples/."""
    for path in sorted((ROOT / "examples").glob("*.py")):
        for line in re.findall(r"^    (.*python examples/.*)$", ast.get_docstring(ast.parse(path.read_text())), re.M):
            before, script, arguments = re.fullmatch(r"(.*)python examples/(\w+\.py)(.*)", line).groups()
            assert script == path.name, line
            yield script, shlex.split(arguments), dict(pair.split("=") for pair in before.split())


COMMANDS = list(commands())
FIRST = {script: (arguments, environment) for script, arguments, environment in reversed(COMMANDS)}


def skip_if_not_installed(script):
    if script in NEEDS and importlib.util.find_spec(NEEDS[script]) is None:
        pytest.skip(f"{NEEDS[script]} is not installed")


def test_each_script_that_runs_has_a_command():
    """Its docstring begins with what it shows, in one sentence, and one command without arguments."""
    assert set(FIRST) == set(SHORT)
    for script in FIRST:
        first, empty, command, *_ = ast.get_docstring(ast.parse((ROOT / "examples" / script).read_text())).splitlines()
        assert first.endswith(".")
        assert (empty, command) == ("", f"    python examples/{script}")


class Accepted(Exception):
    """The script has read its arguments."""


@pytest.mark.parametrize(("script", "arguments", "environment"), COMMANDS)
def test_a_command_is_accepted(monkeypatch, tmp_path, script, arguments, environment):
    """By all that a script checks before it chooses a backend."""
    skip_if_not_installed(script)
    monkeypatch.syspath_prepend(ROOT / "examples")
    import strategies

    def stop(*chosen):
        raise Accepted

    monkeypatch.setattr(strategies, "choose_backend", stop)
    assert set(environment) <= {"KERAS_BACKEND"}
    assert set(environment.values()) <= set(strategies.BACKENDS)
    with pytest.raises(Accepted):
        run_here(script, arguments, tmp_path, {})


# Their own tests, or .ci/run, run these commands too.
ELSEWHERE = ("finetune_kerashub.py", "keras_compared.py", "lecture.py", "train_cartpole.py", "train_image.py")


@pytest.mark.parametrize(
    "script",
    [pytest.param(script, marks=pytest.mark.variant) if script in ELSEWHERE else script for script in SHORT],
)
def test_the_first_command_runs_and_leaves_only_what_it_prints(run, tmp_path, script):
    skip_if_not_installed(script)
    done = run(script, *SHORT[script])
    assert result_of(done)
    picture = picture_of(done)
    assert picture.name == script.replace(".py", ".png")
    assert is_picture(picture)
    assert list(tmp_path.iterdir()) == []
