"""What the package promises about itself: its names, what importing it costs, and where things may be written."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import keras
import pytest
from cases import ROWS, each

import keras_adaptive
from keras_adaptive.core.optimizer import AdaptiveOptimizer

ROOT = Path(__file__).parents[1]
PACKAGE = Path(keras_adaptive.__file__).parent
FRAMEWORKS = {"tensorflow", "jax", "jaxlib", "torch"}
# What would make a rule anything but a function of tensors.
IMPURE = re.compile("assign|cast|dtype|isinstance|device|strategy|replica|sparse|IndexedSlices|backend")
# What every other part of the package may import: the core, and the groups that it is configured with.
BASE = ("core", "groups")


def source_files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.py"))


def imported(tree):
    """The top-level names of all that a module imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


def fresh(code, **environment):
    """Runs the code in a separate process, with the package that is tested here."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=PACKAGE.parent,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def descendants(cls):
    return {cls}.union(*map(descendants, cls.__subclasses__()))


# Names


@pytest.mark.quick
def test_only_the_public_names_are_visible():
    there = {name for name, value in vars(keras_adaptive).items() if callable(value) and not name.startswith("_")}
    assert there == set(keras_adaptive.__all__)
    stems = {Path(path).stem for path in source_files(PACKAGE / "optimizers")}
    files = {f"keras_adaptive.optimizers.{stem}" for stem in stems if not stem.startswith("_")}
    defined = {cls for cls in descendants(AdaptiveOptimizer) if cls.__module__ in files}
    assert defined == {case.optimizer for case in ROWS}
    assert defined <= {getattr(keras_adaptive, name) for name in keras_adaptive.__all__}


@pytest.mark.quick
@each()
def test_keras_knows_the_class_under_the_name_of_the_package(case):
    name = f"keras_adaptive>{case.optimizer.__name__}"
    assert keras.saving.get_registered_name(case.optimizer) == name
    assert keras.saving.get_registered_object(name) is case.optimizer


@pytest.mark.quick
def test_all_version_numbers_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == keras_adaptive.__version__
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest[1] == keras_adaptive.__version__
    cited = re.search(r"^version: (\S+)", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert cited[1] == keras_adaptive.__version__


# What is published

# What earlier runs leave in a checkout.
LEFT = ("build/lib/keras_adaptive/old.py", "tests/__pycache__/old.cpython-311.pyc", "examples/old.png", "dist/old.whl")


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The names of all files in the repository, in the sdist, and in the wheel built from the sdist; and the wheel."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("only a checkout can say which files an sdist must have")
    folder = tmp_path_factory.mktemp("published")
    tracked = {name for name in listed.stdout.splitlines() if (ROOT / name).exists()}
    for name in (*tracked, *LEFT):
        (folder / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name if name in tracked else ROOT / "LICENSE", folder / "checkout" / name)

    def built(what, source):
        code = f"from setuptools import build_meta; build_meta.build_{what}({str(folder)!r})"
        subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True, timeout=300)

    built("sdist", folder / "checkout")
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as sdist:
        sdist.extractall(folder / "sdist", filter="data")
    (source,) = (folder / "sdist").iterdir()
    files = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    built("wheel", source)
    (archive,) = folder.glob("*.whl")
    with zipfile.ZipFile(archive) as wheel:
        return tracked, files, set(wheel.namelist()), archive


@pytest.mark.on("tensorflow")
def test_the_sdist_has_every_file_of_the_repository(published):
    tracked, sdist, *_ = published
    written = {name for name in sdist if name.startswith("keras_adaptive.egg-info/")} | {"PKG-INFO", "setup.cfg"}
    assert sdist - written == tracked


@pytest.mark.on("tensorflow")
def test_the_wheel_has_the_package_alone(published):
    """With its types and what `compare` reads."""
    tracked, _, wheel, _ = published
    endings = ("py", "pyi", "json", "xz", "typed")
    expected = {name for name in tracked if name.startswith("keras_adaptive/") and name.split(".")[-1] in endings}
    assert {name for name in wheel if ".dist-info/" not in name} == expected
    assert {"keras_adaptive/py.typed", "keras_adaptive/__init__.pyi", "keras_adaptive/compare/points.json"} < wheel
    assert any(name.startswith("keras_adaptive/compare/results/") for name in wheel)


@pytest.mark.on("tensorflow")
@pytest.mark.parametrize("name", ["bug", "algorithm", "question"])
def test_a_form_for_issues_is_one(name):
    """The rules that a form must follow to be shown at all."""
    import yaml

    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml").read_text(encoding="utf-8"))
    assert form.keys() == {"name", "description", "labels", "body"}
    ids = [field["id"] for field in form["body"]]
    assert len(ids) == len(set(ids))
    for field in form["body"]:
        assert field.keys() <= {"type", "id", "attributes", "validations"}
        assert field["type"] in ("input", "textarea", "dropdown", "checkboxes")
        assert field["attributes"]["label"]
        assert ("options" in field["attributes"]) == (field["type"] in ("dropdown", "checkboxes"))


@pytest.mark.on("tensorflow")
def test_the_other_files_for_people_are_valid():
    import yaml

    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors", "version", "license"} <= cited.keys()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (cited["license"], cited["keywords"]) == (project["license"], project["keywords"][: len(cited["keywords"])])
    config = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml").read_text(encoding="utf-8"))
    assert config == {"blank_issues_enabled": True}


# What somebody runs who has the wheel alone: a wheel can be imported without being unpacked.
OF_A_USER = """
import sys
sys.path.insert(0, sys.argv[1])
import keras, keras_adaptive
assert keras_adaptive.__file__.startswith(sys.argv[1])
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
model.compile(optimizer=keras_adaptive.Adam(0.01), loss="mse")
losses = model.fit(keras.ops.ones((8, 4)), keras.ops.ones((8, 3)), epochs=3, verbose=0).history["loss"]
assert losses[2] < losses[0]
"""


@pytest.mark.full
@pytest.mark.on("torch")
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_the_wheel_trains_on_each_backend(published, tmp_path, backend):
    environment = {**os.environ, "KERAS_BACKEND": backend}
    code = [sys.executable, "-c", OF_A_USER, str(published[-1])]
    done = subprocess.run(code, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


# Where a backend may be imported, and what a rule may hold


@pytest.mark.quick
@pytest.mark.parametrize("path", source_files(PACKAGE))
def test_only_the_folders_of_backends_import_a_backend(path):
    found = FRAMEWORKS & set(imported(ast.parse((PACKAGE / path).read_text(encoding="utf-8"))))
    assert not found or path.startswith(("core/backends/", "bench/backends/", "bench/compilers/", "compare/backends/"))
    assert found <= {Path(path).stem.split("_")[0]}


@pytest.mark.quick
@pytest.mark.parametrize("path", [f"{folder}/{p}" for folder in BASE for p in source_files(PACKAGE / folder)])
def test_the_core_and_the_groups_import_nothing_above_them(path):
    tree = ast.parse((PACKAGE / path).read_text(encoding="utf-8"))
    modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    modules += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    ours = [module for module in modules if module.split(".")[0] == "keras_adaptive"]
    assert all(module.split(".")[1] in BASE for module in ours)


def imports_of_ours():
    """By module, the modules of the package that it imports, wherever in it."""
    modules = {}
    for path in source_files(PACKAGE):
        parts = ["keras_adaptive", *Path(path).with_suffix("").parts]
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = PACKAGE / path
    for module, path in modules.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("keras_adaptive"):
                full = [f"{node.module}.{alias.name}" for alias in node.names]
                found |= {name if name in modules else node.module for name in full}
        yield module, found & set(modules)


@pytest.mark.quick
def test_imports_have_no_circle():
    """What imports nothing of the rest is taken away until nothing is left."""
    rest = dict(imports_of_ours())
    assert len(rest) > 100
    while leaves := [module for module, found in rest.items() if not found & set(rest)]:
        rest = {module: found for module, found in rest.items() if module not in leaves}
    assert not rest


@pytest.mark.quick
@pytest.mark.parametrize("path", source_files(PACKAGE))
def test_no_file_is_long(path):
    assert len((PACKAGE / path).read_text(encoding="utf-8").splitlines()) <= 350


def imported_at_once(path):
    """The top-level names that are imported as the file is read, by it or by another of the tests' files."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = set(imported(ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])))
    ours = [path.parent / f"{name}.py" for name in names if (path.parent / f"{name}.py").exists()]
    return names.union(*map(imported_at_once, ours))


