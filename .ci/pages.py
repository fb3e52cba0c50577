"""Hooks of the site: they collect the pages of the repository and write the reference.

Every public name that has no page beside its class gets one. It is made from what `inspect` and `__doc__` say when the
package is imported, since arguments are added to signatures and docstrings only then.
"""

import inspect
import os
import posixpath
import re
import textwrap
from pathlib import Path

from mkdocs.structure.files import File

# The backend of the extra `docs`.
os.environ["KERAS_BACKEND"] = "jax"

import keras_adaptive
from keras_adaptive.bench.specification import CLASSES
from keras_adaptive.catalogue import docstrings, entries

ROOT = Path(__file__).parents[1]
# The parts of the reference by the folder in which their names are defined.
PARTS = {"core": "Base class and options", "groups": "Groups", "schedules": "Schedules", "training": "Training"}
# What is not by itself a section of a page, in this order.
SHORT = ("Slots", "Defaults", "Start with", "Pitfalls", "Differs from", "Source", "Returns", "Raises")
LINK = re.compile(r"(!?)\[([^]\n]*)\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)


# The navigation


def on_config(config):
    taken = {path for path in paths_of(config.nav) if "*" not in path}

    def found(entry):
        """The paths of pages that exist. A `*` stands for those that have no other place."""
        if isinstance(entry, list):
            return [page for each in entry for page in found(each)]
        if isinstance(entry, dict):
            ((title, inner),) = entry.items()
            pages = reference() if inner == "reference" else found(inner)
            return [{title: pages[0] if str(inner).endswith(".md") else pages}] if pages else []
        if "*" not in entry:
            return [entry] if (ROOT / entry).exists() else []
        pages = sorted({path.relative_to(ROOT).as_posix() for path in ROOT.glob(entry)} - taken)
        taken.update(pages)
        return pages

    config.nav = found(config.nav)
    return config


def paths_of(nav):
    if isinstance(nav, str):
        return [nav]
    return [path for each in (nav.values() if isinstance(nav, dict) else nav) for path in paths_of(each)]


def reference():
    parts = [{title: [f"reference/{name}.md" for name in names_of(part)]} for part, title in PARTS.items()]
    return ["reference/README.md", *parts]


def names_of(part):
    """The public names of a part."""
    return [name for name in keras_adaptive.__all__ if public(name).__module__.startswith(f"keras_adaptive.{part}.")]


def public(name):
    return getattr(keras_adaptive, name)


# The files


def on_files(files, config):
    for path in paths_of(config.nav):
        if path == "reference/README.md":
            files.append(File.generated(config, path, content=overview()))
        elif path.startswith("reference/"):
            files.append(File.generated(config, path, content=page_of(Path(path).stem)))
        else:
            files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
            for picture in pictures(path):
                if not files.get_file_from_path(picture):
                    files.append(File.generated(config, picture, abs_src_path=str(ROOT / picture)))
    return files


def pictures(path):
    """The paths of a page's pictures."""
    for is_picture, _, target in LINK.findall((ROOT / path).read_text(encoding="utf-8")):
        picture = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        if is_picture and (ROOT / picture).is_file():
            yield picture


def on_page_markdown(markdown, page, config, files):
    """Links to files that are no pages, such as sources, become code: the site does not have them."""
    folder = posixpath.dirname(page.file.src_uri)

    def linked(match):
        is_picture, text, target = match.groups()
        path = posixpath.normpath(posixpath.join(folder, target.split("#")[0]))
        if is_picture or target.startswith("#") or ":" in target or not (ROOT / path).exists():
            return match[0]
        if files.get_file_from_path(path):
            return match[0]
        if files.get_file_from_path(f"{path}/README.md"):
            return f"[{text}]({posixpath.join(target, 'README.md')})"
        name = text.strip("`")
        return f"`{name}`" if path.endswith(name) else f"{text} (`{path}`)"

    return outside_of_code(markdown, lambda text: LINK.sub(linked, text))


def outside_of_code(markdown, change):
    parts, end = [], 0
    for code in CODE.finditer(markdown):
        parts += [change(markdown[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, change(markdown[end:])])


# The reference


def overview():
    def table(title, names, folder=""):
        yield from ("", f"## {title}", "", "| Name | What it is |", "|---|---|")
        for name in names:
            file = entries.page_of(public(name)) if name in CLASSES else f"{name}.md"
            yield f"| [{name}]({folder}{file}) | {prose(docstrings.title(public(name)))} |"

    lines = ["# Reference", "", "Every public name. `help` shows the same in Python."]
    for part, title in PARTS.items():
        lines += table(title, names_of(part))
    return "\n".join([*lines, *table("Algorithms", sorted(CLASSES), "../keras_adaptive/optimizers/")])


def page_of(name):
    item = public(name)
    page = [f"# {name}", signature(f"keras_adaptive.{name}", item), *described(item, "##")]
    methods = list(members(item)) if inspect.isclass(item) else []
    page += ["## Methods and properties"] if methods else []
    for method, value in methods:
        page.append(f"### {method}")
        page += [] if isinstance(value, property) else [signature(method, value)]
        page += described(value, "####")
    return "\n\n".join(page)


def members(cls):
    """The documented ones, of our own classes."""
    found = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("keras_adaptive"):
            found |= {name: getattr(base, name) for name in vars(base) if not name.startswith("_")}
    for name, value in found.items():
        if (callable(value) or isinstance(value, property)) and value.__doc__:
            yield name, value


def signature(name, item):
    """As code, one argument a line, with types without their modules."""
    lines = []
    for parameter in inspect.signature(item).parameters.values():
        if parameter.name != "self":
            if parameter.kind is parameter.KEYWORD_ONLY and "    *," not in lines:
                lines.append("    *,")
            short = re.sub(r"\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])", "", str(parameter)).replace("NoneType", "None")
            lines.append(f"    {short},")
    return "\n".join(["```python", *([f"{name}(", *lines, ")"] if lines else [f"{name}()"]), "```"])


def described(item, level):
    """The docstring as Markdown."""
    sections = docstrings.sections(item)
    yield prose(sections[""])
    if "Args" in sections:
        yield f"{level} Arguments"
        yield from arguments(textwrap.dedent(sections["Args"]))
    for title in SHORT:
        if title in sections:
            body = inspect.cleandoc("\n" + sections[title])
            yield f"**{title}:**" + ("\n\n" if body.startswith("- ") else " ") + prose(body)
    if "Example" in sections:
        yield f"{level} Example"
        for paragraph in sections["Example"].strip().split("\n\n"):
            yield f"```pycon\n{paragraph}\n```" if paragraph.startswith(">>>") else prose(paragraph)


def arguments(text):
    """Each argument as an entry of a definition list."""
    _, *rest = re.split(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*): ", text, flags=re.MULTILINE)
    for name, body in zip(rest[::2], rest[1::2], strict=True):
        paragraphs = [prose(part) for part in inspect.cleandoc(body).split("\n\n")]
        # Values that have a line each.
        paragraphs[1:] = [re.sub(r'^(?="[\w-]+": )', "- ", part, flags=re.MULTILINE) for part in paragraphs[1:]]
        yield f"`{name}`\n:   " + textwrap.indent("\n\n".join(paragraphs), "    ").lstrip()


def prose(text):
    """The text of a docstring, in which only indented blocks, lists and code are markup."""
    paragraphs = text.split("\n\n")
    return "\n\n".join(part if part.startswith("    ") else outside_of_code(part, escaped) for part in paragraphs)


def escaped(text):
    return re.sub(r"[*_[\]]", r"\\\g<0>", text).replace("<", "&lt;")
