"""Docstrings by their sections."""

import inspect
import re

from keras_adaptive.core.fields import MORE

SECTIONS = (
    "Args",
    "Returns",
    "Slots",
    "Defaults",
    "Start with",
    "Pitfalls",
    "Differs from",
    "Raises",
    "Source",
    "Example",
)


def sections(item) -> dict[str, str]:
    """The docstring by its sections; what comes before the first one is under ""."""
    text = inspect.cleandoc(item.__doc__ or "")
    parts = re.split(rf"^({'|'.join(SECTIONS)}):[ \n]", text, flags=re.MULTILINE)
    return {"": parts[0].rstrip()} | {
        name: body.strip("\n") for name, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def title(item) -> str:
    """The first sentence of the docstring, on one line and without its period."""
    return " ".join(sections(item)[""].split("\n\n")[0].split()).rstrip(".")


def equations(item) -> str:
    """The first indented block of the docstring, with its blank lines."""
    lines, first, last = _block(item)
    return inspect.cleandoc("\n" + "\n".join(lines[first:last]).rstrip())


def remarks(item) -> str:
    """What the docstring says after its title and the equations, before its first section."""
    lines, _, last = _block(item)
    return "\n".join(lines[last:]).replace(MORE, "").strip()


def _block(item):
    """The lines before the first section, and the first and the last line of the first indented block among them."""
    lines = sections(item)[""].split("\n")
    first = next((place for place, line in enumerate(lines) if line.startswith("    ")), len(lines))
    last = next((place for place, line in enumerate(lines[first:], first) if line[:1].strip()), len(lines))
    return lines, first, last
