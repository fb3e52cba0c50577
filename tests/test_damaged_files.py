"""Randomly damaged states: each is refused without a change, or is another valid state."""

import io
import json
import traceback

import numpy as np
import pytest
from test_refused_state import JUNK, bits, filled, places, replaced

DAMAGES = 300
OPTIONS = {"use_ema": True, "gradient_accumulation_steps": 2, "skip_nonfinite": True, "loss_scale_factor": "dynamic"}
DTYPES = ["float16", "float64", "int8", "int64", "bool", "complex64", "U3", "object"]


def flipped(data, random, most=4):
    """The bytes with one to `most` bits turned over."""
    data = bytearray(data)
    for _ in range(random.integers(1, most + 1)):
        if data:
            data[random.integers(len(data))] ^= 1 << random.integers(8)
    return bytes(data)


def damaged(arrays, random):
    """A mapping of arrays, or bytes of an .npz file, in which something is wrong; and what, in a word."""
    arrays = {key: np.array(array) for key, array in arrays.items()}
    key = sorted(arrays)[random.integers(len(arrays))]
    kind = ["bits", "dtype", "shape", "missing", "extra", "manifest", "truncated", "bits of the file"][
        random.integers(8)
    ]
    array = arrays[key]
    if kind == "bits":
        arrays[key] = np.frombuffer(flipped(array.tobytes(), random), array.dtype).reshape(array.shape)
    elif kind == "dtype":
        arrays[key] = array.astype(DTYPES[random.integers(len(DTYPES))])
    elif kind == "shape":
        arrays[key] = [array[None], array.reshape(-1)[:-1], np.zeros((2, 3), array.dtype)][random.integers(3)]
    elif kind == "missing":
        del arrays[key]
    elif kind == "extra":
        arrays[f"{key} more"] = array
    elif kind == "manifest":
        manifest = json.loads(array.tobytes()) if key == "manifest" else json.loads(arrays["manifest"].tobytes())
        of_all = list(places(manifest))
        broken = replaced(manifest, of_all[random.integers(len(of_all))], JUNK[random.integers(len(JUNK))])
        arrays["manifest"] = np.frombuffer(json.dumps(broken).encode(), "uint8")
    else:
        file = io.BytesIO()
        np.savez(file, **arrays)
        data = file.getvalue()
        cut = data[: random.integers(len(data))] if kind == "truncated" else flipped(data, random)
        return cut, kind
    return arrays, kind


def loads(optimizer, given):
    if isinstance(given, dict):
        optimizer.set_state(given)
        return
    with np.load(io.BytesIO(given)) as file:
        optimizer.set_state(file)


def is_ours(error):
    """Whether it was raised while the optimizer read the file, and not when NumPy opened it."""
    return "set_state" in [frame.name for frame in traceback.extract_tb(error.__traceback__)]


@pytest.mark.full
def test_randomly_damaged_states_are_refused_or_are_valid_states():
    model, random = filled(**OPTIONS), np.random.default_rng(90)
    optimizer, arrays, refused, loaded = model.optimizer, model.optimizer.get_state(), 0, []
    names, before = len(optimizer.variables), bits(model)
    for _ in range(DAMAGES):
        given, kind = damaged(arrays, random)
        error = None
        try:
            loads(optimizer, given)
        except Exception as raised:
            error = raised
        if error is None:
            # Read again what it is now: what loads is a state that this optimizer can have.
            again = optimizer.get_state()
            optimizer.set_state(again)
            loaded.append(kind)
            for state in optimizer.plan.states:
                if "added_at" in state.stored and len(optimizer.variables) > names:
                    optimizer._untrack_variable(state.stored.pop("added_at"))
            optimizer.set_state(arrays)
        else:
            assert isinstance(error, ValueError) or not is_ours(error), (kind, error)
            refused += 1
        assert bits(model) == before, kind
    assert refused > DAMAGES / 2
    # A wrong dtype is one of floats, whose values are the same; keys that nobody asks for do no harm.
    assert set(loaded) <= {"bits", "dtype", "extra", "manifest", "bits of the file", "shape"}


@pytest.mark.full
@pytest.mark.parametrize("seed", range(3))
def test_randomly_damaged_weights_files_change_no_state_unless_they_load(seed, tmp_path):
    """Keras opens the file and reads the layers. The optimizer's state is loaded completely or not at all."""
    model, random = filled(**OPTIONS), np.random.default_rng(seed)
    path = tmp_path / "all.weights.h5"
    model.save_weights(path)
    data, number = path.read_bytes(), len(model.optimizer.variables)
    before = bits(model)[-number:]
    for _ in range(20):
        cut = random.integers(2)
        path.write_bytes(data[: random.integers(len(data))] if cut else flipped(data, random))
        try:
            model.load_weights(path)
        except Exception:
            assert bits(model)[-number:] == before
        else:
            assert not cut
            complete = model.optimizer.restored.complete
            model.optimizer.set_state(model.optimizer.get_state())
            path.write_bytes(data)
            if not complete:
                # A bit of a name was flipped: that variable starts again, and the number of its update is stored.
                model = filled(**OPTIONS)
            model.load_weights(path)
            assert bits(model)[-number:] == before
