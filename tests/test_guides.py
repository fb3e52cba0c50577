"""What the guides in examples/guides claim, row by row: recipes, and the same numbers as optax."""

import inspect
import re
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_adaptive
from keras_adaptive.schedules import recipes

GUIDES = Path(__file__).parents[1] / "examples" / "guides"


def rows(page, first):
    """The cells of the rows of a page's tables whose first cell matches."""
    text = (GUIDES / page).read_text(encoding="utf-8")
    cells = ([cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines() if line[:1] == "|")
    return [row for row in cells if re.match(first, row[0])]


# migrating.md, from optax: both columns are code

AS_OPTAX = [tuple(cell.strip("`") for cell in row) for row in rows("migrating.md", "`optax\\.")]
# In float64 all is equal but what optax computes in float32 (schedules, Adafactor, the mean of MultiSteps), and Muon,
# which divides a matrix by its norm plus 1e-8 there and plus 1e-7 here.
EXACT = 1e-12
TOLERANCES = {"schedule": 2e-6, "exponential_decay": 2e-6, "adafactor": 2e-6, "MultiSteps": 2e-6, "muon": 1e-5}
RNG = np.random.default_rng(1)
WEIGHTS = {
    "body_kernel": RNG.normal(size=(6, 4)),
    "body_bias": RNG.normal(size=4),
    "head_kernel": RNG.normal(size=(4, 5)),
}


def gradient(shape):
    """Some elements are so small that an epsilon counts."""
    return RNG.normal(size=shape) * 10.0 ** RNG.integers(-9, 1, size=shape)


GRADIENTS = [{path: gradient(weight.shape) for path, weight in WEIGHTS.items()} for _ in range(8)]


def mask(weights):
    return {path: weight.ndim >= 2 for path, weight in weights.items()}


def labels(weights):
    return {path: path.split("_")[0] for path in weights}


def by_optax(code, gradients):
    import jax
    import optax.contrib

    transformation = eval(code, {"optax": optax, "mask": mask, "labels": labels})
    weights = {path: jax.numpy.asarray(weight) for path, weight in WEIGHTS.items()}
    state = transformation.init(weights)
    for gradient in gradients:
        updates, state = transformation.update(gradient, state, weights)
        weights = optax.apply_updates(weights, updates)
    return {path: np.asarray(weight) for path, weight in weights.items()}


def by_this_package(code, gradients):
    optimizer = eval(code, {**vars(keras_adaptive), "schedules": keras.optimizers.schedules})
    variables = [keras.Variable(weight, name=path) for path, weight in WEIGHTS.items()]
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient[variable.name]) for variable in variables], variables)
    return {variable.name: keras.ops.convert_to_numpy(variable) for variable in variables}


@pytest.mark.on("jax")
def test_the_rows_of_optax_are_enough():
    named = " ".join(theirs for theirs, _ in AS_OPTAX)
    for name in ("adam", "adamw", "sgd", "rmsprop", "lion", "adagrad", "adafactor", "contrib.muon", "chain", "masked"):
        assert f"optax.{name}(" in named
    for name in ("clip_by_global_norm", "add_decayed_weights", "inject_hyperparams", "MultiSteps", "apply_if_finite"):
        assert f"optax.{name}(" in named


@pytest.mark.on("jax")
@pytest.mark.parametrize(("theirs", "ours"), AS_OPTAX)
def test_the_numbers_are_those_of_optax(theirs, ours, float64):
    pytest.importorskip("optax", reason="the guide compares with optax")
    gradients = [dict(gradient) for gradient in GRADIENTS]
    if "apply_if_finite" in theirs:
        gradients[2]["head_kernel"] = np.full((4, 5), np.nan)
    expected, found = by_optax(theirs, gradients), by_this_package(ours, gradients)
    tolerance = next((of for name, of in TOLERANCES.items() if name in theirs), EXACT)
    for path, start in WEIGHTS.items():
        moved = np.abs(expected[path] - start).max()
        assert moved > 0 or "set_to_zero" in theirs
        assert np.abs(found[path] - expected[path]).max() <= tolerance * moved


# large_batch.md: the published recipes

RECIPES = rows("large_batch.md", "`[a-z0-9]+-[a-z0-9-]+`")
BATCHES = {"up to 16384": (1, 256, 16384), "above 32768": (32769, 65536)}


