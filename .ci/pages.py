"""Hooks of the site: they collect the pages of the repository, and write one for each public name.

The arguments of an optimizer are added to its signature and its docstring as it is imported, so the pages are written
from what `inspect` and `__doc__` say then, not from the source.
"""

import inspect
import os
import posixpath
import re
import textwrap
from pathlib import Path

from mkdocs.structure.files import File

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras_adaptive
from keras_adaptive.core.options import OPTIONS

ROOT = Path(__file__).parents[1]
# By the folder that defines them.
PARTS = {
    "optimizers": "Algorithms",
    "core": "All optimizers",
    "groups": "Groups",
    "schedules": "Schedules",
    "training": "Training",
}
# The sections of a docstring, in the order of a page.
SECTIONS = ["Slots", "Defaults", "Start with", "Pitfalls", "Differs from", "Source"]
SECTIONS += ["Args", "Returns", "Raises", "Example"]
LINK = re.compile(r"(!?)\[([^]\n]*)\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)


# The navigation


def on_config(config):
    named = {path for path in paths_of(config.nav) if "*" not in path}

    def found(entry):
        """The paths of pages that exist. A `*` stands for those that are not named."""
        if isinstance(entry, str):
            paths = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(entry))
            return [path for path in paths if path == entry or path not in named]
        if isinstance(entry, list):
            return [page for each in entry for page in found(each)]
        ((title, inner),) = entry.items()
        pages = reference() if inner == "reference" else found(inner)
        return [{title: pages if isinstance(inner, list) or inner == "reference" else pages[0]}] if pages else []

    config.nav = found(config.nav)
    return config


def paths_of(nav):
    if isinstance(nav, str):
        return [nav]
    return [path for each in (nav.values() if isinstance(nav, dict) else nav) for path in paths_of(each)]


def reference():
    parts = [{title: [f"reference/{name}.md" for name in names]} for title, names in by_part()]
    return ["reference/README.md", *parts]


def on_files(files, config):
    for path in paths_of(config.nav):
        if not path.startswith("reference/"):
            files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
            for picture in pictures(path):
                if not files.get_file_from_path(picture):
                    files.append(File.generated(config, picture, abs_src_path=str(ROOT / picture)))
    files.append(File.generated(config, "reference/README.md", content=overview()))
    for name in keras_adaptive.__all__:
        files.append(File.generated(config, f"reference/{name}.md", content=page_of(name)))
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
        if is_picture or not (ROOT / path).exists() or ":" in target or target[0] == "#":
            return match[0]
        if files.get_file_from_path(path):
            return match[0]
        if files.get_file_from_path(f"{path}/README.md"):
            return f"[{text}]({posixpath.join(target, 'README.md')})"
        plain = text.strip("`")
        return f"`{plain}`" if path.endswith(plain) else f"{text} (`{path}`)"

    return outside_of_code(markdown, lambda text: LINK.sub(linked, text))


