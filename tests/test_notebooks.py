"""The notebooks of colab/ as Colab runs them, and as they are stored: executed, with their pictures."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

import keras_adaptive

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(ROOT.glob("colab/*.ipynb"))
# In every full run on TensorFlow too; quickstart is run there with a wheel.
ON_BOTH = ("finetune_hub",)
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
    return next(name for name in ("tensorflow", "jax") if f" on {name}\n" in text)


@pytest.fixture
def as_a_user(monkeypatch):
    """The environment of a kernel; what takes minutes is only tried."""
    for name in NOT_A_USERS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KERAS_ADAPTIVE_QUICK", "1")


def outputs_of(path, folder, **options):
    """Runs a notebook in a separate kernel, in this folder."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": folder}}, **options).execute()
    return [cell["outputs"] for cell in notebook.cells if cell["cell_type"] == "code"]


@pytest.fixture
def execute(tmp_path, as_a_user):
    """Runs a notebook in an empty folder of a checkout, whose package it uses, also where another one is installed."""
    for name in ("keras_adaptive", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    folder = tmp_path / "colab"
    folder.mkdir()
    return lambda path: outputs_of(path, folder)


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
@each
def test_a_notebook_asks_for_no_device(path):
    """Nor says which machine has run it."""
    notebook = json.loads(path.read_text("utf-8"))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert notebook["metadata"] == {
        "colab": {"provenance": []},
        "kernelspec": kernel,
        "language_info": {"name": "python"},
    }
    assert not any(cell["metadata"] for cell in notebook["cells"])


# The first cell


@pytest.mark.quick
def test_all_notebooks_begin_with_the_same_cell():
    assert [path.stem for path in NOTEBOOKS] == ["finetune_hub", "lecture", "quickstart", "tpu_large_batch"]
    assert len({"".join(cells(path)[0]["source"]) for path in NOTEBOOKS}) == 1


WHEEL = "keras_adaptive-0.2.0-py3-none-any.whl"


class Kernel:
    """Runs cells in this process: what is installed is only said to be, and commands are only written down."""

    def __init__(self, folder):
        self.installed, self.missing, self.commands = False, set(), []
        self.namespace = {"get_ipython": lambda: self, "here": folder}

    def run(self, source):
        from IPython.core.inputtransformer2 import TransformerManager

        exec(TransformerManager().transform_cell(source), self.namespace)

    def find_spec(self, name):
        found = self.installed if name == "keras_adaptive" else name not in self.missing
        return SimpleNamespace(origin=f"{name}/__init__.py") if found else None

    def run_line_magic(self, name, line):
        self.commands.append(f"{name} {eval(f'f{line!r}', self.namespace)}")
        self.installed = True

    def system(self, line):
        self.commands.append(eval(f"f{line!r}", self.namespace))
        repository(Path(self.commands[-1].split('"')[-2]))


def repository(folder):
    """What the first cell looks for in one."""
    for name in ("keras_adaptive/__init__.py", "examples/strategies.py"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).touch()
    return folder


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """In an empty folder, where keras_adaptive is not installed."""
    folder = tmp_path / "content"
    folder.mkdir()
    monkeypatch.chdir(folder)
    made = Kernel(folder)
    monkeypatch.setattr(importlib.util, "find_spec", made.find_spec)
    monkeypatch.setattr(sys, "path", ["here", "there"])
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    return made


def first(kernel, address=""):
    """Runs the first cell; the commands that it gave, and the folders that it put on the path."""
    kernel.run("".join(cells(NOTEBOOKS[0])[0]["source"]).replace('REPOSITORY = ""', f'REPOSITORY = "{address}"'))
    return kernel.commands, [folder for folder in sys.path if folder not in ("here", "there")]


@pytest.mark.quick
def test_an_installed_package_is_used(kernel, capsys):
    kernel.installed = True
    assert first(kernel) == ([], [])
    assert capsys.readouterr().out.startswith(f"keras_adaptive {keras_adaptive.__version__} and Keras ")


@pytest.mark.quick
@pytest.mark.parametrize("at", [".", "..", "../..", "clone"])
def test_a_checkout_is_used(at, kernel, tmp_path, monkeypatch):
    """It comes before a package that is installed."""
    (tmp_path / "content/a").mkdir()
    monkeypatch.chdir(tmp_path / "content/a")
    root = repository(Path(at).resolve())
    kernel.installed = True
    assert first(kernel) == ([], [str(root), str(root / "examples")])
    assert (sys.path[0], sys.path[-1]) == (str(root), str(root / "examples"))


@pytest.mark.quick
def test_a_wheel_in_the_folder_is_installed(kernel, tmp_path):
    (tmp_path / "content" / WHEEL).touch()
    assert first(kernel) == ([f'pip install -q "{tmp_path}/content/{WHEEL}"'], [])


@pytest.mark.quick
@pytest.mark.parametrize("installed", [False, True])
@pytest.mark.parametrize("name", ["keras_adaptive-main.zip", "no_top_folder.zip", "keras_adaptive-0.2.0.tar.gz"])
def test_a_repository_in_an_archive_is_unpacked_and_installed(name, installed, kernel, tmp_path):
    """Rather than a wheel, which has no examples; where the package is installed, it is only unpacked."""
    folder = tmp_path / "content"
    (folder / WHEEL).touch()
    (folder / "broken.zip").write_bytes(b"PK")
    with zipfile.ZipFile(folder / "another.zip", "w") as another:
        another.writestr("keras/__init__.py", "")
    base, kind = re.fullmatch(r"(.*)\.(zip|tar\.gz)", name).groups()
    top = "" if base == "no_top_folder" else "keras_adaptive-0.2.0"
    repository(tmp_path / "made" / top)
    shutil.make_archive(str(folder / base), {"zip": "zip", "tar.gz": "gztar"}[kind], tmp_path / "made")
    kernel.installed = installed
    root = folder / "keras_adaptive_source" / top
    expected = [] if installed else [f'pip install -q "{root}"']
    assert first(kernel) == (expected, [str(root), str(root / "examples")])


@pytest.mark.quick
@pytest.mark.parametrize("name", [WHEEL, "cat.jpg"])
def test_colab_asks_for_an_upload(name, kernel, tmp_path, monkeypatch, capsys):
    """As `google.colab.files.upload` does: what is uploaded lies in the working directory."""
    colab = SimpleNamespace(files=SimpleNamespace(upload=Path(name).touch))
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    if name == WHEEL:
        assert first(kernel) == ([f'pip install -q "{tmp_path}/content/{WHEEL}"'], [])
    else:
        with pytest.raises(SystemExit, match=r"^Put a zip, an sdist or a wheel of "):
            first(kernel)
    assert capsys.readouterr().out.startswith(
        "Choose a zip of the repository, an sdist or a wheel of keras_adaptive.\n"
    )


@pytest.mark.quick
def test_an_address_is_cloned_and_installed(kernel, tmp_path):
    root = tmp_path / "content/keras_adaptive_source"
    commands = [f'git clone -q "https://example.org/it" "{root}"', f'pip install -q "{root}"']
    assert first(kernel, "https://example.org/it") == (commands, [str(root), str(root / "examples")])


@pytest.mark.quick
def test_with_nothing_to_install_one_sentence_says_what_to_do(kernel, tmp_path):
    with pytest.raises(SystemExit) as error:
        first(kernel)
    folder = tmp_path / "content"
    assert (
        error.value.code == f"Put a zip, an sdist or a wheel of keras_adaptive into {folder}, and run this cell again."
    )
    assert kernel.commands == []


@pytest.mark.quick
@pytest.mark.parametrize("name", ["finetune_hub", "lecture"])
def test_what_a_wheel_lacks_is_said_in_one_sentence(name, kernel, tmp_path):
    kernel.missing = {name}
    kernel.installed = True
    first(kernel)
    with pytest.raises(SystemExit) as error:
        kernel.run("".join(cells(ROOT / "colab" / f"{name}.ipynb")[1]["source"]))
    expected = (
        f"This notebook needs the examples: put a zip of the repository into {tmp_path / 'content'}, and run all cells."
    )
    assert error.value.code == expected


@pytest.mark.quick
@pytest.mark.parametrize(
    ("missing", "device", "chosen", "expected"),
    [
        (None, None, None, "tensorflow"),
        ("tensorflow", None, None, "jax"),
        (None, "/dev/accel0", None, "jax"),
        (None, "/dev/vfio/0", None, "jax"),
        (None, "/dev/accel0", "torch", "torch"),
    ],
)
def test_the_backend(missing, device, chosen, expected, kernel, monkeypatch):
    kernel.installed, kernel.missing = True, {missing}
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda self: str(self) == device or exists(self))
    monkeypatch.setenv("KERAS_BACKEND", "to be restored")
    if chosen:
        monkeypatch.setenv("KERAS_BACKEND", chosen)
    else:
        monkeypatch.delenv("KERAS_BACKEND")
    first(kernel)
    assert os.environ["KERAS_BACKEND"] == expected


def python_without_the_package(folder):
    """Of an environment with all packages of this one but keras_adaptive."""
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    for here in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for path in Path(here).iterdir():
            if "keras_adaptive" not in path.name:
                (packages / path.name).symlink_to(path)
    return folder / "bin" / "python"


@pytest.mark.on("tensorflow")
@pytest.mark.full
def test_quickstart_runs_with_a_wheel_alone(tmp_path, as_a_user, monkeypatch):
    """The wheel is built here, and the first cell installs it, without the network."""
    pytest.importorskip("setuptools", minversion="77")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    source, folder = tmp_path / "source", tmp_path / "content"
    shutil.copytree(ROOT / "keras_adaptive", source / "keras_adaptive")
    for name in ("LICENSE", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder, source]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    python = python_without_the_package(tmp_path / "environment")
    kernel = {"argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": "Python"}
    (tmp_path / "kernels/wheel").mkdir(parents=True)
    (tmp_path / "kernels/wheel/kernel.json").write_text(json.dumps(kernel))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    path = ROOT / "colab/quickstart.ipynb"
    holds(path, outputs_of(path, folder, kernel_name="wheel"), "tensorflow")
    assert list(tmp_path.glob("environment/lib/python*/site-packages/keras_adaptive-*.dist-info"))
