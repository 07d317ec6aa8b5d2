"""Tests of raydistill.config.yaml_text: what is read takes no longer than its length says."""

from __future__ import annotations

import pytest

from raydistill.config import yaml_text
from raydistill.config.renamed import current_tree
from raydistill.config.tree import lay_on, nested
from raydistill.errors import UserError

HOSTILE = {
    "4 MB and more": ("a: [" + "1, " * 2_000_000 + "]", "6,000,005 letters, more than the 4,000,000 that are read"),
    "a list of a million": ("a: [" + "1, " * 1_000_000 + "]", "more than 100000 values"),
    "a million keys": ("".join(f"k{number}: 1\n" for number in range(300_000)), "more than 100000 values"),
    "aliases of aliases": (
        "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)),
        "more than 100000 values, aliases written out",
    ),
    "a value that holds itself": ("a: &a [*a]", "a value that holds itself"),
    "merged again and again": (
        "a: &a {x: 1}\nb: {<<: [" + ", ".join(["*a"] * 36_000) + "]}",
        "more than 100000 values, aliases written out",
    ),
    "nested a thousand deep": ("a: " + "[" * 1100 + "]" * 1100, "nested too deeply"),
    "keys of one hash": ("".join(f"{n * (2**61 - 1)}: 1\n" for n in range(1, 2000)), "a key must be a name"),
    "a key twice, of 5,000": ("".join(f"k{n}: 1\n" for n in range(4_900)) + "k7: 2", "key 'k7' is given twice"),
    "a tag that makes objects": ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
}


@pytest.mark.parametrize("quickly", [False, True])
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_text_that_would_take_long_is_refused_by_every_reader(kind: str, quickly: bool) -> None:
    text, said = HOSTILE[kind]
    with pytest.raises(UserError, match=f"file: must be YAML .*{said}|nesting depth"):
        yaml_text.read_mapping(text, "file", quickly)


@pytest.mark.parametrize(
    "number", ["1" * 100_000 + "e", "1:" * 50_000 + "1", "0x" + "f" * 100_000, "1_" * 50_000 + "1", "." + "1" * 100_000]
)
def test_what_is_too_long_for_a_number_is_a_text(number: str) -> None:
    assert yaml_text.read_value(f"a: {number}") == {"a": number}


@pytest.mark.parametrize(
    "text",
    [
        "a: 1e-3\nb: [1.5e3, 1.e2, .5e1, -1e-4, 1e5x, e5]",
        "a: &x {b: 1}\nc: {<<: *x, d: 2}\ne: *x",
        "a: 0x10\nb: 1_000\nc: yes\nd: 2020-01-01\ne: ~\nf: '1e3'\ng: 1:30",
        'a: |\n  x\n  y\nb: >-\n  x\n  y\nc: "\\u00e9\\t"',
        "",
        "- 1\n- {a: b}",
    ],
)
def test_both_readers_read_the_same(text: str) -> None:
    assert yaml_text.read_value(text) == yaml_text.read_value(text, quickly=True)


def test_the_quick_reader_refuses_a_key_twice_and_reads_what_was_written() -> None:
    with pytest.raises(ValueError, match="key 'a' is given twice"):
        yaml_text.read_value("a: 1\na: 2", quickly=True)
    value = {"a": {"b": [1e-5, "1e-5", None, "x: y"]}, "c": 3}
    assert yaml_text.read_value(yaml_text.write(value), quickly=True) == value


def test_many_settings_are_laid_into_one_tree_without_copying_it_for_each() -> None:
    many = {f"a{number}.b": number for number in range(50_000)}
    assert nested(many)["a49999"] == {"b": 49_999}
    assert len(current_tree(nested(many))) == 50_000
    tree = {"a": {"b": 1}, "c": 2}
    lay_on(tree, {"a": {"d": 3}, "c": {"e": 4}})
    assert tree == {"a": {"b": 1, "d": 3}, "c": {"e": 4}}
