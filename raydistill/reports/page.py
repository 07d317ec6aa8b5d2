"""``report.html``: everything on one page that needs nothing else.

What the page says is gathered here; how it is written is ``page.html``, where jinja2 escapes every text, so that
none that users put into their settings, classes or folder names is taken for markup.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from raydistill.errors import printable
from raydistill.reports import page_tables
from raydistill.reports.build import Report
from raydistill.reports.screen import LABELS, counts, failed_trials, few, gains_over, headline, is_score, measure

if TYPE_CHECKING:
    from raydistill.reports.pictures import Picture


@dataclass(frozen=True)
class Card:
    """One big number at the top of the page."""

    title: str
    number: str
    spread: str
    colour: str  # good, bad or none


def page(report: Report, pictures: Mapping[str, Picture], has_recipe: bool) -> str:
    """Return the page, pictures included; ``has_recipe`` says whether ``best.yaml`` lies beside it."""
    what = "Sweep" if report.kind == "sweep" else "Run"
    several = "s" if len(report.sources) > 1 else ""
    row = _main_row(report)
    failures = [f"{name}: {reason}" for name, reason in failed_trials(report)]
    return (
        templates()
        .get_template("page.html")
        .render(
            title=f"{what}{several} {report.title}",
            counts=counts(report).removeprefix(f"{report.title}: "),
            headline=headline(report),
            cards=[] if row is None else list(_cards(report, row)),
            lists={"Failed trials": few(failures), "Missing": few(report.notes)},
            legend=_legend(report),
            points=page_tables.points(report),
            pictures=pictures,
            effects=page_tables.effects(report),
            by_class=page_tables.classes(row),
            populations={
                "schedules": page_tables.schedules(report),
                "takeovers": page_tables.takeovers(report),
            },
            trials=page_tables.trials(report),
            files=[*report.tables],
            has_recipe=has_recipe,
        )
    )


@functools.cache
def templates() -> Environment:
    """Return the environment of the templates, which lie beside this module; no text is exempt from escaping."""
    environment = Environment(
        loader=PackageLoader(__package__, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.finalize = lambda value: printable(value, lines=True) if type(value) is str else value
    environment.filters["base64"] = lambda content: base64.b64encode(content).decode()
    environment.filters["sha256"] = lambda text: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return environment


def _main_row(report: Report) -> pd.Series[Any] | None:
    """Return the row that the page is about: the best point, or the distilled student."""
    if report.best is not None:
        return report.best.row
    if report.kind == "sweep":
        return None
    rows = report.summary[(report.summary["stage"] == "distilled") & (report.summary["n"] > 0)]
    return rows.iloc[0] if len(rows) else None


def _cards(report: Report, row: pd.Series[Any]) -> Iterator[Card]:
    title = f"{report.metric}, mean of {row['n']}" if row["n"] > 1 else report.metric
    yield _card(report, title, row["mean"], row["std"], "")
    for other in gains_over(report):
        gain = f"gain_over_{other}"
        yield _card(report, f"over {LABELS[other]}", row[gain], row[f"{gain}_std"], "+")


def _card(report: Report, title: str, mean: float, std: float, sign: str) -> Card:
    number, _, spread = measure(report, mean, std, sign).partition(" ± ")
    colour = ""
    if sign and number != "-" and report.mode == "max":
        colour = "good" if mean > 0 else "bad"
    return Card(title, number, spread, colour)


def _legend(report: Report) -> str:
    scale = "Scores in points of 100, at the best epoch; " if is_score(report.metric) else ""
    pairs = "of the same seed" if report.kind == "sweep" else "of the same run"
    return f"{scale}gains are differences to the control {pairs}; ± is the standard deviation over n trials."
