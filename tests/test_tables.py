"""The tables that commands and `describe()` print."""

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
