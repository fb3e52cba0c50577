"""The table of test coverage, from the outcomes of test runs: the cells in which not all tests passed.

KERAS_ADAPTIVE_OUTCOMES=outcomes pytest                             and the other runs of .ci/run
python tests/conformance.py outcomes tests/coverage.md --write     without --write it compares
"""

import argparse
import json
import sys
from pathlib import Path

from keras_adaptive.core import tables

COLUMNS = (
    "float64",
    "oracle",
    "float32",
    "bfloat16",
    "float16",
    "sparse",
    "XLA",
    "JAX",
    "torch",
    "TPU",
    "replicas",
    "accumulation",
    "groups",
    "save",
    "slot_dtype",
)
# A column is full if the tests of each of these worlds passed.
WORLDS = {"TPU": {"tpu-jax", "tpu-tensorflow"}}
BEGIN, END = "<!-- coverage -->", "<!-- /coverage -->"


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


def why_not_full(column, tests):
    """Why not all tests of a column passed for a class in all worlds; "" if they did."""
    outcomes = {outcome for outcome, _ in tests.values()}
    passed = {world for (_, world), (outcome, _) in tests.items() if outcome == "passed"}
    if "failed" in outcomes:
        return "a test failed"
    if passed and passed >= WORLDS.get(column, set()):
        return ""
    return next((reason for outcome, reason in tests.values() if outcome == "skipped"), "not run everywhere")


def table(found):
    """Markdown: how many classes and columns there are, and what is missing in them."""
    missing: dict[tuple[str, str], list[str]] = {}
    for optimizer in sorted(found, key=str.lower):
        for column in COLUMNS:
            if reason := why_not_full(column, found[optimizer].get(column, {})):
                missing.setdefault((column, reason), []).append(optimizer)
    said = f"All tests of {len(COLUMNS)} columns passed for {len(found)} classes"
    if not missing:
        return f"{said}."
    lines = [[", ".join(names), column, reason] for (column, reason), names in missing.items()]
    return "\n".join([f"{said}, except in these cells:\n", *tables.markdown(("classes", "column", "why"), lines)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outcomes", help="the folder that the runs wrote to")
    parser.add_argument("page", help="the file that holds the table")
    parser.add_argument("--write", action="store_true", help="put the table there instead of comparing")
    arguments = parser.parse_args()
    path = Path(arguments.page)
    text = path.read_text()
    start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    new = f"{text[:start]}\n{table(read(arguments.outcomes))}\n{text[end:]}"
    if arguments.write:
        path.write_text(new)
    elif new != text:
        sys.exit(f"The table of test coverage in {path} is not that of the tests:\n{new[start : new.index(END)]}")


if __name__ == "__main__":
    main()
