"""A block of a Markdown file between two marks, <!-- NAME --> and <!-- /NAME -->, that a script writes."""

from options import refuse


def marks(name):
    """The lines before and after the block."""
    return f"<!-- {name} -->", f"<!-- /{name} -->"


def check(path, name):
    """Ends the program if `path` is not a file with the marks of that block."""
    if not path.is_file() or not all(mark in path.read_text("utf-8") for mark in marks(name)):
        refuse(f"--readme must be a file with the lines {' and '.join(marks(name))}. Received: {path}")


def write(path, name, block):
    """Replaces the block in that file; nothing else changes."""
    begin, end = marks(name)
    before, _, rest = path.read_text("utf-8").partition(begin)
    _, _, after = rest.partition(end)
    path.write_text(f"{before}{begin}\n{block}\n{end}{after}", "utf-8")
