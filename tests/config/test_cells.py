"""A setting's value as one cell, and back."""

from __future__ import annotations

import csv
import io
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raydistill.config.cells import as_cell, from_cell, shown
from raydistill.sweeps.file import point_text

LOOK_ALIKES = [
    *(
        "null",
        "Null",
        "NULL",
        "~",
        "None",
        "none",
        "NaN",
        "nan",
        "<NA>",
        "N/A",
        "#N/A",
        "1.#IND",
        "true",
        "True",
        "yes",
    ),
    *("on", "1", "-1", "1e3", "1_000", "0x10", "1:30", "2020-01-01", "inf", ".inf", "[1]", "{a: 1}", "a: b", "# x"),
    *("", " ", " x ", "-", "- a", "=1+1", "+a", "@a", "'q'", '"q"', "*a", "&a", "!x", "%x", "`x", "?", "|", ">", "---"),
    *("a\nb", "a\tb", "a\r", "\x7f", "\u200b", "é", "a, b", 'say "a"', "<b>&amp;", "x:", "a #b", "\\n"),
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def _same(value: Any, other: Any) -> bool:
    return type(value) is type(other) and bool(value == other)


@pytest.mark.parametrize("text", LOOK_ALIKES)
def test_a_text_stays_the_text_it_was(text: str) -> None:
    assert from_cell(as_cell(text)) == text


@given(VALUES)
def test_any_value_is_read_back_as_it_was(value: Any) -> None:
    assert _same(from_cell(as_cell(value)), value)


def test_no_cell_is_lost_or_changed_by_what_reads_a_csv_file() -> None:
    values = [None, True, False, 1, 2.5, [1, None], {"a": None}, *LOOK_ALIKES]
    cells = [as_cell(value) for value in values]
    assert len(set(cells)) == len(cells)
    file = io.StringIO()
    pd.DataFrame({"x": cells}).to_csv(file, index=False, quoting=csv.QUOTE_NONNUMERIC)
    file.seek(0)
    read = pd.read_csv(file)["x"]
    assert list(read) == cells
    assert all(_same(from_cell(cell), value) for cell, value in zip(read, values, strict=True))
    assert not any(cell.startswith(("=", "+", "@", "'")) for cell in cells)  # a spreadsheet may run it


def test_values_are_shown_apart_and_other_texts_as_they_are() -> None:
    values = [None, "null", True, "true", 1, "1", [1], "[1]", "", "-"]
    assert len({shown(value) for value in values}) == len(values)
    for text in ("linear", "a, b", "none", "<b>", 'say "a"', "=1"):
        assert shown(text) == text
    assert point_text({"a": None, "b": "null", "c": True, "d": "true", "e": 0.30000000000000004}) == (
        'a=null, b="null", c=true, d="true", e=0.3'
    )
