"""Tests of raydistill.data.formats.json_text."""

from __future__ import annotations

import json

import pytest

from raydistill.data.formats.json_text import is_text, parse_json, shown


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_every_encoding_of_json_is_read(encoding: str) -> None:
    assert parse_json('{"a": ["ä", 1e3, null]}'.encode(encoding)) == {"a": ["ä", 1000.0, None]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' twice in one object"),
        ("[" * 100_000, "nested too deeply"),
        ("9" * 5000, r"^Exceeds the limit \(4300 digits\)[^;]*$"),
    ],
)
def test_what_json_would_fail_at_or_hide_is_a_value_error(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_json(text.encode())


def test_the_place_of_an_error_is_kept() -> None:
    with pytest.raises(json.JSONDecodeError) as caught:
        parse_json(b"[1,\n 2")
    assert caught.value.lineno == 2


def test_long_and_deep_values_are_shown_in_short() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert shown("x" * 500) == "'" + "x" * 76 + "..."
    assert shown(deep) == "a deeply nested list"
    while deep:  # taken apart by hand: freeing it at once would recurse
        deep = deep[0]  # type: ignore[assignment]


@pytest.mark.parametrize("value", ["dog", "hot dog", "N/A", "a\xa0b", "犬", "\U0001f415"])
def test_names_of_all_scripts_are_texts(value: str) -> None:
    assert is_text(value)


@pytest.mark.parametrize("value", ["", " ", "a\nb", "\0", "a\x7f", "\ud800", 5, None, True])
def test_what_cannot_be_shown_is_no_text(value: object) -> None:
    assert not is_text(value)
