"""The tables that commands and `describe()` print."""

import conformance
import pytest

from keras_adaptive.core import tables

HEAD, LINES = ("what", "number", ""), [("a|b", "7", "x"), ("c", "1234567", "")]


@pytest.mark.quick
def test_columns_are_as_wide_as_their_widest_cell():
    assert tables.columns([HEAD, *LINES], right=[1]) == [
        "what   number",
        "a|b         7  x",
        "c     1234567",
    ]


@pytest.mark.quick
def test_a_markdown_cell_may_contain_a_pipe():
    assert tables.markdown(HEAD, LINES, centered=[1, 2]) == [
        "| what | number | |",
        "|---|:-:|:-:|",
        r"| a\|b | 7 | x |",
        "| c | 1234567 | |",
    ]


@pytest.mark.quick
def test_the_table_of_coverage_names_what_did_not_pass():
    passed, skipped = {"t": "passed"}, {"t": "skipped"}
    found = {
        name: {column: {("t", "jax"): (outcome["t"], reason)} for column in conformance.COLUMNS}
        for name, outcome, reason in (("Adam", passed, ""), ("Lion", passed, ""), ("DoG", skipped, "no such thing"))
    }
    for name in found:
        found[name]["TPU"] = {("t", world): ("passed", "") for world in ("tpu-jax", "tpu-tensorflow")}
    found["Lion"]["float64"]["u", "torch"] = ("failed", "")
    found["Adam"]["TPU"].pop(("t", "tpu-jax"))
    found["Adam"].pop("save")
    assert conformance.table(found).splitlines() == [
        "All tests of 15 columns passed for 3 classes, except in these cells:",
        "",
        "| classes | column | why |",
        "|---|---|---|",
        "| Adam | TPU | not run everywhere |",
        "| Adam | save | not run everywhere |",
        *(f"| DoG | {column} | no such thing |" for column in conformance.COLUMNS if column != "TPU"),
        "| Lion | float64 | a test failed |",
    ]
    rest = [column for column in conformance.COLUMNS if column != "TPU"]
    full = {"DoG": found["DoG"] | {column: found["Lion"]["groups"] for column in rest}}
    assert conformance.table(full) == "All tests of 15 columns passed for 1 classes."
