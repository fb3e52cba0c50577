"""A state that is incomplete or belongs to another optimizer is refused and changes nothing."""

import json

import numpy as np
import pytest
from cases import CASES, each
from models import EVERYTHING, sequential, trained
from support import difference, state, values


def without(key):
    return lambda arrays, manifest: arrays.pop(key)


def cut(arrays, manifest):
    key = next(key for key, of_one in manifest["arrays"].items() if of_one["shape"] == [3, 4])
    arrays[key] = arrays[key][:2]


def of_another_class(arrays, manifest):
    manifest["classes"] = ["Other"]


def of_other_slots(arrays, manifest):
    for variable in manifest["variables"]:
        key = variable["kept"]["average"]
        variable["kept"]["w"] = f"{key} of w"
        arrays[f"{key} of w"], manifest["arrays"][f"{key} of w"] = arrays[key], manifest["arrays"][key]


def without_average(arrays, manifest):
    for variable in manifest["variables"]:
        del manifest["arrays"][variable["kept"].pop("average")]


def of_the_future(arrays, manifest):
    manifest["format"] = 99


def incomplete(arrays, manifest):
    del manifest["variables"][0]["path"]


def of_other_variables(arrays, manifest):
    manifest["variables"] = [
        {**variable, "path": "x", "shape": [n + 5 for n in variable["shape"]]} for variable in manifest["variables"]
    ]


def inside_a_longer_window(arrays, manifest):
    manifest["gradient_accumulation_steps"] = 3


def with_a_wider_slot(arrays, manifest):
    """In itself whole, but not of the variable's shape."""
    key = manifest["variables"][0]["kept"]["average"]
    arrays[key], manifest["arrays"][key]["shape"] = np.zeros((3, 5)), [3, 5]


BROKEN = {
    "no manifest": (without("manifest"), "its manifest is missing"),
    "no iterations": (without("iteration"), r"1 of \d+ arrays are missing, \['iteration'\]"),
    "no average": (without("0.average"), r"arrays are missing, \['0.average'\]"),
    "cut": (cut, r"not complete: .* must have shape \[3, 4\]. Received: \(2, 4\)"),
    "wider": (with_a_wider_slot, r"average of '.*kernel' must have shape \(3, 4\). Received: shape \(3, 5\)"),
    "another class": (of_another_class, "The state of Other cannot"),
    "other slots": (of_other_slots, r"\['w'\] are not on both sides"),
    "without average": (without_average, r"\['average'\] are not on both sides"),
    "a later format": (of_the_future, "must have format 1. Received: format 99"),
    "an incomplete manifest": (incomplete, r"manifest .* cannot be read"),
    "other variables": (of_other_variables, "None of the optimizer's variables"),
    "a longer window": (inside_a_longer_window, "`gradient_accumulation_steps` must be 3"),
}
OF_THE_AVERAGE = ("no average", "wider", "other slots", "without average")


@each()
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_state_is_refused_and_changes_nothing(case, kind):
    break_it, message = BROKEN[kind]
    if kind in OF_THE_AVERAGE:
        case.needs("use_ema")
    model = trained(sequential(), case.make(**EVERYTHING), 0)
    arrays = model.optimizer.get_state()
    manifest = json.loads(arrays.pop("manifest").tobytes())
    arrays = {key: np.ones_like(array) for key, array in arrays.items()} | {"manifest": None}
    break_it(arrays, manifest)
    if "manifest" in arrays:
        arrays["manifest"] = np.frombuffer(json.dumps(manifest).encode(), "uint8")
    before = state(model.optimizer)
    with pytest.raises(ValueError, match=message):
        model.optimizer.set_state(arrays)
    assert difference(list(state(model.optimizer).values()), list(before.values())) == 0.0
    assert model.optimizer.restored is None


def test_a_manifest_that_is_not_json_is_refused():
    optimizer = CASES[-1].make()
    with pytest.raises(ValueError, match=r"manifest .* cannot be read"):
        optimizer.set_state({"manifest": np.frombuffer(b"{", "uint8")})


@each(
    keras="Keras assigns what it is given up to the first that is wrong", raises=(AssertionError, pytest.fail.Exception)
)
@pytest.mark.parametrize("wrong", [[], [np.zeros((9, 9))]], ids=["short", "shape"])
def test_weights_given_by_position_must_be_complete(case, wrong):
    model = trained(sequential(), case.make(), 0)
    arrays = [np.asarray(v) for v in values(model.optimizer.variables)]
    before = state(model.optimizer)
    with pytest.raises(ValueError, match="shape"):
        model.optimizer.set_weights([array + 1 for array in arrays[:-1]] + wrong)
    assert difference(list(state(model.optimizer).values()), list(before.values())) == 0.0
