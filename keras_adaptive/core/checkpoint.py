"""The optimizer's state by name: saved, restored, carried over to other variables."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
from keras import ops

from keras_adaptive.core import backends, codecs
from keras_adaptive.core.matching import match

MANIFEST = "manifest"
FORMAT = 1
logger = logging.getLogger("keras_adaptive")


@dataclass(frozen=True)
class Restored:
    """What a call that restored the optimizer's state found; prints as a few lines.

    Attributes:
        rule: how variables were matched: "path", "order" or "name" (`keras_adaptive.core.matching.match`); "none" where
            the file has no state of the optimizer; "build" where it is kept until the optimizer is built.
        restored: paths of the variables whose state was restored.
        not_in_file: paths of the model's variables whose state begins anew.
        not_in_model: paths in the file whose state was left out.
        notes: what else was left out, in words.
        iterations: how many updates the state has seen.
    """

    rule: str
    restored: tuple[str, ...] = ()
    not_in_file: tuple[str, ...] = ()
    not_in_model: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    iterations: int = 0

    @property
    def complete(self) -> bool:
        """Whether nothing was left out on either side."""
        return self.rule != "none" and not (self.not_in_file or self.not_in_model or self.notes)

    def __str__(self):
        if self.rule == "none":
            return "The saved file holds no state of the optimizer, which begins anew."
        if self.rule == "build":
            return f"The optimizer's state after {self.iterations} updates is restored when the optimizer is built."
        number = len(self.restored) + len(self.not_in_file)
        lines = [
            f"The optimizer's state after {self.iterations} updates is restored for {len(self.restored)} of {number} "
            f"variables, matched by {self.rule}."
        ]
        if self.not_in_file:
            lines.append(f"Not in the saved state, begins anew: {', '.join(self.not_in_file)}")
        if self.not_in_model:
            lines.append(f"Not in the model, left out: {', '.join(self.not_in_model)}")
        return "\n".join([*lines, *self.notes])


@dataclass
class Saved:
    """A state as it was read, checked to be whole.

    Attributes:
        classes: the algorithm's class and those it inherits from, by name.
        accumulation_steps: over how many micro-batches a window went.
        variables: of each trained variable its path and shape.
        kept: of each trained variable the arrays by role.
        scalars: the arrays that belong to no variable, by name.
        store: all arrays under their keys, and the manifest.
    """

    classes: list[str]
    accumulation_steps: int | None
    variables: list[tuple[str, tuple[int, ...]]]
    kept: list[dict[str, np.ndarray]]
    scalars: dict[str, np.ndarray]
    store: dict[str, np.ndarray] = field(repr=False)


def state_of(optimizer) -> dict[str, np.ndarray]:
    """Every variable of the optimizer as an array under a flat key, and the manifest that says what is what."""
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

    manifest = {
        "format": FORMAT,
        "classes": _classes(optimizer),
        "gradient_accumulation_steps": optimizer.gradient_accumulation_steps,
        "variables": [
            {
                "path": state.path,
                "shape": list(state.shape),
                "dtype": state.dtype,
                "kept": {role: put(f"{state.index}.{role}", variable) for role, variable in kept(state).items()},
            }
            for state in states
        ],
        "scalars": {name: put(name, variable) for name, variable in _scalars(optimizer).items()},
        "arrays": described,
    }
    return arrays | {MANIFEST: np.frombuffer(json.dumps(manifest).encode(), dtype="uint8").copy()}


def read(source: Any) -> Saved:
    """The state in a mapping of arrays, such as what `state_of` returns or one of Keras's stores.

    Raises:
        ValueError: it was not saved by this package, or is not whole.
    """
    keys = set(source.keys())
    if MANIFEST not in keys:
        raise ValueError(
            "The state was not saved by an optimizer of keras_adaptive: it has no manifest. To go on with a training "
            "that Keras's own optimizer began, load it into Keras's class, and then call "
            f"`optimizer.continue_from(keras_optimizer)`. Received: keys {sorted(keys)[:6]}"
        )
    try:
        manifest = json.loads(np.asarray(source[MANIFEST], "uint8").tobytes())
        described = manifest["arrays"]
        variables = [(entry["path"], tuple(entry["shape"])) for entry in manifest["variables"]]
        roles = [entry["kept"] for entry in manifest["variables"]]
        classes, steps = manifest["classes"], manifest["gradient_accumulation_steps"]
        scalars, version = manifest["scalars"], manifest["format"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"The manifest of the optimizer's state cannot be read: {error!r}") from None
    if version != FORMAT:
        raise ValueError(f"The optimizer's state must have format {FORMAT}. Received: format {version}")
    missing = sorted(set(described) - keys)
    if missing:
        raise ValueError(f"The optimizer's state is not whole: {missing} are missing.")
    arrays = {key: _array(key, source[key], **of_one) for key, of_one in described.items()}
    return Saved(
        classes,
        steps,
        variables,
        [{role: arrays[key] for role, key in of_one.items()} for of_one in roles],
        {name: arrays[key] for name, key in scalars.items()},
        arrays | {MANIFEST: np.asarray(source[MANIFEST])},
    )


def restore(optimizer, saved: Saved) -> Restored:
    """Gives a built optimizer the state; everything is checked before anything is changed.

    Raises:
        ValueError: another algorithm's state, other slots, a wrong shape, or no variable in common.
    """
    states = optimizer.plan.states
    if saved.classes[0] not in _classes(optimizer) and _classes(optimizer)[0] not in saved.classes:
        raise ValueError(
            f"The state of {saved.classes[0]} cannot be restored into {type(optimizer).__name__}: its slots mean "
            "something else."
        )
    current = [(state.path, state.shape) for state in states]
    slots = [{slot.name for slot in optimizer.slots} & set(kept(state)) for state in states]
    names = {slot.name for slot in optimizer.slots}
    matching = match(saved.variables, current, lambda i, j: set(saved.kept[i]) & names == slots[j])
    if saved.variables and current and not matching.pairs:
        raise ValueError(
            "None of the optimizer's variables is in the state that was saved. "
            f"Received: a state of {[path for path, _ in saved.variables]} for {[path for path, _ in current]}"
        )
    assignments: list[tuple[Any, np.ndarray]] = []
    notes: list[str] = []
    with backends.outside_of_steps(optimizer):
        for i, j in matching.pairs:
            assignments += _of_variable(states[j], saved.kept[i], notes)
    assignments += _of_scalars(optimizer, saved, notes)
    iterations = int(saved.scalars["iteration"])
    born = {states[j]: iterations for j in matching.only_current}
    born |= {states[j]: int(saved.kept[i].get("born", 0)) for i, j in matching.pairs}

    with backends.outside_of_steps(optimizer):
        for variable, array in assignments:
            variable.assign(array)
        for state, count in born.items():
            set_born(optimizer, state, count)
    return Restored(
        matching.rule,
        tuple(states[j].path for _, j in matching.pairs),
        tuple(states[j].path for j in matching.only_current),
        tuple(saved.variables[i][0] for i in matching.only_saved),
        tuple(dict.fromkeys(notes)),
        iterations,
    )


def set_born(optimizer, state, count):
    """Notes after how many updates the optimizer began to train a variable, if it was not there from the first on.

    Its bias corrections count from there: with those of the others, Adam's first steps would be six times too large.
    """
    if "born" not in state.kept:
        if not count:
            return
        with backends.beside(state.variable):
            # Not an integer, which TensorFlow would not keep on a GPU.
            state.kept["born"] = optimizer.add_variable(
                shape=(), dtype="float32", name=f"{state.path.replace('/', '_').replace(':', '_')}_born"
            )
    state.kept["born"].assign(count)


def log(report: Restored):
    """Into the log "keras_adaptive"; a warning if anything was left out."""
    logger.log(logging.INFO if report.complete else logging.WARNING, "%s", report)


def _array(key, value, shape, dtype):
    array = np.asarray(value)
    if array.dtype.type is np.void:
        # NumPy's own files know no bfloat16 and give its bytes.
        array = array.view(getattr(ml_dtypes, dtype))
    if array.shape != tuple(shape):
        raise ValueError(
            f"The optimizer's state is not whole: {key!r} must have shape {shape}. Received: {array.shape}"
        )
    return array


def _classes(optimizer):
    names = [cls.__name__ for cls in type(optimizer).__mro__]
    return names[: names.index("AdaptiveOptimizer")]


def kept(state):
    """All of the optimizer's variables that belong to a trained one, by role."""
    return state.kept | state.accumulators