@pytest.mark.quick
@pytest.mark.parametrize("row", RECIPES, ids=lambda row: "-".join(row[:2]))
def test_a_row_of_the_recipes_is_what_recipe_returns(row):
    name, batch, learning_rate, others = (cell.strip("`") for cell in row)
    for each in BATCHES.get(batch) or (int(batch),):
        assert keras_adaptive.recipe(name, each) == {"learning_rate": float(learning_rate)} | eval(f"dict({others})")


@pytest.mark.quick
def test_the_rows_are_all_recipes():
    """The error of a batch that a recipe lacks names those that it has."""
    for name in recipes._RECIPES:
        with pytest.raises(ValueError, match="is published for") as refused:
            keras_adaptive.recipe(name, 20000)
        published = set(re.findall(r"\d{3,}", str(refused.value).split("published for: ")[1])) - {"20000"}
        assert published == {
            number for row in RECIPES if row[0] == f"`{name}`" for number in re.findall(r"\d+", row[1])
        }


# choose_and_tune.md: the start values


@pytest.mark.quick
@pytest.mark.parametrize("row", rows("choose_and_tune.md", "\\[`"), ids=lambda row: row[0])
def test_the_start_values_are_the_defaults(row):
    names = re.findall(r"`(\w+)`", row[0])
    assert {getattr(keras_adaptive, name).fields["learning_rate"].default for name in names} == {float(row[1])}


# low_precision.md: bytes of state per parameter


@pytest.mark.quick
@pytest.mark.parametrize("row", rows("low_precision.md", "`[A-Z]"), ids=lambda row: row[0])
def test_the_bytes_are_those_of_a_large_matrix(row):
    for name in re.findall(r"`(\w+)`", row[0]):
        for slot_dtype, written in zip(("float32", "bfloat16", "int8"), row[1:], strict=True):
            optimizer = getattr(keras_adaptive, name)(slot_dtype=slot_dtype)
            optimizer.build([keras.Variable(np.zeros((1024, 1024), "float32"), name="kernel")])
            digits = len(written.partition(".")[2])
            assert f"{optimizer.describe().state_bytes / 2**20:.{digits}f}" == written, (name, slot_dtype)


# Blocks that need one backend: the other blocks run on each backend in test_pages.py


OF_JAX = [path.name for path in GUIDES.glob("*.md") if "needs JAX -->" in path.read_text("utf-8")]


@pytest.fixture
def no_distribution():
    yield
    keras.distribution.set_distribution(None)


@pytest.mark.full
@pytest.mark.on("jax")
@pytest.mark.parametrize(
    "page", [path.name for path in GUIDES.glob("*.md") if "needs JAX -->" in path.read_text("utf-8")]
)
def test_the_blocks_that_need_jax_run(page, tmp_path, monkeypatch, no_distribution):
    monkeypatch.chdir(tmp_path)
    text = (GUIDES / page).read_text(encoding="utf-8")
    blocks = re.findall(r"(?:<!-- not run: ([^\n]*) -->\n)?```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert "needs JAX" in [reason for reason, _ in blocks]
    namespace = {"__name__": "guide"}
    for reason, block in blocks:
        if reason in ("", "needs JAX"):
            exec(compile(block, page, "exec"), namespace)


@pytest.mark.quick
def test_schedules_are_called_with_their_arguments():
    """In the table of schedules of choose_and_tune.md."""
    found = 0
    for cell, *_ in rows("choose_and_tune.md", r"`[\w.]+\("):
        name, arguments = re.match(r"`([\w.]+)\((.*)\)`", cell).groups()
        owner = keras if name.startswith("keras.") else keras_adaptive
        for part in name.removeprefix("keras.").split("."):
            owner = getattr(owner, part)
        parameters = inspect.signature(owner).parameters
        for argument in arguments.split(", "):
            given, _, default = argument.partition("=")
            assert given in parameters, cell
            assert not default or float(default) == parameters[given].default, cell
        found += 1
    assert found >= 6


@pytest.mark.full
@pytest.mark.on("torch")
@pytest.mark.parametrize("row", rows("fine_tune.md", "`[A-Z]\\w+\\d`"), ids=lambda row: row[0])
def test_the_levels_of_the_models_of_keras(row):
    name, levels, smallest = row
    model = getattr(keras.applications, name.strip("`"))(weights=None)
    groups = keras_adaptive.layerwise_decay(model, 0.8)
    assert len(groups) == int(levels)
    assert f"{groups[0].learning_rate_multiplier:.2g}" == smallest
