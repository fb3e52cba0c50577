"""CowClip: clips gradients of embedding tables row by row, by how often each row was looked up."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_adaptive.core import checks
from keras_adaptive.core.backends import running as backends
from keras_adaptive.core.math.numerics import maximum, norm
from keras_adaptive.core.step import rows
from keras_adaptive.core.step.gradients import fits
from keras_adaptive.core.step.stage import Place, Stage
from keras_adaptive.groups.assignment import nearest
from keras_adaptive.groups.roles import EMBEDDING, Role


@keras.saving.register_keras_serializable(package="keras_adaptive")
class CowClip:
    """Clips the gradient of each row of an embedding table to the row's own norm, times its count in the batch.

        clip_i = ratio max(||theta_i||, sqrt(d) zeta ratio) count_i
        g_i = g_i min(1, clip_i / ||g_i||)

    d is the number of elements of a row. count_i is how often row i was looked up in the full batch: on all replicas,
    and in all micro-batches of a window of accumulation, whose mean gradient is clipped. So the gradient of a row that
    was not looked up is 0. Every optimizer accepts `cowclip=CowClip(...)`. It comes after the other clipping options
    and after coupled weight decay.

    TensorFlow's gradient of an embedding is a `tf.IndexedSlices`, which knows the counts. For other gradients pass
    them: `optimizer.apply(grads, variables, counts={path: counts})`, or `stateless_apply` with the same argument.

    For a batch that is s times larger the paper multiplies the learning rate of the dense variables by sqrt(s), and
    does not change the learning rate of the embeddings.

    Args:
        pattern: regular expression that is searched in a variable's path. Default None: embedding tables, by their
            layers or else by name. The default of version 0.1.0 was "embeddings$".
        ratio: maximum ratio of the norm of a row's gradient to the norm of the row, per occurrence; above 0.
            Default 1.0.
        zeta: smallest root mean square of a row, in units of ratio; above 0. Default 1e-05.

    Raises:
        ValueError, TypeError: an argument is out of range or of the wrong kind. Also when the optimizer is built, if
            no variable is to be clipped, or one without rows; and when it is applied, if counts are missing.

    Source: Zheng, Xu, Zou, Tang, Li, Xi, Wang, Xu, Zhu and You, AAAI 2023.

    Example:

    >>> import keras_adaptive
    >>> optimizer = keras_adaptive.SGD(1.0, cowclip=CowClip("table"))
    >>> theta = keras.Variable([[3.0, 4.0], [3.0, 4.0]], name="table")
    >>> gradient = keras.ops.convert_to_tensor([[0.0, 100.0], [0.0, 100.0]])
    >>> optimizer.apply([gradient], [theta], counts={"table": [1, 2]})
    >>> print(keras.ops.convert_to_numpy(theta))
    [[ 3. -1.]
     [ 3. -6.]]
    """

    def __init__(self, pattern=None, ratio=1.0, zeta=1e-5):
        self.pattern = checks.optional(checks.pattern)("pattern", pattern)
        self.ratio = checks.positive("ratio", ratio)
        self.zeta = checks.positive("zeta", zeta)

    def clips(self, role: Role) -> bool:
        """Whether it clips a variable with this role."""
        if self.pattern is None:
            return role.seen_by("CowClip").kind == EMBEDDING
        return re.search(self.pattern, role.path) is not None

    def check(self, variables: Sequence[Mapping[str, Any]]) -> None:
        """Raises unless it clips some of the variables ("path", "shape" and "role" of each), and these have rows."""
        paths = [variable["path"] for variable in variables]
        clipped = [variable for variable in variables if self.clips(Role.of(variable))]
        if not clipped and self.pattern is None:
            raise ValueError(
                "The `pattern` of CowClip must be given if no layer says that one of the variables is a table of "
                f"embeddings; they are {paths[:3]}{' and more' if len(paths) > 3 else ''}. Received: pattern=None"
            )
        if not clipped:
            raise ValueError(
                "The `pattern` of CowClip must be found in the path of a variable; "
                f"{nearest(self.pattern, paths)} are the nearest and do not match. "
                f"Received: pattern={self.pattern!r}"
            )
        for variable in clipped:
            if len(variable["shape"]) < 2:
                raise ValueError(
                    "The `pattern` of CowClip must match variables of at least two axes only. "
                    f"Received: pattern={self.pattern!r}, and {variable['path']!r} has shape {variable['shape']}"
                )

    def clip(self, g, theta, counts):
        """The clipped gradient; counts have its dtype."""
        axes = tuple(range(1, len(theta.shape)))
        root = math.sqrt(math.prod(theta.shape[1:]))
        counts = ops.reshape(counts, (-1, *(1 for _ in axes)))
        limit = self.ratio * maximum(norm(theta, axes), root * self.zeta * self.ratio) * counts
        length = norm(g, axes)
        longer = length > limit
        return ops.where(longer, g * (limit / ops.where(longer, length, ops.ones_like(length))), g)

    def get_config(self):
        """All arguments, for `from_config`."""
        return {"pattern": self.pattern, "ratio": self.ratio, "zeta": self.zeta}

    @classmethod
    def from_config(cls, config):
        """The same clipping."""
        return cls(**config)

    def __eq__(self, other):
        return isinstance(other, CowClip) and self.get_config() == other.get_config()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self):
        return f"CowClip({self.pattern!r}, ratio={self.ratio!r}, zeta={self.zeta!r})"


class ClipRows(Stage):
    """The stage of a `CowClip`."""

    place, option, couples_elements, passes_again = Place.COWCLIP, "cowclip", True, True

    def __init__(self, cowclip):
        self.cowclip = cowclip

    @classmethod
    def of(cls, optimizer):
        return None if optimizer.cowclip is None else cls(optimizer.cowclip)

    def applies_to(self, variable):
        return self.cowclip.clips(variable.role)

    def on_gradient(self, step, theta, g):
        return self.cowclip.clip(g, theta, step.h.counts)


def given(states, gradients, counts: Mapping[str, Any] | None) -> list:
    """For each variable the counts that the caller gave; None if there are none or the gradient knows them.

    Raises:
        ValueError: counts are missing, have another shape, or are for a variable that is not clipped.
    """
    counts = dict(counts or {})
    found = []
    for state, gradient in zip(states, gradients, strict=True):
        of_one = counts.pop(state.path, None) if state.counted else None
        if of_one is not None:
            of_one = ops.convert_to_tensor(of_one)
            if not fits(backends.known_shape(of_one), state.shape[:1]):
                raise ValueError(
                    f"`counts` of {state.path!r} must have shape {state.shape[:1]}, one number for each row. "
                    f"Received: shape {backends.known_shape(of_one)}"
                )
        elif state.counted and gradient is not None and backends.occurrences(gradient) is None:
            raise ValueError(
                f"`counts` must say how often each row of {state.path!r} was looked up in the batch, because only a "
                "tf.IndexedSlices gradient knows it: call `apply(grads, trainable_variables, counts={path: counts})`. "
                "Received: counts=None"
            )
        found.append(of_one)
    if counts:
        clipped = [state.path for state in states if state.counted]
        raise ValueError(f"`counts` must be of variables that CowClip clips, {clipped}. Received: {sorted(counts)}")
    return found


def counted(states, gradients, found) -> dict[str, Any]:
    """The counts of the rows over all replicas, by their name in the clock; gradients are already summed over these."""
    summed = iter(backends.sum_over_replicas([counts for counts in found if counts is not None]))

    def of_one(state, gradient, counts):
        if counts is None:
            return rows.counts(gradient, state)
        return ops.reshape(ops.cast(next(summed), state.compute_dtype), state.shape[:1])

    return {
        state.counts_name: of_one(state, gradient, counts)
        for state, gradient, counts in zip(states, gradients, found, strict=True)
        if state.counted and (gradient is not None or counts is not None)
    }
