"""Tests of raydistill.errors: what names of users can do to a terminal, to a message and to its length."""

from __future__ import annotations

import pytest

from raydistill.errors import one_error, printable, printable_error

ACTING = {
    "a control sequence": ("\x1b[2J", r"\x1b[2J"),
    "a bell": ("\x07", r"\x07"),
    "a carriage return": ("a\rb", r"a\rb"),
    "a line end": ("a\nb", r"a\nb"),
    "a control character of Latin-1": ("\x9b31m", r"\x9b31m"),
    "a line separator": ("a\u2028b\u2029", r"a\u2028b\u2029"),
    "the other direction": ("\u202egpj.exe", r"\u202egpj.exe"),
    "an isolated direction": ("\u2066a\u2069", r"\u2066a\u2069"),
    "a letter without width": ("ca\u200bt\ufeff", r"ca\u200bt\ufeff"),
    "a joiner": ("ca\u2060t\u200d", r"ca\u2060t\u200d"),
    "a hidden hyphen": ("ca\u00adt", r"ca\xadt"),
    "a tag": ("cat\U000e0041", r"cat\U000e0041"),
    "a blank letter": ("\u3164cat\u2800", r"\u3164cat\u2800"),
    "half a letter": ("cat\ud800", r"cat\ud800"),
    "a byte that is no text": (b"cat\xff".decode("utf-8", "surrogateescape"), r"cat\udcff"),
    "a letter nobody has defined": ("\U0003ffff", r"\U0003ffff"),
}


@pytest.mark.parametrize("kind", ACTING)
def test_what_acts_or_hides_is_shown_escaped(kind: str) -> None:
    text, shown = ACTING[kind]
    assert printable(text) == shown
    assert printable(text).isprintable()


@pytest.mark.parametrize(
    "text", ["cat", "H\u00fcnd 1", "\u732b", "\u0642\u0637", "at 1.00\u202fPM", "\U0001f408", "a\\x1b"]
)
def test_what_can_be_seen_stays(text: str) -> None:
    assert printable(text) == text


def test_an_error_keeps_its_own_lines_and_none_of_a_name() -> None:
    error = one_error(["a\nb: gone", "c: gone"], "two\x1b")
    assert printable_error(error).splitlines() == [r"two\x1b (2 problems):", r"  - a\nb: gone", "  - c: gone"]


def test_very_many_and_very_long_problems_are_cut() -> None:
    lines = str(one_error(["x" * 10**6] * 500, "bad")).splitlines()
    assert len(lines) == 102 and lines[-1] == "  ... and 400 more"
    assert all(len(line) < 10_100 for line in lines)
