"""The state of variables that are left out of training for now, such as those of a frozen layer.

It is stored as arrays, which take no device memory and are not part of a step. When the variable is trained again, its
slots continue from them, and its bias corrections from the number of updates that the variable has seen.
"""

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from keras import ops

from keras_adaptive.core.options import STAGES
from keras_adaptive.core.state.matching import match
from keras_adaptive.core.state.states import path
from keras_adaptive.core.step import scheduled

# What belongs to the last update and not to the variable, or is counted from scratch.
_PASSING = {"added_at", *(role for stage in STAGES if not stage.lasting for role in stage.roles)}


@dataclass(frozen=True)
class LeftOut:
    """One variable that is not trained now.

    Attributes:
        decision: its "path", "shape" and "role", and "groups" and "decays" if these are known.
        updates: the number of updates that it has seen.
        stored: its arrays, by role.
        variable: returns the variable, or None if it no longer exists or is not known.
    """

    decision: Mapping[str, Any]
    updates: int
    stored: Mapping[str, np.ndarray] = field(repr=False)
    variable: Callable[[], Any] = lambda: None

    @property
    def place(self) -> tuple[str, tuple[int, ...]]:
        return self.decision["path"], tuple(self.decision["shape"])

    @property
    def stored_bytes(self) -> int:
        return sum(array.nbytes for array in self.stored.values())

    def described(self) -> dict[str, Any]:
        """Its entry in the manifest, without its arrays."""
        return {name: self.decision[name] for name in ("path", "shape", "role")} | {"updates": self.updates}


def of_state(optimizer, state) -> LeftOut:
    """The stored state of a variable that was trained until now."""
    decision = optimizer._decided[state.index] | {"role": optimizer._roles[state.index]["role"]}
    iterations, added = int(ops.convert_to_numpy(optimizer.iterations)), state.stored.get("added_at")
    updates = iterations - (0 if added is None else int(ops.convert_to_numpy(added)))
    stored = scheduled.of_all(optimizer, state) | state.stored
    arrays = {role: ops.convert_to_numpy(variable) for role, variable in stored.items()}
    return LeftOut(decision, updates, lasting(arrays), weakref.ref(state.variable))


def found(optimizer, variables) -> dict[Any, LeftOut]:
    """What is stored for these variables, by their keys: found by identity if that is known, else by path and shape."""
    here = {optimizer._var_key(own): one for one in optimizer.left_out if (own := one.variable()) is not None}
    keys = [optimizer._var_key(variable) for variable in variables]
    pairs = {key: here[key] for key in keys if key in here}
    from_file = [one for one in optimizer.left_out if one.variable() is None]
    others = [place for place, key in enumerate(keys) if key not in pairs]
    places = [(path(variables[place]), tuple(variables[place].shape)) for place in others]
    matched = match([one.place for one in from_file], places).pairs
    return pairs | {keys[others[new]]: from_file[old] for old, new in matched}


def lasting(arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Copies of the arrays that are still valid after other updates."""
    return {role: np.array(array) for role, array in arrays.items() if role not in _PASSING}
