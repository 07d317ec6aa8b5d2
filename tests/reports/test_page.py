"""The page as HTML: what users wrote stays text, and nothing but templates writes markup."""

from __future__ import annotations

import ast
import base64
import dataclasses
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from jinja2 import UndefinedError

from raydistill.reports import load, page_tables
from raydistill.reports.build import Report
from raydistill.reports.page import page, templates
from raydistill.reports.pictures import Picture
from tests.reports import made_up

ROOM = Path(page_tables.__file__).parent
HOSTILE = [
    "<script>alert(1)</script>",
    '"onmouseover="alert(1)',
    "'onmouseover='alert(1)",
    "{{7*7}}{% raw %}{# no #}",
    "]]></style></title><img src=x onerror=alert(1)>",
    "&lt;b&gt;",
]


class _Read(HTMLParser):
    """Tags, names of attributes and texts, as a browser reads them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def _written_by(report: Report, text: str) -> Report:
    """Return the report with ``text`` as title, setting and its value, class, trial, reason and note."""
    by_class = {"gain/class/cat": f"gain/class/{text}"}
    trials = report.trials.assign(trial=text, status="failed", reason=text, **{text: text})
    summary = report.summary.rename(columns=by_class).assign(**{text: text})
    assert report.best is not None
    row = pd.concat([report.best.row.rename(by_class), pd.Series({text: text})])
    best = dataclasses.replace(report.best, row=row)
    effects = report.effects.assign(setting=text, value=text)
    return dataclasses.replace(
        report, title=text, trials=trials, summary=summary, effects=effects, best=best, settings=(text,), notes=(text,)
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_what_users_wrote_stays_text_wherever_it_stands(report: Report, text: str) -> None:
    pictures = {"scores": Picture(text, b"png")}
    harmless = _Read(
        page(_written_by(report, "harmless"), pictures | {"scores": Picture("-", b"png")}, has_recipe=True)
    )
    read = _Read(page(_written_by(report, text), pictures, has_recipe=True))
    assert read.tags == harmless.tags
    assert set(read.attributes) == set(harmless.attributes)
    places = sum("harmless" in own for own in harmless.texts)
    assert sum(text in own for own in read.texts) == places + 1  # and the picture's
    assert places > len(report.trials) * 3


def test_only_the_pages_own_script_may_run(report: Report) -> None:
    text = page(report, {}, has_recipe=False)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert "sortBy" in script
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{allowed}'" in text


def test_a_picture_is_in_the_page_byte_for_byte(report: Report) -> None:
    content = bytes(range(256))
    (shown,) = re.findall(
        r"data:image/png;base64,([^\"]*)", page(report, {"x": Picture("x", content)}, has_recipe=False)
    )
    assert base64.b64decode(shown, validate=True) == content


def test_a_value_that_a_template_lacks_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="title"):
        templates().get_template("page.html").render()


def test_a_page_of_a_sweep_that_has_only_begun_has_no_tables(tmp_path: Path) -> None:
    made_up.begin(tmp_path / "s", teacher=None)
    read = _Read(page(load(tmp_path / "s"), {}, has_recipe=False))
    assert "table" not in read.tags
    assert any("no trial was begun yet" in text for text in read.texts)


@pytest.mark.parametrize("module", sorted(ROOM.glob("*.py")), ids=lambda module: module.stem)
def test_no_python_writes_markup_or_calls_a_text_safe(module: Path) -> None:
    tree = ast.parse(module.read_text(encoding="utf-8"))
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    assert [text for text in texts if re.search(r"</?(?!name>)[a-z]+[ >]", text)] == []
    assert "Markup" not in {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


@pytest.mark.parametrize("template", sorted(ROOM.glob("*.html")), ids=lambda template: template.stem)
def test_no_template_turns_escaping_off(template: Path) -> None:
    assert not re.search(r"\|\s*safe|autoescape", template.read_text(encoding="utf-8"))
