"""The tables in pages of the documentation: each stands between two marks, and a command writes it."""

from pathlib import Path

from keras_adaptive.compare import report
from keras_adaptive.compare.results import Results

# By the name in a page's marks: what stands between them.
TABLES = {"compare": report.short, "compare-all": lambda results: report.text(results, markdown=True)}


def tables_of(page: str) -> list[str]:
    """The names of the tables in a page.

    Raises:
        ValueError: there is none.
    """
    found = [name for name in TABLES if all(mark in page for mark in _marks(name))]
    if not found:
        raise ValueError("must have the lines " + ", or ".join(" and ".join(_marks(name)) for name in TABLES))
    return found


def block(page: str, name: str) -> str:
    """What stands between the marks of a table."""
    begin, end = _marks(name)
    return page.split(begin)[1].split(end)[0].strip("\n")


def write(path: Path, results: Results) -> None:
    """Writes the tables of a page."""
    page = path.read_text("utf-8")
    for name in tables_of(page):
        begin, end = _marks(name)
        before, after = page.split(begin)[0], page.split(end)[1]
        page = f"{before}{begin}\n{TABLES[name](results)}\n{end}{after}"
    path.write_text(page, "utf-8")


def _marks(name):
    return f"<!-- {name} -->", f"<!-- /{name} -->"
