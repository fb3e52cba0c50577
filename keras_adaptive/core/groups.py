"""Which variable gets which hyperparameters: decided once, at build, by the patterns of the groups."""

import difflib
import re
from collections.abc import Sequence
from typing import Any

import keras

from keras_adaptive.core import checks
from keras_adaptive.core.codecs import CODECS
from keras_adaptive.core.matching import match


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Group:
    """Variables that are trained with other hyperparameters than the rest.

    An optimizer takes `groups=[Group(...), ...]`. A variable belongs to the first group whose pattern is found in its
    path (`re.search`); a variable of no group has the optimizer's own hyperparameters. That is decided when the
    optimizer is built, shown by `optimizer.describe()`, and saved with it.

    Args:
        pattern: regular expression that is searched in a variable's path, such as "embedding" or "/bias$".
        learning_rate_multiplier: what the optimizer's learning rate is multiplied by, at least 0. Default 1.0.
        weight_decay: a number of at least 0 or a LearningRateSchedule; 0.0 for none. Default None: the optimizer's.
        max_ndim: how many axes a variable of the group has at most: 1 for vectors and scalars. Default None: any
            number.
        optional: whether it may match nothing; otherwise that is an error, since it is mostly a misspelt pattern.
            Default False.
        slot_dtype: what the slots of these variables are stored in, embeddings and small ones too: "float32",
            "bfloat16" or "int8". Default None: as the optimizer's `slot_dtype` says.
        **hyperparameters: any of the algorithm's own, such as beta_2=0.99, by name.

    Raises:
        ValueError, TypeError: for an argument out of range or of the wrong kind; when the optimizer is made, for a
            hyperparameter that its algorithm does not have or accept; when it is built, for a group without variables.

    Example:

    >>> import keras_adaptive
    >>> groups = [Group("bias$", weight_decay=0.0), Group("embeddings$", 0.1, beta_2=0.99)]
    >>> optimizer = keras_adaptive.Adam(weight_decay=0.01, groups=groups)
    """

    def __init__(
        self,
        pattern,
        learning_rate_multiplier=1.0,
        weight_decay=None,
        max_ndim=None,
        optional=False,
        slot_dtype=None,
        **hyperparameters,
    ):
        self.pattern = checks.pattern("pattern", pattern)
        self.learning_rate_multiplier = checks.nonnegative("learning_rate_multiplier", learning_rate_multiplier)
        self.weight_decay = checks.optional(checks.number_or_schedule)("weight_decay", weight_decay)
        self.max_ndim = checks.optional(checks.natural)("max_ndim", max_ndim)
        self.optional = checks.flag("optional", optional)
        self.slot_dtype = checks.optional(checks.one_of(*CODECS))("slot_dtype", slot_dtype)
        self.hyperparameters = hyperparameters

    def matches(self, path: str, ndim: int) -> bool:
        """Whether a variable of that path and that many axes fits; another group may come before this one."""
        return re.search(self.pattern, path) is not None and (self.max_ndim is None or ndim <= self.max_ndim)

    def get_config(self):
        """All arguments, for `from_config`."""
        return {
            "pattern": self.pattern,
            "learning_rate_multiplier": self.learning_rate_multiplier,
            "weight_decay": serialized(self.weight_decay),
            "max_ndim": self.max_ndim,
            "optional": self.optional,
            "slot_dtype": self.slot_dtype,
            **self.hyperparameters,
        }

    @classmethod
    def from_config(cls, config):
        """The group with these arguments."""
        decay = config["weight_decay"]
        decay = keras.saving.deserialize_keras_object(decay) if isinstance(decay, dict) else decay
        return cls(**{**config, "weight_decay": decay})

    def __eq__(self, other):
        return isinstance(other, Group) and self.get_config() == other.get_config()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self):
        given = [f"{name}={value!r}" for name, value in self.get_config().items() if name != "pattern"]
        return f"Group({self.pattern!r}, {', '.join(given)})"


def no_decay_on_vectors() -> Group:
    """The group of all variables with at most one axis (biases, scales and offsets of norms), without weight decay.

    Example:

    >>> import keras_adaptive
    >>> optimizer = keras_adaptive.Adam(weight_decay=0.01, groups=[no_decay_on_vectors()])
    >>> optimizer.build([keras.Variable([[1.0]], name="kernel"), keras.Variable([1.0], name="bias")])
    >>> [row.weight_decay for row in optimizer.describe()]
    [0.01, 0.0]
    """
    return Group("", weight_decay=0.0, max_ndim=1)


def serialized(value):
    """A number or None as it is, a schedule as Keras writes it down."""
    return keras.saving.serialize_keras_object(value) if checks.is_schedule(value) else value


def hyperparameters(optimizer, group: Group | None) -> dict[str, Any]:
    """The algorithm's hyperparameters as they are for the variables of a group; raises for what it does not accept."""
    own = {name: getattr(optimizer, name) for name in optimizer.hyperparameters}
    if group is None:
        return own
    for name, value in group.hyperparameters.items():
        if name not in own:
            raise TypeError(
                f"{type(optimizer).__name__} has no hyperparameter `{name}`; a group accepts {sorted(own)}. "
                f"Received: {name}={value!r} in {group}"
            )
        if name in optimizer.common_hyperparameters:
            raise ValueError(
                f"`{name}` of {type(optimizer).__name__} holds for all variables together and must not be in a group. "
                f"Received: {name}={value!r} in {group}"
            )
    return own | {name: optimizer.hyperparameters[name](name, x) for name, x in group.hyperparameters.items()}


def decide(groups: Sequence[Group], variables: Sequence[dict], known: Sequence[dict] | None) -> list[dict]:
    """The group of each variable.

    Args:
        groups: in the order in which they are tried.
        variables: for each its "path", "shape", "group": None, and "decays": whether it was not excluded.
        known: the same, as it was decided before the optimizer was saved, or None. It stands for the variables that
            are found in it, since loading may change a variable's path.

    Returns:
        The same as `variables`, with "group" the group's index where there is one.

    Raises:
        ValueError: for a group that is not optional and has no variable, with the nearest paths.
    """
    decided = [variable | {"group": _first(groups, variable)} for variable in variables]
    known = known or []
    saved, current = ([(v["path"], tuple(v["shape"])) for v in side] for side in (known, variables))
    for old, new in match(saved, current).pairs:
        decided[new] |= {name: known[old][name] for name in ("group", "decays")}
    for index, group in enumerate(groups):
        if not group.optional and all(variable["group"] != index for variable in decided):
            _refuse(group, variables)
    return decided


def _first(groups, variable):
    return next((i for i, group in enumerate(groups) if group.matches(variable["path"], len(variable["shape"]))), None)


def _refuse(group, variables):
    taken = [v["path"] for v in variables if group.matches(v["path"], len(v["shape"]))]
    paths = taken or nearest(group.pattern, [v["path"] for v in variables])
    why = "are all in earlier groups" if taken else "are the nearest and do not match"
    raise ValueError(
        f"A group's `pattern` must be found in the path of a variable that no earlier group has; {paths} {why}. "
        f"Received: pattern={group.pattern!r}, max_ndim={group.max_ndim}"
    )


def nearest(pattern: str, paths: Sequence[str], most: int = 3) -> list[str]:
    """The paths that a misspelt pattern may have meant."""
    plain = re.sub(r"[^\w/]", "", pattern)

    def likeness(path):
        parts = [path, *path.split("/")]
        return max(difflib.SequenceMatcher(None, plain, part).ratio() for part in parts)

    return sorted(paths, key=likeness, reverse=True)[:most]
