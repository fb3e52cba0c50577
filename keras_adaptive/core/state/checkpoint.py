"""Writes and reads the optimizer's state as arrays by name."""

import json
import logging
import re
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
from keras import ops

from keras_adaptive.core.state import manifest
from keras_adaptive.core.state.left_out import LeftOut

MANIFEST = "manifest"


logger = logging.getLogger("keras_adaptive")


@dataclass(frozen=True)
class Restored:
    """What a call that restored the optimizer's state found; prints as a few lines.

    Attributes:
        rule: how variables were matched: "path", "order" or "name" (`keras_adaptive.core.state.matching.match`).
            "none": the file has no state of the optimizer. "build": the state is restored when the optimizer is built.
        restored: paths of the variables whose state was restored.
        not_in_file: paths of the model's variables whose state starts from scratch.
        not_in_model: paths in the file whose state was left out.
        notes: texts that say what else was left out.
        not_finite: what was restored with an infinity or a NaN: the training had diverged.
        iterations: the number of updates that the state has seen.
    """

    rule: str
    restored: tuple[str, ...] = ()
    not_in_file: tuple[str, ...] = ()
    not_in_model: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    iterations: int = 0
    not_finite: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether nothing was left out on either side."""
        return self.rule != "none" and not (self.not_in_file or self.not_in_model or self.notes)

    def __str__(self):
        if self.rule == "none":
            return "The saved file holds no state of the optimizer, which starts from scratch."
        if self.rule == "build":
            return f"The optimizer's state after {self.iterations} updates is restored when the optimizer is built."
        number = len(self.restored) + len(self.not_in_file)
        lines = [
            f"The optimizer's state after {self.iterations} updates is restored for {len(self.restored)} of {number} "
            f"variables, matched by {self.rule}."
        ]
        if self.not_in_file:
            lines.append(f"Not in the saved state, starts from scratch: {', '.join(self.not_in_file)}")
        if self.not_in_model:
            lines.append(f"Not in the model, left out: {', '.join(self.not_in_model)}")
        if self.not_finite:
            lines.append(f"Restored with infinities or NaN, the training had diverged: {', '.join(self.not_finite)}")
        return "\n".join([*lines, *self.notes])


@dataclass
class Saved:
    """A state as it was read, complete by its manifest.

    Attributes:
        manifest: the description of the state.
        stored: the arrays of each trained variable, by role.
        scalars: the arrays for all variables together, by name.
        store: all arrays under their keys, and the manifest.
        left_out: the state of the variables that were left out of training.
    """

    manifest: manifest.Manifest
    stored: list[dict[str, np.ndarray]]
    scalars: dict[str, np.ndarray]
    store: dict[str, np.ndarray] = field(repr=False)
    left_out: list[LeftOut] = field(default_factory=list)

    @property
    def iterations(self) -> int:
        return int(self.scalars["iteration"])


def state_of(optimizer) -> dict[str, np.ndarray]:
    """Every variable of the optimizer as an array under a flat key, and the manifest that describes them."""
    states = optimizer.plan.states if optimizer.built else []
    arrays: dict[str, np.ndarray] = {}
    described: dict[str, dict] = {}

    def put(key, variable):
        if key in arrays:
            raise ValueError(f"Two variables of the optimizer would be saved as {key!r}.")
        array = ops.convert_to_numpy(variable)
        arrays[key] = array
        described[key] = {"shape": list(array.shape), "dtype": str(array.dtype)}
        return key

    description = {
        "format": manifest.FORMAT,
        "classes": class_names(optimizer),
        "gradient_accumulation_steps": optimizer.gradient_accumulation_steps,
        "variables": [
            {
                "path": state.path,
                "shape": list(state.shape),
                "dtype": state.dtype,
                "role": state.role.stored,
                "kept": {role: put(f"{state.index}.{role}", variable) for role, variable in all_stored(state).items()},
            }
            for state in states
        ],
        "scalars": {name: put(name, variable) for name, variable in scalars_of(optimizer).items()},
        **({"left_out": _written(optimizer.left_out, put)} if optimizer.left_out else {}),
        "arrays": described,
    }
    # First, so that a truncated file still says what is missing.
    return {MANIFEST: manifest.to_array(description)} | arrays


def _written(left_out, put):
    return [
        one.described() | {"kept": {role: put(f"left_out.{i}.{role}", array) for role, array in one.stored.items()}}
        for i, one in enumerate(left_out)
    ]


def read(source: Any) -> Saved:
    """The state in a mapping of arrays, such as what `state_of` returns or one of Keras's stores.

    Raises:
        TypeError: it is not a mapping.
        ValueError: it was not saved by this package, is not complete, or cannot be read.
    """
    if not callable(getattr(source, "keys", None)):
        raise TypeError(
            "`state` must be a mapping of arrays, such as `optimizer.get_state()` or `numpy.load(path)`. "
            f"Received: state of type {type(source).__name__}"
        )
    keys = set(map(str, source.keys()))
    if MANIFEST not in keys:
        raise ValueError(_without_manifest(keys))
    read_manifest = manifest.read(_loaded(source, MANIFEST))
    missing = sorted(set(read_manifest.arrays) - keys)
    if missing:
        raise ValueError(
            f"The optimizer's state is not complete: {len(missing)} of {len(read_manifest.arrays)} arrays are "
            f"missing, {missing[:6]}. The file is cut off or damaged; load an earlier one."
        )
    arrays = {key: _array(key, _loaded(source, key), *of_one) for key, of_one in read_manifest.arrays.items()}
    return Saved(
        read_manifest,
        [{role: arrays[key] for role, key in of_one.items()} for of_one in read_manifest.keys],
        {name: arrays[key] for name, key in read_manifest.scalars.items()},
        {MANIFEST: np.array(_loaded(source, MANIFEST))} | arrays,
        [
            LeftOut(one, one["updates"], {role: arrays[key] for role, key in keys.items()})
            for one, keys in zip(read_manifest.left_out, read_manifest.keys_left_out, strict=True)
        ],
    )


def is_cut_off(store) -> bool:
    """Whether a Keras store without arrays for the optimizer comes from a file that was saved with an optimizer.

    Keras makes the group of an optimizer before it writes the arrays. If the group is missing too, the config in a
    .keras file tells. Any other file was saved without an optimizer.
    """
    path, file = getattr(store, "_h5_entry_path", None), getattr(store, "h5_file", None)
    # Not every version of Keras has it.
    has_path = getattr(store, "has_path", None) or (lambda path: file is not None and path in file)
    if path and has_path(path):
        return True
    archive = getattr(store, "archive", None)
    if archive is None or "config.json" not in archive.namelist():
        return False
    config = json.loads(archive.read("config.json"))
    return bool((config.get("compile_config") or {}).get("optimizer"))


def log(report: Restored):
    """Writes to the logger "keras_adaptive"; a warning if anything was left out or is not finite."""
    fine = report.complete and not report.not_finite
    logger.log(logging.INFO if fine else logging.WARNING, "%s", report)


def _without_manifest(keys):
    if "iteration" in keys or any(re.fullmatch(r"\d+\.\w+", key) for key in keys):
        return (
            "The optimizer's state is not complete: its manifest is missing. The file is cut off or damaged; load an "
            f"earlier one. Received: {len(keys)} arrays, {sorted(keys)[:6]}"
        )
    return (
        "The state was not saved by an optimizer of keras_adaptive: it has no manifest. If the model was saved under "
        "the policy mixed_float16, set that policy before loading it: the state then belongs to Keras's "
        "LossScaleOptimizer. To continue a training of Keras's own optimizer, load it into Keras's class, then call "
        f"`optimizer.continue_from(keras_optimizer)`. Received: keys {sorted(keys)[:6]}"
    )


def _loaded(source, key):
    """The array under a key.

    For a damaged file each kind of store raises another error: BadZipFile, zlib.error, OSError, MemoryError.
    """
    try:
        return np.asarray(source[key])
    except Exception as error:
        raise ValueError(f"{key!r} of the optimizer's state cannot be read: {error!r}") from error


def _array(key, array, shape, dtype):
    if array.dtype.type is np.void and array.dtype.itemsize == 2 and dtype == "bfloat16":
        # NumPy's own files do not know bfloat16 and return its bytes.
        array = array.view(ml_dtypes.bfloat16)
    if array.shape != shape:
        raise ValueError(
            f"The optimizer's state is not complete: {key!r} must have shape {list(shape)}. Received: {array.shape}"
        )
    floats = [name.startswith(("float", "bfloat")) for name in (dtype, str(array.dtype))]
    if str(array.dtype) != dtype and not all(floats):
        accepted = "a dtype of floats" if floats[0] else f"dtype {dtype}"
        raise ValueError(f"{key!r} of the optimizer's state must have {accepted}. Received: dtype {array.dtype}")
    return array


def class_names(optimizer):
    names = [cls.__name__ for cls in type(optimizer).__mro__]
    return names[: names.index("AdaptiveOptimizer")]


def all_stored(state):
    """All of the optimizer's variables for one trained variable, by role."""
    return state.stored | state.window


def scalars_of(optimizer):
    """The optimizer's variables that do not belong to one trained variable, by name."""
    states = optimizer.plan.states if optimizer.built else []
    owned = {id(variable) for state in states for variable in all_stored(state).values()}
    return {variable.name: variable for variable in optimizer.variables if id(variable) not in owned}
