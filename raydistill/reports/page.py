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
from raydistill.reports.best_recipe import recipe_note
from raydistill.reports.build import Report
from raydistill.reports.headline import headline
from raydistill.reports.luck import FEWEST_PAIRS, is_clear
from raydistill.reports.screen import counts, failed_trials, few
from raydistill.reports.wording import LABELS, gains_over, is_score, measure

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
            cards=[*_cards_of_confirmation(report), *([] if row is None else _cards(report, row))],
            lists={"Failed trials": few(failures), "Growth": few(report.growth), "Missing": few(report.notes)},
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
            recipe=recipe_note(report) if has_recipe else "",
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
    """Return the row that the page is about: the best point if any differs, or the distilled student."""
    if report.best is not None:
        return report.best.row if report.best.differs else None
    if report.kind == "sweep":
        return None
    rows = report.summary[(report.summary["stage"] == "distilled") & (report.summary["n"] > 0)]
    return rows.iloc[0] if len(rows) else None


def _cards(report: Report, row: pd.Series[Any]) -> Iterator[Card]:
    title = f"{report.metric}, mean of {row['n']}" if row["n"] > 1 else report.metric
    number, _, spread = measure(report, row["mean"], row["std"]).partition(" ± ")
    yield Card(title, number, spread, "")
    for other in gains_over(report):
        yield _card(report, row, other, "")


def _cards_of_confirmation(report: Report) -> Iterator[Card]:
    if report.confirmation is not None:
        yield _card(report, report.confirmation, "baseline", ", fresh seeds")


def _card(report: Report, row: pd.Series[Any], other: str, where: str) -> Card:
    """Return a gain; its colour says that it is more than chance."""
    gain = f"gain_over_{other}"
    number, _, spread = measure(report, row[gain], row[f"{gain}_std"], "+").partition(" ± ")
    pairs = "" if other == "teacher" else f", {row[f'{gain}_pairs']} pair{'' if row[f'{gain}_pairs'] == 1 else 's'}"
    colour = ("good" if row[gain] > 0 else "bad") if is_clear(row, gain) and report.mode == "max" else ""
    return Card(f"over {LABELS[other]}{where}{pairs}", number, spread, colour)


def _legend(report: Report) -> str:
    scale = "Scores in points of 100, at the best epoch; " if is_score(report.metric) else ""
    pairs = "of the same seed" if report.kind == "sweep" else "of the same run"
    return (
        f"{scale}gains are differences to the control {pairs}; ± is the standard deviation over n trials. A gain has a "
        f"colour where it is more than chance: on {FEWEST_PAIRS} pairs or more its 95% interval excludes 0, and so "
        "does the wider one in which all points are compared at once: where nothing has an effect, a colour appears in "
        "one report of twenty at most. Points with a trial that is missing, failed or was stopped come last."
    )
