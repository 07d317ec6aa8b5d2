"""``report.html``: everything on one page that needs nothing else, from any text that users put into their settings."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from html import escape
from importlib import resources
from string import Template
from typing import TYPE_CHECKING, Any

import pandas as pd

from raydistill.reports import page_tables
from raydistill.reports.build import Report
from raydistill.reports.screen import LABELS, counts, failed_trials, few, gains_over, headline, is_score, measure

if TYPE_CHECKING:
    from raydistill.reports.pictures import Picture

_TABLES = ("trials", "epochs", "summary", "effects")


def page(report: Report, pictures: Mapping[str, Picture], has_recipe: bool) -> str:
    """Return the page, pictures included; ``has_recipe`` says whether ``best.yaml`` lies beside it."""
    folder = resources.files("raydistill") / "reports"
    script = (folder / "page.js").read_text(encoding="utf-8")
    what = "Sweep" if report.kind == "sweep" else "Run"
    several = "s" if len(report.sources) > 1 else ""
    return Template((folder / "page.html").read_text(encoding="utf-8")).substitute(
        title=escape(f"{what}{several} {report.title}"),
        counts=escape(counts(report).removeprefix(f"{report.title}: ")),
        body="\n".join(part for part in _body(report, pictures, has_recipe) if part),
        script=script,
        # Only this script may run, whatever else finds its way into the page.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _body(report: Report, pictures: Mapping[str, Picture], has_recipe: bool) -> list[str]:
    row = _main_row(report)
    parts = ["".join(f"<p>{escape(sentence)}</p>" for sentence in headline(report))]
    if row is not None:
        parts.append(_cards(report, row))
    parts.append(_failures(report))
    parts.append(_list("Missing", list(report.notes)))
    if len(report.summary):
        parts.append(f"<h2>{'Points' if report.kind == 'sweep' else 'Stages'}</h2>")
        parts.append(f"<p class=faint>{_legend(report)}</p>{page_tables.points(report)}")
        parts.append(_left_out(report, report.summary, "mean", "summary.csv"))
    if pictures:
        parts.append("<h2>Pictures</h2>")
        parts += [_figure(name, picture) for name, picture in pictures.items()]
    if len(report.effects):
        parts.append(f"<h2>Settings</h2>{page_tables.effects(report)}")
    by_class = "" if row is None else page_tables.classes(row)
    if by_class:
        parts.append(f"<h2>Gain by class over the student alone</h2>{by_class}")
    if len(report.trials):
        parts.append(
            f"<details><summary>All {len(report.trials)} trials</summary>{page_tables.trials(report)}"
            f"{_left_out(report, report.trials, report.metric, 'trials.csv')}</details>"
        )
    parts.append(_files(has_recipe))
    return parts


def _left_out(report: Report, table: pd.DataFrame, score: str, file: str) -> str:
    """Say where the rows are that the page has no room for."""
    number = len(table) - len(page_tables.best_rows(report, table, score))
    return f'<p class=faint>{number} more, none of them better, in <a href="{file}">{file}</a>.</p>' if number else ""


def _main_row(report: Report) -> pd.Series[Any] | None:
    """Return the row that the page is about: the best point, or the distilled student."""
    if report.best is not None:
        return report.best.row
    if report.kind == "sweep":
        return None
    rows = report.summary[(report.summary["stage"] == "distilled") & (report.summary["n"] > 0)]
    return rows.iloc[0] if len(rows) else None


def _cards(report: Report, row: pd.Series[Any]) -> str:
    cards = [(f"{report.metric}, mean of {row['n']}" if row["n"] > 1 else report.metric, row["mean"], row["std"], "")]
    for other in gains_over(report):
        cards.append((f"over {LABELS[other]}", row[f"gain_over_{other}"], row[f"gain_over_{other}_std"], "+"))
    return f"<dl class=cards>{''.join(_card(report, *card) for card in cards)}</dl>"


def _card(report: Report, title: str, mean: float, std: float, sign: str) -> str:
    number, _, spread = measure(report, mean, std, sign).partition(" ± ")
    colour = ""
    if sign and number != "-" and report.mode == "max":
        colour = " class=good" if mean > 0 else " class=bad"
    small = f" <small>± {spread}</small>" if spread else ""
    return f"<div><dt>{escape(title)}</dt><dd{colour}>{number}{small}</dd></div>"


def _legend(report: Report) -> str:
    scale = "Scores in points of 100, at the best epoch; " if is_score(report.metric) else ""
    pairs = "of the same seed" if report.kind == "sweep" else "of the same run"
    return escape(f"{scale}gains are differences to the control {pairs}; ± is the standard deviation over n trials.")


def _failures(report: Report) -> str:
    return _list("Failed trials", [f"{name}: {reason}" for name, reason in failed_trials(report)])


def _list(title: str, sentences: list[str]) -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in few(sentences))
    return f"<h2>{escape(title)}</h2><ul>{items}</ul>" if sentences else ""


def _figure(name: str, picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode()
    caption = escape(picture.caption)
    return (
        f'<figure id="{escape(name)}"><figcaption>{caption}</figcaption>'
        f'<img alt="{caption}" src="data:image/png;base64,{data}"></figure>'
    )


def _files(has_recipe: bool) -> str:
    recipe = (
        '<p><a href="best.yaml">best.yaml</a> is the best point\'s complete recipe: '
        "<code>python -m raydistill.train best.yaml</code> trains it and the student alone.</p>"
        if has_recipe
        else ""
    )
    links = ", ".join(
        f'{name} (<a href="{name}.csv">csv</a>, <a href="{name}.parquet">parquet</a>)' for name in _TABLES
    )
    return f"<h2>Files</h2>{recipe}<p>Tables: {links}.</p>"
