"""A table of what was decided for each variable and what is kept for it."""

import math
import re
from dataclasses import astuple, dataclass, fields

from keras import backend, ops


@dataclass(frozen=True)
class Row:
    """One trained variable.

    Attributes:
        path, shape, dtype: of the variable.
        group: the number of its group, from 0, and its pattern; or "".
        learning_rate: of the next update, with the group's multiplier.
        weight_decay: of the next update, or 0.0.
        slots: the names of what is kept for it.
        state_bytes: how many bytes that takes.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    group: str
    learning_rate: float
    weight_decay: float
    slots: tuple[str, ...]
    state_bytes: int


@dataclass(frozen=True)
class Table:
    """Rows that can be read one by one, and printed as columns."""

    rows: tuple[Row, ...]

    @classmethod
    def of(cls, optimizer):
        """The table of an optimizer that is built."""
        # The shortest number that is stored as this value: 0.001, not 0.0010000000474974513.
        eta = float(str(ops.convert_to_numpy(optimizer.eta())))
        scheduled = {
            name: float(ops.convert_to_numpy(decay(optimizer.iterations)))
            for name, decay in optimizer.plan.scheduled.items()
        }
        rows = []
        for state in optimizer.plan.states:
            kept = state.kept | state.accumulators
            rows.append(
                Row(
                    path=state.path,
                    shape=state.shape,
                    dtype=state.dtype,
                    group=_named(optimizer.groups, state.group),
                    learning_rate=eta * state.learning_rate_multiplier,
                    weight_decay=scheduled.get(state.scheduled_decay, state.weight_decay) or 0.0,
                    slots=tuple(kept),
                    state_bytes=sum(map(stored_bytes, kept.values())),
                )
            )
        return cls(tuple(rows))

    @property
    def state_bytes(self) -> int:
        """What is kept for all variables together."""
        return sum(row.state_bytes for row in self.rows)

    def __len__(self):
        return len(self.rows)

    def __iter__(self):
        return iter(self.rows)

    def __str__(self):
        head = [field.name.replace("_", " ") for field in fields(Row)]
        lines = [head, *([_text(value) for value in astuple(row)] for row in self.rows)]
        lines.append(["total", *[""] * (len(head) - 2), str(self.state_bytes)])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        numbers = {4, 5, 7}
        return "\n".join(
            "  ".join(
                text.rjust(width) if place in numbers else text.ljust(width)
                for place, (text, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )


def _named(groups, index):
    if index is None:
        return ""
    pattern = groups[index].pattern
    return f"{index}: {pattern if len(pattern) <= 30 else pattern[:27] + '...'}"


def _text(value):
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple) and all(isinstance(x, str) for x in value):
        return "(" + ", ".join(value) + ")" if value else "()"
    return str(value)


def stored_bytes(variable):
    """How many bytes a variable takes."""
    bits = re.search(r"\d+$", backend.standardize_dtype(variable.dtype))
    return math.prod(variable.shape) * (int(bits[0]) // 8 if bits else 1)
