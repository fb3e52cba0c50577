"""The results as lines of JSON, one for each run. They are written at once, so that a run that is stopped continues."""

import json
import lzma
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# The lines that belong to the package.
STORED = Path(__file__).with_name("results")
NEW = "lines.jsonl"


def key(run: Any) -> tuple:
    """What makes a run the same as another: of a line, or of a `protocol.Run`."""
    names = ("workload", "contender", "track", "number", "seed")
    return tuple(run[name] if isinstance(run, dict) else getattr(run, name) for name in names)


def read(folder: Path) -> list[dict[str, Any]]:
    """All lines in a folder. Of lines with the same key the last one counts.

    Raises:
        ValueError: a file has a line that is no JSON. Only the last one may be a part of a line.
    """
    found: dict[tuple, dict[str, Any]] = {}
    files = [(file, lzma.decompress(file.read_bytes()).decode()) for file in sorted(folder.glob("*.jsonl.xz"))]
    if (folder / NEW).exists():
        files.append((folder / NEW, (folder / NEW).read_text("utf-8")))
    for file, text in files:
        # What follows the last end of a line is nothing, or a part of a line.
        for number, row in enumerate(text.split("\n")[:-1], start=1):
            try:
                line = json.loads(row)
            except json.JSONDecodeError as error:
                raise ValueError(f"line {number} of {file} is not a line of JSON; remove it ({error})") from None
            found[key(line)] = line
    return list(found.values())


def append(folder: Path, line: dict[str, Any]) -> None:
    """Writes a line at the end of the folder's file, in the place of a part of a line that stands there."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / NEW).open("a+b") as file:
        end = file.seek(0, 2)
        file.seek(max(0, end - 100_000))
        tail = file.read()
        if torn := len(tail) - (tail.rfind(b"\n") + 1):
            file.truncate(end - torn)
        file.write((json.dumps(line) + "\n").encode())


def pack(folder: Path, lines: Iterable[dict[str, Any]]) -> None:
    """Compresses these lines in the place of all that the folder has, one file for each contender."""
    by_name: dict[str, list] = {}
    for line in sorted(lines, key=key):
        by_name.setdefault(line["contender"], []).append(line)
    files = {folder / f"{name.replace(', ', '-').replace(' ', '-')}.jsonl.xz": found for name, found in by_name.items()}
    for file, found in files.items():
        text = "".join(json.dumps(line) + "\n" for line in found)
        new = file.with_suffix(".new")
        new.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
        # At once, so that an interrupt leaves the old file or the new one.
        new.replace(file)
    for file in set(folder.glob("*.jsonl.xz")) - set(files):
        file.unlink()
    (folder / NEW).unlink(missing_ok=True)


def numbers(values: Iterable[float]) -> list[float | None]:
    """Numbers with five digits; None where they are not finite, for which JSON has no number."""
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in values]
