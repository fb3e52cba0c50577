"""Variables that are trained with other hyperparameters than the rest."""

import difflib
import re
from typing import Any

import keras

from keras_adaptive.core import checks
from keras_adaptive.core.backends import running as backends
from keras_adaptive.core.schedule import serialized
from keras_adaptive.core.state.codecs import CODECS
from keras_adaptive.groups.layers import KINDS

# What a group can set in addition to the algorithm's hyperparameters.
SETTINGS = ("learning_rate_multiplier", "weight_decay", "slot_dtype", "role", "inputs", "outputs", "batch")


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Group:
    """Variables that are trained with other hyperparameters than the rest.

    An optimizer takes `groups=[Group(...), ...]`. A variable belongs to every group whose pattern is found in its path
    (`re.search`). The arguments of its groups combine; if two groups give the same argument, the first one in the list
    wins. Arguments that no group gives are those of the optimizer. All this is decided when the optimizer is built,
    shown by `optimizer.describe()`, and saved with it. `exclude_from_weight_decay` holds whatever a group says.

    Args:
        pattern: a regular expression that is searched in a variable's path, such as "embedding" or "/bias$".
        learning_rate_multiplier: a factor of the optimizer's learning rate, at least 0. Default None: not set by this
            group; if no group sets it, 1.0.
        weight_decay: a number of at least 0 or a LearningRateSchedule; 0.0 for none. Default None: not set by this
            group; if no group sets it, the optimizer's.
        max_ndim: the largest number of axes of a variable of the group: 1 for vectors and scalars. Default None: no
            limit.
        optional: whether the group may match nothing. If False, that is an error, since the pattern is probably
            misspelt. If no group of the list matches anything, that is always an error. Default False.
        slot_dtype: the dtype in which the slots of these variables are stored, also of embeddings and small variables;
            "float32", "bfloat16" or "int8". Default None: not set by this group; if no group sets it, the optimizer's
            `slot_dtype`.
        exclusive: whether its variables belong to no later group of the list. Default False.
        role: what these variables are: "embedding", "output", "bias", "norm", "kernel" or "other". Default None: the
            layers that own them decide.
        inputs: a tuple of the axes that are a layer's inputs, the rows of its matrix. Negative axes are counted from
            the end. Default None: the layers decide, or the axes that `outputs` and `batch` leave.
        outputs: a tuple of the axes that are a layer's outputs, the columns of its matrix. Default None: as for
            `inputs`.
        batch: a tuple of the axes along which each place has a separate matrix, such as experts. Default None: the
            layers decide, or no axis if `inputs` or `outputs` is given.
        **hyperparameters: hyperparameters of the algorithm by name, such as beta_2=0.99, or a schedule where the
            algorithm accepts one.

    Raises:
        ValueError, TypeError: for an argument that is out of range, of the wrong kind or misspelt. When the optimizer
            is made: for a hyperparameter that its algorithm does not have, or a value that it does not accept. When it
            is built: for a group that has no variable, or no effect because earlier groups give the same arguments; for
            hyperparameters that are wrong together.

    Example:

    >>> import keras_adaptive
    >>> groups = [Group("bias$", weight_decay=0.0), Group("^head", 0.1, beta_2=0.99)]
    >>> optimizer = keras_adaptive.Adam(0.5, weight_decay=0.01, groups=groups)
    >>> optimizer.build([keras.Variable([1.0], name=name) for name in ("body_bias", "head_bias")])
    >>> [(row.learning_rate, row.weight_decay) for row in optimizer.describe()]
    [(0.5, 0.0), (0.05, 0.0)]
    """

    # The name of the model that this group was made for. At least one group of a model must have a variable.
    made_for: str | None = None

    def __init__(
        self,
        pattern,
        learning_rate_multiplier=None,
        weight_decay=None,
        max_ndim=None,
        optional=False,
        slot_dtype=None,
        exclusive=False,
        role=None,
        inputs=None,
        outputs=None,
        batch=None,
        **hyperparameters,
    ):
        for name, value in hyperparameters.items():
            _check_name(name, value)
        self.pattern = checks.pattern("pattern", pattern)
        self.learning_rate_multiplier = checks.optional(checks.nonnegative)(
            "learning_rate_multiplier", learning_rate_multiplier
        )
        self.weight_decay = checks.optional(checks.number_or_schedule)("weight_decay", weight_decay)
        self.max_ndim = checks.optional(checks.natural)("max_ndim", max_ndim)
        self.optional = checks.flag("optional", optional)
        self.slot_dtype = checks.optional(checks.one_of(*CODECS))("slot_dtype", slot_dtype)
        self.exclusive = checks.flag("exclusive", exclusive)
        self.role = checks.optional(checks.one_of(*KINDS))("role", role)
        self.inputs = checks.optional(checks.axes)("inputs", inputs)
        self.outputs = checks.optional(checks.axes)("outputs", outputs)
        self.batch = checks.optional(checks.axes)("batch", batch)
        self._hyperparameters = hyperparameters
        self._made = True

    def __setattr__(self, name, value):
        # A change would show in the config, and not in what a built optimizer does.
        if name != "made_for" and getattr(self, "_made", False):
            raise AttributeError(
                f"`{name}` of a Group cannot be changed after it was made; make a new Group, and a new optimizer with "
                f"it. Received: {name}={checks.shown(value)}"
            )
        super().__setattr__(name, value)

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """The hyperparameters of the algorithm that it gives, by name."""
        return dict(self._hyperparameters)

    @property
    def says(self) -> dict[str, Any]:
        """The arguments that it gives to its variables, by name; those that were not given are missing."""
        settings = {name: getattr(self, name) for name in SETTINGS}
        return {name: value for name, value in settings.items() if value is not None} | self.hyperparameters

    def matches(self, path: str, ndim: int) -> bool:
        """Whether a variable with this path and this number of axes belongs to the group."""
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
            "exclusive": self.exclusive,
            "role": self.role,
            "inputs": self.inputs,
            "outputs": self.outputs,
            "batch": self.batch,
            **{name: serialized(value) for name, value in self.hyperparameters.items()},
        }

    @classmethod
    def from_config(cls, config):
        """The group with these arguments. A group of version 0.1.0 is exclusive, since there the first match won."""
        read = keras.saving.deserialize_keras_object
        config = {"exclusive": True, **config}
        return cls(**{name: read(value) if isinstance(value, dict) else value for name, value in config.items()})

    def __eq__(self, other):
        return isinstance(other, Group) and self.get_config() == other.get_config()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self):
        flags = {name: getattr(self, name) for name in ("max_ndim", "optional", "exclusive")}
        given = self.says | {name: value for name, value in flags.items() if value not in (None, False)}
        return f"Group({', '.join([repr(self.pattern), *(f'{k}={checks.shown(v)}' for k, v in given.items())])})"


@backends.opaque
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


def _check_name(name, value):
    """Refuses misspelt arguments of a group. The optimizer checks which hyperparameters its algorithm has."""
    near = difflib.get_close_matches(name, [*SETTINGS, "max_ndim", "optional", "exclusive"], 1, 0.9)
    meant = "learning_rate_multiplier" if name in ("learning_rate", "lr") else near[0] if near else None
    if meant is not None:
        raise TypeError(f"A group has no argument `{name}`; did you mean `{meant}`? Received: {name}={value!r}")