@pytest.mark.quick
@pytest.mark.parametrize("path", [path for path in source_files(ROOT / "tests") if Path(path).name.startswith("test_")])
def test_every_test_can_be_collected_without_its_backend(path):
    """Where TensorFlow is missing, a file that imports it as it is read would fail as a whole."""
    assert not FRAMEWORKS & imported_at_once(ROOT / "tests" / path)


@pytest.mark.quick
@pytest.mark.parametrize("path", [path for path in source_files(PACKAGE / "optimizers") if path[0] != "_"])
def test_rules_are_pure(path):
    tree = ast.parse((PACKAGE / "optimizers" / path).read_text(encoding="utf-8"))
    rules = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "rule"]
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert len(rules) == len(classes) == 1
    for node in (node for rule in rules for node in ast.walk(rule)):
        names = (getattr(node, "id", ""), getattr(node, "attr", ""))
        assert not any(IMPURE.search(name) for name in names), names
        assert not isinstance(getattr(node, "ctx", None), ast.Store) or isinstance(node, ast.Name | ast.Tuple)


# Importing


def test_importing_the_package_imports_only_what_keras_did():
    code = """
import sys, keras
before = set(sys.modules)
import keras_adaptive
assert not any(name.startswith("keras_adaptive.") and "bench" in name for name in sys.modules)
print(sorted({name.split(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))
"""
    done = fresh(code)
    assert done.stdout.splitlines()[-1:] == ["['keras_adaptive']"], done.stdout + done.stderr


