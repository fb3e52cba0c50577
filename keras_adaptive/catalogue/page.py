"""The page of a class or function: its docstring, its arguments, its state, and what `compare` found about it."""

import inspect
import re
import textwrap
from dataclasses import dataclass
from typing import Any

from keras_adaptive.bench.specification import CLASSES
from keras_adaptive.catalogue import docstrings, evidence
from keras_adaptive.catalogue.entries import Entry, entry
from keras_adaptive.core import tables
from keras_adaptive.core.optimizer import AdaptiveOptimizer

# Of a terminal, in columns; and of the last column of a table, which is wrapped, at least.
WIDTH, NARROWEST = 100, 30
OPTIONS = "options.md"
# In a terminal: where that is which a page links to.
IN_A_TERMINAL = {
    OPTIONS: "`python -m keras_adaptive show AdaptiveOptimizer`",
    evidence.RULES: "`keras_adaptive/compare/README.md`",
}
# The sections of a docstring that help to choose and to start.
GUIDANCE = ("Defaults", "Start with", "Pitfalls", "Differs from")


@dataclass(frozen=True)
class Table:
    """A table; its last column may be long."""

    head: tuple[str, ...]
    lines: list[list[str]]


@dataclass(frozen=True)
class Code:
    """Lines that stand as they are."""

    text: str
    language: str


Part = str | Table | Code


def sections(item: Any) -> dict[str, list[Part]]:
    """The headings of a page, each with its parts: paragraphs in Markdown, tables and code."""
    found = docstrings.sections(item)
    is_optimizer = inspect.isclass(item) and issubclass(item, AdaptiveOptimizer)
    page: dict[str, list[Part]] = {}
    if is_optimizer and item is not AdaptiveOptimizer:
        facts = entry(item)
        page["Equations"] = [Code(docstrings.equations(item), "text"), docstrings.remarks(item)]
        page["Arguments"] = _arguments(item)
        page["State"] = [f"Slots: {found['Slots']}", _state(facts)]
        page |= {name: [_capital(found[name])] for name in GUIDANCE if name in found}
        page |= {"In `compare`": evidence.parts(item.__name__, Table)}
    else:
        page["Description"] = [found[""].partition("\n\n")[2]]
        if is_optimizer:
            page["Arguments"] = [_table(item.fields)]
        elif "Args" in found:
            page["Arguments"] = [Code(inspect.cleandoc("\n" + found["Args"]), "text")]
        page |= {name: [found[name]] for name in ("Returns", "Raises") if name in found}
    page |= {"Example": [Code(found["Example"], "pycon")]} if "Example" in found else {}
    page |= {"Source": [_linked(found["Source"])]} if "Source" in found else {}
    return {heading: [part for part in parts if part] for heading, parts in page.items() if any(parts)}


def _capital(text):
    """The text with a capital at its start, unless it starts with a name such as beta_1."""
    is_name = "_" in text.split(" ")[0].rstrip(",:")
    return text if is_name else text[:1].upper() + text[1:]


def _arguments(cls) -> list[Part]:
    positional = [f"`{name}`" for name in list(cls.fields)[: cls.positional]]
    by_position = f"By position: {', '.join(positional)}. All other arguments are given by name."
    others = f"Every optimizer also has [these options]({OPTIONS}), such as `clipnorm`, `use_ema` and `groups`."
    return [_table(cls.own_fields), f"{by_position} {others}"]


def _table(fields) -> Table:
    lines = []
    for name, field in fields.items():
        said = ". ".join(_capital(part) for part in (field.help, field.check.accepted, field.more) if part)
        lines.append([f"`{name}`", f"`{field.default!r}`", f"{said}."])
    return Table(("argument", "default", "what it is, and what is accepted"), lines)


def _state(facts: Entry) -> str:
    rows = {
        "yes": "Sparse gradients of an embedding (TensorFlow): without momentum and weight decay, an update reads and "
        "writes only the rows that were looked up.",
        "if lazy": 'Sparse gradients of an embedding (TensorFlow): with `sparse="lazy"` an update reads and writes '
        "only the rows that were looked up. By default it gives the dense result and costs all rows.",
        "no": "Sparse gradients of an embedding (TensorFlow): an update reads and writes all rows.",
    }
    stored = f"{facts.bytes_per_parameter} bytes per parameter of a float32 matrix of 1024 x 1024, measured."
    return f"{stored} {rows[facts.sparse]}"


def _linked(text: str) -> str:
    """The text, in which each arXiv number is a link."""
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)


def markdown(item: Any) -> str:
    """The page as Markdown."""
    lines = [f"# {item.__name__}", f"{docstrings.title(item)}."]
    if item.__name__ in CLASSES:
        name = item.__module__.rpartition(".")[2]
        lines += [f"`keras_adaptive.{item.__name__}`, in [{name}.py]({name}.py). [All optimizers](README.md)."]
    for heading, parts in sections(item).items():
        lines += [f"## {heading}", *map(_markdown, parts)]
    return "\n\n".join(lines) + "\n"


def _markdown(part: Part) -> str:
    if isinstance(part, Table):
        return "\n".join(tables.markdown(part.head, part.lines))
    return f"```{part.language}\n{part.text}\n```" if isinstance(part, Code) else part


def plain(item: Any) -> str:
    """The page for a terminal."""
    lines = [f"{item.__name__}\n{'=' * len(item.__name__)}", _filled(f"{docstrings.title(item)}.")]
    for heading, parts in sections(item).items():
        heading = heading.replace("`", "")
        lines += [f"{heading}\n{'-' * len(heading)}", *map(_plain, parts)]
    return "\n\n".join(lines)


def _plain(part: Part) -> str:
    if isinstance(part, Table):
        cells = [[cell.replace("`", "") for cell in line] for line in (part.head, *part.lines)]
        others = sum(max(map(len, column)) + 2 for column in list(zip(*cells, strict=True))[:-1])
        return "\n".join(tables.columns(tables.wrapped(cells, len(part.head) - 1, max(WIDTH - others, NARROWEST))))
    if isinstance(part, Code):
        return textwrap.indent(part.text, "    ")
    text = re.sub(r"\[([^]]*)\]\(([^)]*)\)", lambda link: f"{link[1]} ({IN_A_TERMINAL.get(link[2], link[2])})", part)
    return "\n\n".join(map(_filled, text.split("\n\n")))


def _filled(paragraph):
    """A paragraph, or the items of a list, in lines of the terminal's width; an indented block stays as it is."""
    if paragraph.startswith("    "):
        return paragraph
    items = re.split(r"\n(?=- )", paragraph)
    return "\n".join(
        textwrap.fill(" ".join(item.split()), WIDTH, subsequent_indent="  " * item.startswith("- ")) for item in items
    )
