"""Files that version 0.1.0 saved load, and training goes on to the weights that 0.1.0 reached."""

from pathlib import Path

import keras
import numpy as np
import pytest
from cases import QUICKEST
from files_of_0_1_0 import ROWS, STEPS, fresh, steps, weights
from support import difference

FOLDER = Path(__file__).parent / "data" / "0.1.0"
# The files were made on TensorFlow's CPU. Another backend or compiler sums in another order, a few units in the last
# place of float32 a step. Newton-Schulz, QR and roots of matrices enlarge that. A weight in bfloat16 that is rounded up
# there may be rounded down here: one spacing, 2^-8 for weights in [0.5, 1).
TOLERANCES = {"adam_ema_bfloat16": 2.0**-8, "muon": 1e-5, "normuon": 1e-5, "soap": 1e-5, "shampoo": 1e-5}
# Those whose config must say what was decided, one of each kind of file, and one whose rows have dates on TensorFlow;
# torch, which compiles nothing, runs all.
IN_EVERY_RUN = {"adam_groups-keras", "adam_extended-h5", "adam_accumulation-npz", "muon-keras", "rmsprop_rows-keras"}
FILES = [
    pytest.param(
        name,
        kind,
        id=f"{name}-{kind}",
        marks=[] if QUICKEST or f"{name}-{kind}" in IN_EVERY_RUN else [pytest.mark.full],
    )
    for name, row in ROWS.items()
    for kind in row.files
]


def loaded(name, kind):
    if kind == "keras":
        return keras.models.load_model(FOLDER / f"{name}.keras")
    model = fresh(name)
    if ROWS[name].unfrozen:
        model.layers[0].trainable = True
        model.optimizer.extend(model.trainable_variables)
        model.compile(optimizer=model.optimizer, loss="mse")
    if kind == "h5":
        model.load_weights(FOLDER / f"{name}.weights.h5")
        return model
    with np.load(FOLDER / f"{name}.npz") as file:
        for place, variable in enumerate(model.trainable_variables):
            variable.assign(file[f"weight {place}"])
        model.optimizer.set_state({key: file[key] for key in file.files if not key.startswith("weight")})
    return model


@pytest.mark.parametrize(("name", "kind"), FILES)
def test_training_from_a_file_of_0_1_0_reaches_the_same_weights(name, kind):
    model = loaded(name, kind)
    assert model.optimizer.restored.complete
    with np.load(FOLDER / f"{name}-end.npz") as end:
        expected = list(end.values())
    begin = weights(model)
    steps(model, ROWS[name].before, ROWS[name].before + STEPS)
    assert difference(weights(model), expected) <= TOLERANCES.get(name, 1e-6)
    # It moved by much more than is tolerated.
    assert np.mean(np.abs(begin[0] - expected[0])) > 2 * TOLERANCES.get(name, 1e-6)


# The gradient of rows alone, and so their dates, are TensorFlow's.
NAMED = ["adam_int8_embedding", "adam_mini", pytest.param("rmsprop_rows", marks=pytest.mark.on("tensorflow"))]


@pytest.mark.parametrize("kind", ["keras", "npz"])
@pytest.mark.parametrize("name", NAMED)
def test_slots_have_the_form_that_names_decided(name, kind):
    """For layers with misleading names: all arrays of 0.1.0, not those of a new optimizer."""

    def form(arrays):
        return {key: (np.shape(one), one.dtype) for key, one in arrays.items() if key.split(".")[0].isdigit()}

    with np.load(FOLDER / f"{name}.npz") as file:
        saved = form({key.replace(".as_of", ".last_step"): one for key, one in dict(file).items()})
    assert form(loaded(name, kind).optimizer.get_state()) == saved
    assert form(fresh(name).optimizer.get_state()) != saved