def outside_of_code(markdown, change):
    parts, end = [], 0
    for code in CODE.finditer(markdown):
        parts += [change(markdown[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, change(markdown[end:])])


# The pages of the public names


def by_part():
    """The titles of the parts, each with its names."""
    for part, title in PARTS.items():
        of_part = f"keras_adaptive.{part}."
        yield title, [name for name in keras_adaptive.__all__ if public(name).__module__.startswith(of_part)]


def public(name):
    return getattr(keras_adaptive, name)


def overview():
    lines = ["# Reference", "", "Every public name. `help` shows the same in Python."]
    for title, names in by_part():
        lines += ["", f"## {title}", "", "| Name | What it is |", "|---|---|"]
        lines += [f"| [{name}]({name}.md) | {prose(inspect.getdoc(public(name)).splitlines()[0])} |" for name in names]
    return "\n".join(lines)


def page_of(name):
    item = public(name)
    is_class = inspect.isclass(item)
    is_algorithm = item.__module__.startswith("keras_adaptive.optimizers.")
    hidden = set(OPTIONS) if is_algorithm else set()
    text = [f"# {name}", signature(f"keras_adaptive.{name}", item, hidden), *described(item, hidden)]
    own_page = Path(inspect.getfile(item)).with_suffix(".md")
    if is_algorithm and own_page.exists():
        text.insert(1, f"Its page in the catalogue: [{name}](../keras_adaptive/optimizers/{own_page.name}).")
    methods = [] if is_algorithm or not is_class else list(members(item))
    text += ["## Methods and properties"] if methods else []
    for method, value in methods:
        text.append(f"### {method}")
        if not isinstance(value, property):
            text.append(signature(method, value, {"self", "cls"}))
        text += described(value, set(), "####")
    return "\n\n".join(text)


def members(cls):
    """The documented ones, of our own classes."""
    found = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("keras_adaptive"):
            found |= {name: getattr(base, name) for name in vars(base) if not name.startswith("_")}
    for name, value in found.items():
        if (callable(value) or isinstance(value, property)) and value.__doc__:
            yield name, value


def signature(name, item, hidden):
    """As code, one argument a line, with types without their modules."""
    lines, all_parameters = [], inspect.signature(item).parameters.values()
    for parameter in (each for each in all_parameters if each.name not in hidden):
        if parameter.kind is parameter.KEYWORD_ONLY and "    *," not in lines:
            lines.append("    *,")
        short = re.sub(r"\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])", "", str(parameter)).replace("NoneType", "None")
        lines.append(f"    {short},")
    if hidden & set(OPTIONS):
        lines.append("    # and the options, by name")
    return "\n".join(["```python", *([f"{name}(", *lines, ")"] if lines else [f"{name}()"]), "```"])


def described(item, hidden, level="##"):
    """The docstring as Markdown; the arguments that are hidden can be opened."""
    first, *rest = re.split(rf"^({'|'.join(SECTIONS)}):(?=\s)", inspect.getdoc(item), flags=re.MULTILINE)
    yield prose(first.strip())
    for title, text in sorted(zip(rest[::2], rest[1::2], strict=True), key=lambda section: SECTIONS.index(section[0])):
        body = inspect.cleandoc(text)
        if title == "Args":
            entries = list(arguments(textwrap.dedent(text.strip("\n"))))
            yield f"{level} Arguments"
            yield from (entry for name, entry in entries if name not in hidden)
            options = [entry for name, entry in entries if name in hidden]
            if options:
                yield '??? note "The options, which every optimizer has"'
                more = "[AdaptiveOptimizer](AdaptiveOptimizer.md) says more about them."
                yield textwrap.indent("\n\n".join([more, *options]), "    ")
        elif title == "Example":
            yield f"{level} Example"
            yield from example(body)
        else:
            yield f"**{title}:**" + ("\n\n" if body.startswith("- ") else " ") + prose(body)


def arguments(text):
    """The name of each argument, and its entry of a definition list."""
    _, *rest = re.split(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*): ", text, flags=re.MULTILINE)
    for name, body in zip(rest[::2], rest[1::2], strict=True):
        paragraphs = [prose(part) for part in inspect.cleandoc(body).split("\n\n")]
        # Values that have a line each.
        paragraphs[1:] = [re.sub(r'^(?="[\w-]+": )', "- ", part, flags=re.MULTILINE) for part in paragraphs[1:]]
        yield name, f"`{name}`\n:   " + textwrap.indent("\n\n".join(paragraphs), "    ").lstrip()


def example(body):
    """Lines of Python and what they print as code, other lines as text."""
    for paragraph in body.split("\n\n"):
        yield f"```pycon\n{paragraph}\n```" if paragraph.startswith(">>>") else prose(paragraph)


def prose(text):
    """The text of a docstring, in which only indented blocks, lists and code are markup."""
    paragraphs = text.split("\n\n")
    return "\n\n".join(part if part.startswith("    ") else outside_of_code(part, escaped) for part in paragraphs)


def escaped(text):
    return re.sub(r"[*_[\]]", r"\\\g<0>", text).replace("<", "&lt;")
