"""Tables as plain text, in columns or as Markdown, for the package, its tests and its examples."""

import textwrap
from collections.abc import Collection, Iterable, Sequence

# A | inside a cell.
ESCAPED = r"\|"


def columns(lines: Iterable[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """A text for each line; the cells of a column are equally wide.

    Args:
        lines: lists of cells; the head is one of them.
        right: the columns that are aligned to the right, from 0.
    """
    lines = list(lines)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def wrapped(lines: Iterable[Sequence[str]], place: int, width: int) -> list[list[str]]:
    """The lines, with one column wrapped: what does not fit goes on below, in lines whose other cells are empty.

    Args:
        lines: lists of cells.
        place: the column, from 0.
        width: its greatest width.
    """
    made = []
    for cells in lines:
        first, *rest = textwrap.wrap(cells[place], width, break_on_hyphens=False) or [""]
        made.append([*cells[:place], first, *cells[place + 1 :]])
        made += [[more if each == place else "" for each in range(len(cells))] for more in rest]
    return made


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]], centered: Collection[int] = ()) -> list[str]:
    """A text for each line; the first two are the head.

    Args:
        head: names of the columns.
        lines: lists of cells.
        centered: the columns that are centered, from 0.
    """
    rule = "".join(":-:|" if place in centered else "---|" for place in range(len(head)))
    return [markdown_line(head), f"|{rule}", *map(markdown_line, lines)]


def markdown_line(cells: Iterable[str]) -> str:
    """One line of a table in Markdown."""
    return "|" + "".join(f" {cell.replace('|', ESCAPED)} |" if cell else " |" for cell in cells)