def _scalars(optimizer):
    """The optimizer's variables that belong to no trained variable, by name."""
    states = optimizer.plan.states if optimizer.built else []
    owned = {id(variable) for state in states for variable in kept(state).values()}
    return {variable.name: variable for variable in optimizer.variables if id(variable) not in owned}


def _fitting(variable, array, what):
    """The pair to assign; the array as float32 if it has a dtype that not every backend takes from NumPy."""
    if array.shape != tuple(variable.shape):
        raise ValueError(f"The saved {what} must have shape {tuple(variable.shape)}. Received: {array.shape}")
    return variable, array.astype("float32") if array.dtype.kind == "V" else array


# What may be on one side alone: a window's gradients mean nothing between two windows, `born` is made when needed, and
# the monitor measures every update anew.
_FREE = {"accumulator", "born", "counts", "statistics"}


def _of_variable(state, saved: Mapping[str, np.ndarray], notes):
    """What is assigned for one variable; slots that were saved with another `slot_dtype` as this one has them."""
    for name, (shape, codec) in state.slots.items():
        if name in saved:
            of_slot = codecs.recoded(codec, name, shape, saved)
            saved = {role: array for role, array in saved.items() if role not in (name, f"{name}_scale")} | of_slot
    # The average of bfloat16 weights is kept exactly too; that of others is exact.
    for role, other in (("average", "exact_average"), ("exact_average", "average")):
        if other in saved and (role not in saved or other == "exact_average"):
            saved = {**saved, role: saved[other]}
    current = {role: variable for role, variable in kept(state).items() if role not in _FREE}
    given = set(saved) - _FREE - {"average", "exact_average"}
    if absent := set(current) - set(saved) or given - set(current):
        raise ValueError(
            f"The state of {state.path!r} must have {sorted(current)}, as this optimizer's arguments say; "
            f"{sorted(absent)} are not on both sides. Received: {sorted(saved)}"
        )
    if "average" in saved and "average" not in current:
        notes.append("Not in the optimizer, left out: the moving average of the weights (use_ema)")
    current = {role: variable for role, variable in kept(state).items() if role != "born"}
    return [
        _fitting(variable, saved[role], f"{role} of {state.path!r}")
        for role, variable in current.items()
        if role in saved
    ]


def _of_scalars(optimizer, saved, notes):
    current = _scalars(optimizer)
    steps = optimizer.gradient_accumulation_steps
    if (saved.accumulation_steps or 1) != (steps or 1) and int(saved.scalars.get("window_position", 0)):
        raise ValueError(
            "The state was saved inside a window of micro-batches, so `gradient_accumulation_steps` must be "
            f"{saved.accumulation_steps}. Received: gradient_accumulation_steps={steps}"
        )
    window = {"window_position", "window_is_spoilt"}
    for where, absent in (
        ("saved state, begins anew", set(current) - set(saved.scalars) - window),
        ("optimizer, left out", set(saved.scalars) - set(current) - window),
    ):
        if absent:
            notes.append(f"Not in the {where}: {', '.join(sorted(absent))}")
    return [
        _fitting(variable, saved.scalars[name], name) for name, variable in current.items() if name in saved.scalars
    ]
