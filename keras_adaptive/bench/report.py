"""The measurements as a table and as JSON."""

import importlib.metadata
import importlib.util
import json
import os
import platform
from dataclasses import asdict
from pathlib import Path

import keras

import keras_adaptive
from keras_adaptive.core import tables

OURS = "keras_adaptive"
_LIBRARIES = {
    "tensorflow": ("keras", "tensorflow"),
    "jax": ("keras", "jax", "jaxlib", "optax"),
    "torch": ("keras", "torch"),
}


def machine(device: str) -> dict:
    """The machine: the name of the device, the number of cores, the system and the versions of the libraries."""
    backend = keras.backend.backend()
    found = {name: importlib.metadata.version(name) for name in _LIBRARIES[backend] if importlib.util.find_spec(name)}
    return {
        "device": device,
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "backend": backend,
        "versions": {"keras_adaptive": keras_adaptive.__version__, **found},
    }


def heading(machine: dict) -> str:
    """The machine in one line."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    device, cores, python = machine["device"], machine["cores"], machine["python"]
    return f"{device}, {cores} cores, Python {python}, {machine['backend']}: {versions}"


def table(head, lines, markdown: bool = False) -> str:
    """A table with this head and these lines, in columns or as markdown; without columns that are empty."""
    filled = [place for place in range(len(head)) if not lines or any(line[place] for line in lines)]
    head, lines = ([[row[place] for place in filled] for row in rows] for rows in ([head], lines))
    head = head[0]
    return "\n".join(tables.markdown(head, lines) if markdown else tables.columns([head, *lines]))


HEAD = ("workload", "optimizer", "by", "ms", "device ms", "x floor", "ours / it", "state MB", "compile s", "extra MB")


def line(row) -> list[str]:
    """A Measurement as a line of the table."""
    names = [row.workload, row.optimizer, row.by]
    if row.error:
        return [*names, "failed", *[""] * (len(HEAD) - 4)]
    extra = None if row.extra_bytes is None else row.extra_bytes / 1e6
    numbers = (
        *((time, ".3g" if (time or 0) < 100 else ".0f") for time in (row.milliseconds, row.device_milliseconds)),
        (row.floor_ratio, ".2f"),
        (row.ours_ratio, ".3f"),
        (row.state_bytes / 1e6, ".1f"),
        (row.compile_seconds, ".2f"),
        (extra, ".1f"),
    )
    return names + ["" if number is None else f"{number:{form}}" for number, form in numbers]


def write_json(path: Path, about: dict, rows) -> None:
    """Writes the measurements, the machine and the settings."""
    content = {**about, "results": [asdict(row) for row in rows]}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
