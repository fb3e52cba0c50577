"""The table of which contract tests each class passes, from the outcomes of test runs.

KERAS_ADAPTIVE_OUTCOMES=outcomes pytest                    and the other runs of .ci/run
python tests/conformance.py outcomes README.md --write     without --write it compares
"""

import argparse
import json
import sys
from pathlib import Path

from keras_adaptive.core import tables

COLUMNS = {
    "float64": "float64",
    "oracle": "oracle",
    "float32": "float32",
    "bfloat16": "bfloat16",
    "float16": "float16",
    "sparse": "sparse",
    "XLA": "XLA",
    "JAX": "JAX",
    "torch": "torch",
    "TPU": "TPU",
    "replicas": "replicas",
    "accumulation": "accumulation",
    "groups": "groups",
    "save": "save",
    "slot_dtype": "small slots",
}
# A column is full if the tests of each of these worlds passed.
WORLDS = {"TPU": {"tpu-jax", "tpu-tensorflow"}}
BEGIN, END = "<!-- conformance -->", "<!-- end of conformance -->"


def read(folder):
    """For each class and column the tests by name and world, each with the best outcome that it had, and the reason."""
    found = {}
    for path in sorted(Path(folder).glob("*.json")):
        run = json.loads(path.read_text())
        for optimizer, column, test, outcome, reason in run["cells"]:
            tests = found.setdefault(optimizer, {}).setdefault(column, {})
            before = tests.get((test, run["world"]))
            # A run without torch skips what a run with torch holds.
            if before is None or "passed" not in before:
                tests[test, run["world"]] = (outcome, reason)
    return found


def cell(column, tests, reasons):
    """A tick if all tests of all worlds passed; the number of a reason if they were skipped; nothing otherwise."""
    outcomes = {outcome for outcome, _ in tests.values()}
    passed = {world for (_, world), (outcome, _) in tests.items() if outcome == "passed"}
    if "failed" in outcomes or not tests:
        return ""
    if passed and passed >= WORLDS.get(column, set()):
        return "✓"
    reason = next((reason for outcome, reason in tests.values() if outcome == "skipped"), "not run everywhere")
    return f"{reasons.setdefault(reason, len(reasons) + 1)}"


def table(found):
    """Markdown."""
    reasons: dict[str, int] = {}
    lines = [
        [optimizer, *(cell(column, found[optimizer].get(column, {}), reasons) for column in COLUMNS)]
        for optimizer in sorted(found, key=str.lower)
    ]
    head = ["class", *COLUMNS.values()]
    made = tables.markdown(head, lines, centered=range(1, len(head)))
    return "\n".join([*made, *(f"\n{number}: {reason}." for reason, number in reasons.items())])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outcomes", help="the folder that the runs wrote to")
    parser.add_argument("readme", help="the file that holds the table")
    parser.add_argument("--write", action="store_true", help="put the table there instead of comparing")
    arguments = parser.parse_args()
    path = Path(arguments.readme)
    text = path.read_text()
    start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    new = f"{text[:start]}\n{table(read(arguments.outcomes))}\n{text[end:]}"
    if arguments.write:
        path.write_text(new)
    elif new != text:
        sys.exit(f"The table of conformance in {path} is not that of the tests:\n{new[start : new.index(END)]}")


if __name__ == "__main__":
    main()
