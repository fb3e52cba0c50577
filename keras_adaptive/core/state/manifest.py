"""The manifest: the description of a saved state, as JSON in an array of bytes."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_adaptive.core.state.reading import Part
from keras_adaptive.groups import decisions

FORMAT = 1
# The names of version 0.1.0.
RENAMED = {"as_of": "last_step", "born": "added_at"}
MOST_UPDATES = 2**31 - 2
WHAT = "The manifest of the optimizer's state"
DTYPES = (
    "bool",
    *(f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)),
    "float16",
    "bfloat16",
    "float32",
    "float64",
)


@dataclass(frozen=True)
class Manifest:
    """What was saved.

    Attributes:
        classes: names of the algorithm's class and its base classes.
        accumulation_steps: number of micro-batches of a window.
        variables: path and shape of each trained variable.
        keys: keys of the arrays of each trained variable, by role in the state.
        roles: role of each trained variable (groups/roles.py); None in a state of version 0.1.0.
        scalars: keys of the arrays for all variables together, by name.
        arrays: shape and dtype of each array, by key.
        left_out: path, shape, role and number of updates of each variable that is left out of training.
        keys_left_out: keys of the arrays of each of these variables, by role in the state.
    """

    classes: list[str]
    accumulation_steps: int | None
    variables: list[tuple[str, tuple[int, ...]]]
    keys: list[dict[str, str]]
    roles: list[dict[str, Any] | None]
    scalars: dict[str, str]
    arrays: dict[str, tuple[tuple[int, ...], str]]
    left_out: list[dict[str, Any]]
    keys_left_out: list[dict[str, str]]


def to_array(manifest: dict) -> np.ndarray:
    return np.frombuffer(json.dumps(manifest).encode(), dtype="uint8").copy()


def read(stored: Any) -> Manifest:
    """The manifest in an array of bytes.

    Raises:
        ValueError: it is not a manifest; the error names the place that cannot be read.
    """
    root = Part(WHAT, _parsed(stored))
    fields = root.mapping("format", "classes", "gradient_accumulation_steps", "variables", "scalars", "arrays")
    version = fields["format"].whole()
    if version != FORMAT:
        raise ValueError(f"The optimizer's state must have format {FORMAT}. Received: format {version}")
    classes = fields["classes"].texts()
    if not classes:
        fields["classes"].refuse("a list of at least one name")
    arrays = {key: _array(part) for key, part in fields["arrays"].mapping().items()}
    used: set[str] = set()
    variables = [part.mapping("path", "shape", "dtype", "kept") for part in fields["variables"].parts()]
    for variable in variables:
        if variable["dtype"].text() not in DTYPES and not variable["dtype"].text().startswith("float8"):
            variable["dtype"].refuse(f"one of {list(DTYPES)}")
    scalars = _keys(fields["scalars"], arrays, used)
    if "iteration" not in scalars:
        fields["scalars"].refuse("a mapping with ['iteration']")
    keys = [_keys(variable["kept"], arrays, used) for variable in variables]
    apart = [part.mapping("path", "shape", "role", "updates", "kept") for part in _left_out(fields)]
    keys_left_out = [_keys(one["kept"], arrays, used) for one in apart]
    if unused := sorted(set(arrays) - used):
        fields["arrays"].refuse(f"the arrays of `variables` and `scalars` alone; {unused[:3]} are of neither")
    steps = fields["gradient_accumulation_steps"]
    return Manifest(
        classes,
        None if steps.value is None else steps.whole(1),
        [(variable["path"].text(), variable["shape"].shape()) for variable in variables],
        keys,
        [_role(variable) for variable in variables],
        scalars,
        arrays,
        [_described(one) for one in apart],
        keys_left_out,
    )


def _left_out(fields):
    return fields["left_out"].parts() if "left_out" in fields else []


def _described(fields):
    shape = fields["shape"].shape()
    return {
        "path": fields["path"].text(),
        "shape": list(shape),
        "role": decisions.role(fields["role"], shape),
        "updates": fields["updates"].whole(0, MOST_UPDATES),
    }


def _parsed(stored):
    try:
        return json.loads(np.asarray(stored, "uint8").tobytes())
    # RecursionError: lists in lists without end.
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{WHAT} cannot be read: it must be JSON in an array of bytes. {error!r}") from None


def _role(variable):
    return decisions.role(variable["role"], variable["shape"].shape()) if "role" in variable else None


def _array(part):
    fields = part.mapping("shape", "dtype")
    dtype = fields["dtype"].text()
    if dtype not in DTYPES:
        fields["dtype"].refuse(f"one of {list(DTYPES)}")
    return fields["shape"].shape(), dtype


def _keys(part, arrays, used):
    """The keys of arrays, by name; raises if a key is used twice."""
    keys = {}
    for name, of_one in part.mapping().items():
        key = of_one.text()
        if key not in arrays or key in used:
            of_one.refuse("the key of one of `arrays` that nothing else has")
        name = RENAMED.get(name, name)
        if name in keys:
            part.refuse(f"a mapping with {name!r} once")
        used.add(key)
        keys[name] = key
    return keys
