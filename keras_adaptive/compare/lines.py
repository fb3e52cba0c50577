"""The results as lines of JSON, one for each run. They are written at once, so that a run that is stopped continues."""

import json
import lzma
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# The lines that belong to the package.
KEPT = Path(__file__).with_name("results")
NEW = "lines.jsonl"


def key(run: Any) -> tuple:
    """What makes a run the same as another: of a line, or of a `protocol.Run`."""
    names = ("workload", "contender", "track", "number", "seed")
    return tuple(run[name] if isinstance(run, dict) else getattr(run, name) for name in names)


def read(folder: Path) -> list[dict[str, Any]]:
    """All lines in a folder. Of lines with the same key the last one counts."""
    found: dict[tuple, dict[str, Any]] = {}
    files = sorted(folder.glob("*.jsonl.xz"))
    texts = [lzma.decompress(file.read_bytes()).decode() for file in files]
    if (folder / NEW).exists():
        texts.append((folder / NEW).read_text("utf-8"))
    for text in texts:
        for row in text.splitlines():
            try:
                line = json.loads(row)
            except json.JSONDecodeError:
                # The last line of a run that was stopped in the middle of it.
                continue
            found[key(line)] = line
    return list(found.values())


def append(folder: Path, line: dict[str, Any]) -> None:
    """Writes a line at the end of the folder's file."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / NEW).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def pack(folder: Path) -> None:
    """Compresses all lines of a folder, one file for each contender."""
    by_name: dict[str, list] = {}
    for line in sorted(read(folder), key=key):
        by_name.setdefault(line["contender"], []).append(line)
    for name, found in by_name.items():
        text = "".join(json.dumps(line) + "\n" for line in found)
        file = folder / f"{name.replace(', ', '-').replace(' ', '-')}.jsonl.xz"
        file.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
    (folder / NEW).unlink(missing_ok=True)


def numbers(values: Iterable[float]) -> list[float | None]:
    """Numbers with five digits; None where they are not finite, for which JSON has no number."""
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in values]