@pytest.mark.on("jax")
def test_the_package_works_without_tensorflow():
    code = """
import sys
class WithoutTensorFlow:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, *arguments):
        return None if name.split(".")[0] == "tensorflow" else self.finder.find_spec(name, *arguments)
    def __getattr__(self, name):
        return getattr(self.finder, name)
sys.meta_path[:] = map(WithoutTensorFlow, sys.meta_path)
import keras, keras_adaptive, numpy
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
model.compile(optimizer=keras_adaptive.%s(), loss="mse")
model.fit(numpy.ones((4, 3)), numpy.ones((4, 1)), verbose=0)
print(int(keras.ops.convert_to_numpy(model.optimizer.iterations)), "tensorflow" in sys.modules)
"""
    done = fresh(code % ROWS[-1].optimizer.__name__)
    assert done.stdout.splitlines()[-1:] == ["1 False"], done.stdout + done.stderr


def test_a_backend_that_cannot_train_is_refused():
    done = fresh("import keras_adaptive", KERAS_BACKEND="numpy")
    assert done.returncode == 1
    error = done.stderr.splitlines()[-1]
    assert error.startswith("ImportError: ")
    assert "KERAS_BACKEND='numpy'" in error
    assert all(name in error for name in ("tensorflow", "jax", "torch"))


@pytest.mark.quick
@pytest.mark.parametrize(
    ("module", "name", "said"),
    [
        (keras_adaptive, "Ftrl", "keras_adaptive has no Ftrl; it is keras.optimizers.Ftrl"),
        (keras_adaptive.schedules, "CosineDecay", "keras.optimizers.schedules.CosineDecay"),
        (keras_adaptive, "Adamm", "module 'keras_adaptive' has no attribute 'Adamm'"),
        (keras_adaptive.schedules, "Cosine", "module 'keras_adaptive.schedules' has no attribute 'Cosine'"),
    ],
)
def test_names_of_keras_alone_are_found_there(module, name, said):
    """Where somebody replaces `keras.optimizers` by `keras_adaptive` everywhere."""
    with pytest.raises(AttributeError, match=re.escape(said)):
        getattr(module, name)
