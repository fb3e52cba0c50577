"""`describe()`: a table of what was decided for each variable and what is stored for it."""

import math
import re
import textwrap
from dataclasses import dataclass

from keras import backend, ops

from keras_adaptive.core import checks, tables
from keras_adaptive.core.backends import running as backends
from keras_adaptive.core.step import scheduled

WIDTH = 100
# Columns by the fields of a Row. A column whose entries are all the same becomes a line below the table.
COLUMNS = {
    "path": "path",
    "shape": "shape",
    "dtype": "dtype",
    "role": "role",
    "matrices": "matrices",
    "groups": "groups",
    "learning_rate": "rate",
    "weight_decay": "decay",
    "slots": "slots",
    "state_bytes": "bytes",
}
ALWAYS = ("path", "shape", "role", "matrices", "state_bytes")
MOST_SLOTS = 3
NUMBERS = ("learning_rate", "weight_decay", "state_bytes")


@dataclass(frozen=True)
class Row:
    """One trained variable.

    Attributes:
        path, shape, dtype: of the variable.
        role: "embedding", "output", "bias", "norm", "kernel" or "other".
        matrices: the rows and columns of its matrix, and the number of matrices; None if it is not a matrix.
        source: where the role comes from: a layer, a group, or only the name or shape.
        group: the number of each of its groups, from 0, and the group's pattern; or "".
        learning_rate: of the next update, with the group's multiplier.
        weight_decay: of the next update, or 0.0.
        slots: the names of what is stored for it.
        state_bytes: how many bytes that takes.
        not_compiled: why it is updated operation by operation in spite of `jit_update=True`; "" if it is compiled, or
            before the first step.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    role: str
    matrices: tuple[int, int, int] | None
    source: str
    group: str
    groups: tuple[int, ...]
    learning_rate: float
    weight_decay: float
    slots: tuple[str, ...]
    state_bytes: int
    not_compiled: str = ""


@dataclass(frozen=True)
class Table:
    """Rows that can be read one by one, and printed as columns with notes below them."""

    rows: tuple[Row, ...]
    # The smallest learning_rate_multiplier of the groups and the algorithm, and the path of its first variable.
    smallest_multiplier: tuple[float, str] = (1.0, "")
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, optimizer):
        """The table of an optimizer that is built."""
        # The shortest decimal number that rounds to this value: 0.001, not 0.0010000000474974513.
        eta = float(str(ops.convert_to_numpy(optimizer.eta())))
        now = scheduled.asked(optimizer.plan.scheduled, optimizer.iterations)
        not_compiled = backends.not_compiled(optimizer.plan.update)
        rows = []
        for place, state in enumerate(optimizer.plan.states):
            stored = state.stored | state.window
            rows.append(
                Row(
                    path=state.path,
                    shape=state.shape,
                    dtype=state.dtype,
                    role=state.role.kind,
                    matrices=_matrices(state),
                    source=state.role.source,
                    group=", ".join(f"{index}: {optimizer.groups[index].pattern}" for index in state.groups),
                    groups=state.groups,
                    learning_rate=eta * state.learning_rate_multiplier,
                    weight_decay=_now(state.weight_decay, now.get(state.clock_names["weight_decay"])),
                    slots=tuple(stored),
                    state_bytes=sum(map(stored_bytes, stored.values())),
                    not_compiled=not_compiled.get(place, ""),
                )
            )
        smallest = min(
            ((state.learning_rate_multiplier, state.path) for state in optimizer.plan.states),
            key=lambda multiplier_and_path: multiplier_and_path[0],
            default=(1.0, ""),
        )
        return cls(tuple(rows), smallest, tuple(_notes(optimizer, eta, now, rows)))

    @property
    def state_bytes(self) -> int:
        """The bytes that are stored for all variables together."""
        return sum(row.state_bytes for row in self.rows)

    def __len__(self):
        return len(self.rows)

    def __iter__(self):
        return iter(self.rows)

    def __getitem__(self, place):
        return self.rows[place]

    def __str__(self):
        shown = [name for name in COLUMNS if name in ALWAYS or len({getattr(row, name) for row in self.rows}) > 1]
        lines = [[COLUMNS[name] for name in shown]]
        lines += [[_text(name, getattr(row, name)) for name in shown] for row in self.rows]
        same = [
            f"{COLUMNS[name]} of all: {_text(name, getattr(self.rows[0], name))}"
            for name in COLUMNS
            if name not in shown and self.rows and getattr(self.rows[0], name) != ()
        ]
        multiplier, path = self.smallest_multiplier
        if multiplier < 1.0:
            same.append(f"smallest learning rate multiplier: {multiplier:.5g} ({path})")
        notes = [line for note in (*same, *self.notes) for line in _wrapped(note)]
        return "\n".join([*_aligned(lines, shown), *notes, f"bytes in total: {self.state_bytes}"])


def _aligned(lines, shown):
    """The lines as columns; if that is too wide, each path is on a separate line."""
    right = [place for place, name in enumerate(shown) if name in NUMBERS]
    joined = tables.columns(lines, right)
    if max(map(len, joined)) <= WIDTH:
        return joined
    rest = tables.columns([line[1:] for line in lines], [place - 1 for place in right])
    return [part for (path, *_), others in zip(lines, rest, strict=True) for part in (path, f"    {others}")]


def _matrices(state):
    """Those that the optimizer makes of the variable, for example one of each head; else those of its layer."""
    view = state.facts.get("view")
    return state.role.matrices if view is None or len(view.lengths) != 2 else (*view.lengths, view.count)


def _now(weight_decay, scheduled):
    """The weight decay of the next update."""
    return float(ops.convert_to_numpy(scheduled)) if checks.is_schedule(weight_decay) else weight_decay or 0.0


def _notes(optimizer, eta, now, rows):
    """What the columns cannot say."""
    if eta == 0.0:
        updates = int(ops.convert_to_numpy(optimizer.iterations))
        yield f"The learning rate is 0 after {updates} updates, by its schedule or the user: no variable moves."
    if optimizer.weight_decay_mode != "decoupled":
        yield f"weight_decay_mode: {optimizer.weight_decay_mode}"
    for name, number in now.items():
        if optimizer.plan.scheduled[name].argument != "weight_decay":
            yield f"{name} has a schedule: {float(ops.convert_to_numpy(number)):.6g} in the next update"
    for index, group in enumerate(optimizer.groups or ()):
        most = group.max_ndim
        axes = "" if most is None else f", of at most {most} {'axis' if most == 1 else 'axes'}"
        yield f"group {index}: {group.pattern or 'any path'}{axes}"
    for one in optimizer.left_out:
        path, shape = one.place
        yield f"left out of training, stored after {one.updates} updates: {path} {shape}, {one.stored_bytes} bytes"
    slots = dict.fromkeys(row.slots for row in rows)
    yield from (f"slots {_text('slots', names)}: {', '.join(names)}" for names in slots if len(names) > MOST_SLOTS)
    unknown: dict[str, list[str]] = {}
    not_compiled: dict[str, list[str]] = {}
    for row in rows:
        if len(row.shape) > 1 and row.source.startswith(("name", "shape", "unknown", "version")):
            unknown.setdefault(row.source, []).append(row.path)
        if row.not_compiled:
            not_compiled.setdefault(row.not_compiled, []).append(row.path)
    for source, paths in unknown.items():
        yield f"no layer says what they are ({source}): {_some(paths)}"
    for why, paths in not_compiled.items():
        yield f"updated operation by operation, not compiled, because {why}: {_some(paths)}"


def _some(paths):
    """The first three paths."""
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return f"{', '.join(paths[:3])}{more}"


def _wrapped(note):
    """A note, wrapped; a pattern may be broken after each |."""
    lines = textwrap.wrap(note.replace("|", "| "), WIDTH, subsequent_indent="    ", break_on_hyphens=False)
    return [line.replace("| ", "|") for line in lines]


def _text(name, value):
    if name == "matrices":
        if value is None:
            return ""
        rows, columns, count = value
        return f"{rows} x {columns}" + (f" x {count}" if count != 1 else "")
    if name == "slots":
        return " ".join(value if len(value) <= MOST_SLOTS else (*value[:MOST_SLOTS], f"+{len(value) - MOST_SLOTS}"))
    if name == "groups":
        return " ".join(map(str, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def stored_bytes(variable):
    """How many bytes a variable takes."""
    bits = re.search(r"\d+$", backend.standardize_dtype(variable.dtype))
    return math.prod(variable.shape) * (int(bits[0]) // 8 if bits else 1)
