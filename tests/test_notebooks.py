"""The notebooks of colab/ as Colab runs them, and as they are stored: executed, with their pictures."""

import importlib.util
import json
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(ROOT.glob("colab/*.ipynb"))
# In every full run on TensorFlow too.
ON_BOTH = ("finetune_hub", "quickstart")
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
# What the world of the tests sets, or this machine, and a notebook decides.
NOT_A_USERS = ("KERAS_BACKEND", "XLA_FLAGS", "NPROC", "JAX_ENABLE_X64")


def cells(path):
    """The cells of code."""
    return [cell for cell in json.loads(path.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]


def pictures(outputs):
    return sum("image/png" in output.get("data", {}) for output in outputs)


def backend_of(outputs):
    """What the first cell says that it found."""
    text = "".join("".join(output.get("text", "")) for output in outputs)
    return next(name for name in ("tensorflow", "jax") if f" on {name}: " in text)


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """Runs a notebook in a separate kernel, in an empty folder below a checkout of the examples."""
    import nbformat
    from nbclient import NotebookClient

    for name in NOT_A_USERS:
        monkeypatch.delenv(name, raising=False)
    # The package of this checkout, also where another one is installed.
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    # The one that trains for minutes is only tried.
    monkeypatch.setenv("KERAS_ADAPTIVE_QUICK", "1")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    folder = tmp_path / "colab"
    folder.mkdir()

    def run(path):
        notebook = nbformat.read(path, as_version=4)
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": folder}}).execute()
        return [cell["outputs"] for cell in notebook.cells if cell["cell_type"] == "code"]

    return run


def holds(path, outputs, backend):
    """It ends without an error (else the client raises), on the backend, and shows what the stored one shows."""
    assert backend_of(outputs[0]) == backend
    assert list(map(pictures, outputs)) == [pictures(cell["outputs"]) for cell in cells(path)]


# All four run without TensorFlow.
@pytest.mark.on("tensorflow")
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=getattr(pytest.mark, "full" if path.stem in ON_BOTH else "variant"))
        for path in NOTEBOOKS
    ],
)
def test_a_notebook_runs_on_tensorflow(path, execute):
    holds(path, execute(path), "tensorflow")


@pytest.mark.on("jax")
@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is not None, reason="with TensorFlow installed a notebook chooses it"
)
@each
def test_a_notebook_runs_without_tensorflow(path, execute):
    holds(path, execute(path), "jax")


@pytest.mark.quick
@each
def test_a_notebook_is_stored_executed(path):
    """In order, without an error or a warning, with a picture, and small enough to open fast."""
    stored = cells(path)
    assert [cell["execution_count"] for cell in stored] == list(range(1, len(stored) + 1))
    outputs = [output for cell in stored for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert pictures(outputs) >= 1
    assert path.stat().st_size < 1_000_000


@pytest.mark.quick
def test_a_standalone_notebook_installs_from_a_folder(tmp_path, monkeypatch):
    """pip reads a name without a slash as a package of its index, even if a folder has that name."""
    monkeypatch.chdir(tmp_path)
    found = {}
    exec("".join(cells(NOTEBOOKS[0])[0]["source"]).split("if not root.exists()")[0], found)
    assert str(found["root"]) == str(tmp_path / "keras_adaptive_source")


@pytest.mark.quick
def test_all_notebooks_begin_with_the_same_cell():
    """The cell that installs and picks the backend is the same in all; nothing after it asks for a device."""
    assert [path.stem for path in NOTEBOOKS] == ["finetune_hub", "lecture", "quickstart", "tpu_large_batch"]
    assert len({"".join(cells(path)[0]["source"]) for path in NOTEBOOKS}) == 1
