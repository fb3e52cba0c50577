"""The facts about each optimizer that the list shows."""

import re
from dataclasses import dataclass

import keras

from keras_adaptive.bench.specification import CLASSES
from keras_adaptive.catalogue import docstrings
from keras_adaptive.core import tables

# So large that what is stored per row or column is negligible.
MATRIX = (1024, 1024)
HEAD = ("class", "what it is", "year", "bytes", "sparse", "wants")
LEGEND = (
    "bytes: of state per parameter of a float32 matrix of 1024 x 1024, measured.",
    'sparse: whether an update costs only the rows that were looked up; "if lazy": sparse="lazy".',
    "wants: a schedule that decays the learning rate; the callback EvaluationWeights; companions:",
    "    AdamW for variables that are not hidden matrices.",
)
# The column that is wrapped in a terminal, and its width. The table then has at most 100 columns.
WRAPPED, WIDTH = 1, 36


@dataclass(frozen=True)
class Entry:
    """The facts about one class.

    Attributes:
        name: of the class.
        what: the beginning of its docstring.
        paper, year: authors and venue of the first source in its docstring.
        slots: the letters of the slots that it stores for a matrix.
        bytes_per_parameter: of state, of a float32 matrix of 1024 x 1024, measured.
        sparse: whether an update of some rows of a table costs only these rows: "yes", "if lazy" for sparse="lazy", or
            "no".
        wants: what published results have besides: a schedule that decays, the callback EvaluationWeights, companions.
        page: the name of its page, a file beside that of its class.
    """

    name: str
    what: str
    paper: str
    year: str
    slots: tuple[str, ...]
    bytes_per_parameter: str
    sparse: str
    wants: str
    page: str

    def cells(self) -> list[str]:
        return [self.name, self.what, self.year, self.bytes_per_parameter, self.sparse, self.wants]


def catalogue() -> list[Entry]:
    """An entry for each optimizer of the package, by name."""
    return [entry(cls) for _, cls in sorted(CLASSES.items(), key=lambda item: item[0].lower())]


def entry(cls) -> Entry:
    """The facts about a class."""
    optimizer = cls()
    optimizer.build([keras.Variable(keras.ops.zeros(MATRIX), name="kernel")])
    (row,) = optimizer.describe()
    source = " ".join(docstrings.sections(cls).get("Source", "").split())
    paper, year = re.findall(r"^(.+?),? (\d{4})(?!\.?\d)", source)[0] if source else ("", "")
    return Entry(
        name=cls.__name__,
        what=_without_name(docstrings.title(cls), cls.__name__),
        paper=paper,
        year=year,
        slots=row.slots,
        bytes_per_parameter=f"{row.state_bytes / (MATRIX[0] * MATRIX[1]):.2g}",
        sparse=_sparse(cls),
        wants=_wants(cls),
        page=page_of(cls),
    )


def page_of(cls) -> str:
    """The name of the page of a class."""
    return f"{cls.__module__.rpartition('.')[2]}.md"


def _without_name(title, name):
    """The title without the algorithm's name in front, which stands beside it in the list."""
    first, _, rest = title.partition(": ")
    is_name = re.sub(r"\W", "", first).lower() == name.lower()
    return rest[0].upper() + rest[1:] if is_name and rest else title


def _sparse(cls):
    for sparse, text in (("exact", "yes"), ("lazy", "if lazy")):
        optimizer = cls(sparse=sparse)
        optimizer.build([keras.Variable(keras.ops.zeros((4, 2)), name="embeddings")])
        if optimizer.plan.states[0].why_all_rows is None:
            return text
    return "no"


def _wants(cls):
    if cls.evaluation_slot:
        return "EvaluationWeights"
    has_companions = any(name.startswith("companion_") for name in cls.own_fields)
    return ", ".join([*([] if cls.shrinks else ["schedule"]), *(["companions"] if has_companions else [])])


def markdown(entries) -> str:
    """The table of the catalogue; each name is a link to the page of its class, which stands beside the table."""
    lines = [[f"[{one.name}]({one.page})", *one.cells()[1:]] for one in entries]
    return "\n".join(tables.markdown(HEAD, lines))


def plain(entries) -> str:
    """The table for a terminal."""
    lines = [HEAD, *(one.cells() for one in entries)]
    return "\n".join([*tables.columns(tables.wrapped(lines, WRAPPED, WIDTH)), "", *LEGEND])
