"""Tables of the page: sortable, every text escaped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

import pandas as pd

from raydistill.reports.build import Report
from raydistill.reports.effects import is_numeric
from raydistill.reports.screen import LABELS, gains_over, has_test, is_score, one_line, point_name, state
from raydistill.reports.settings import as_text
from raydistill.reports.summary import GAIN_BY_CLASS
from raydistill.reports.trials import SCORES, SIZES, TEST

Style = Literal["text", "score", "gain", "number", "share"]
_LONG = 40  # letters; a longer text is broken into lines
MOST_ROWS = 500
"""Of points and of trials, the controls apart: a browser sorts thousands of rows for seconds, and nobody reads them."""
_CONTROLS = ("baseline", "constant", "teacher")
_DETAILS = {"best_epoch": "best epoch", "epochs": "epochs", "seconds": "seconds"}


@dataclass(frozen=True)
class Column:
    """One column: what stands above it and how its values are shown."""

    title: str
    style: Style
    values: Sequence[Any]
    spreads: Sequence[float] | None = None  # shown as ± behind the value


def points(report: Report) -> str:
    """Return the summary: points of a sweep, or stages of runs; the best of very many."""
    table, metric = best_rows(report, report.summary, "mean"), _style(report)
    rows = [row for _, row in table.iterrows()]
    columns = [
        Column("point" if report.kind == "sweep" else "stage", "text", [point_name(report, row) for row in rows])
    ]
    columns.append(Column(report.metric, metric, list(table["mean"]), list(table["std"])))
    columns.append(Column("n", "number", list(table["n"])))
    for other in gains_over(report):
        columns.append(_gain(report, table, f"gain_over_{other}", f"vs {LABELS[other]}"))
        if other == "baseline":
            columns += [
                Column(f"95% {end}", _gain_style(report), list(table[f"gain_over_baseline_{end}"]))
                for end in ("low", "high")
                if table[f"gain_over_baseline_{end}"].notna().any()
            ]
    if has_test(report):
        on_test = list(table[f"{TEST}mean"]), list(table[f"{TEST}std"])
        columns.append(Column(f"test {report.metric}", metric, *on_test))
        columns += [
            _gain(report, table, f"{TEST}gain_over_{other}", f"test vs {LABELS[other]}") for other in gains_over(report)
        ]
    columns += _settings(report, table)
    columns.append(Column("best", metric, list(table["best"])))
    columns += [
        Column(f"{size.replace('_', ' ')} vs {LABELS['baseline']}", "gain", list(table[f"gain_{size}"]))
        for size in SIZES
        if table[f"gain_{size}"].notna().any()
    ]
    columns.append(Column("epochs", "number", list(table["epochs"])))
    states = [state(row) for row in rows]
    columns += [Column("not finished", "text", states)] if any(states) else []
    return html(columns, [_row_class(report, row) for row in rows], "Points")


def trials(report: Report) -> str:
    """Return every trial with its scores; the best of very many."""
    table = best_rows(report, report.trials, report.metric)
    columns = [Column("trial", "text", list(table["trial"]))]
    columns.append(Column(report.part, "text", [LABELS[name] for name in table[report.part]]))
    columns += [Column(name, "number", list(table[name])) for name in ("point", "seed") if name in table]
    columns.append(Column("status", "text", list(table["status"])))
    scored = [name for name in SCORES if table[name].notna().any()]
    columns += [Column(name.replace("_", " "), "score", list(table[name])) for name in scored]
    columns.append(Column("last AP", "score", list(table["last_AP"])))
    columns += [
        Column(f"vs {LABELS[other]}", _gain_style(report), list(table[f"gain_over_{other}"]))
        for other in gains_over(report)
    ]
    columns += _settings(report, table)
    columns += [Column(title, "number", list(table[name])) for name, title in _DETAILS.items()]
    if table["reason"].any():
        columns.append(Column("reason", "text", [one_line(reason) for reason in table["reason"]]))
    return html(columns, [_row_class(report, row) for _, row in table.iterrows()], "Trials")


def best_rows(report: Report, table: pd.DataFrame, score: str) -> pd.DataFrame:
    """Return the rows that the page shows, in their order: the controls, and those of the best of the others."""
    others = table.loc[~table[report.part].isin(_CONTROLS), score]
    ranked = others.sort_values(ascending=report.mode == "min", kind="stable").index
    return table.drop(index=ranked[MOST_ROWS:])


def effects(report: Report) -> str:
    """Return score by setting and value."""
    table, metric = report.effects, _style(report)
    columns = [
        Column("setting", "text", list(table["setting"])),
        Column("value", "text", list(table["value"])),
        Column("trials", "number", list(table["n"])),
        Column(f"mean {report.metric}", metric, list(table["mean"]), list(table["std"])),
        Column("best", metric, list(table["best"])),
        Column("mean gain", _gain_style(report), list(table["gain_over_baseline"])),
    ]
    if table["stopped"].any():
        columns.append(Column("stopped, %", "share", list(table["stopped"])))
    if table["importance"].notna().any():
        columns.append(Column("importance, %", "share", list(table["importance"])))
    return html(columns, [""] * len(table), "Settings")


def classes(row: pd.Series[Any]) -> str:
    """Return the gains of one point over the baseline, by class; nothing when no class was scored."""
    gains = {name.removeprefix(GAIN_BY_CLASS): row[name] for name in row.index if name.startswith(GAIN_BY_CLASS)}
    gains = {name: gain for name, gain in gains.items() if pd.notna(gain)}
    if not gains:
        return ""
    gains = dict(sorted(gains.items(), key=lambda item: -item[1]))
    columns = [Column("class", "text", list(gains)), Column("gain in AP", "gain", list(gains.values()))]
    return html(columns, [""] * len(gains), "Gain by class")


def html(columns: Sequence[Column], row_classes: Sequence[str], label: str) -> str:
    """Return a table in a box that scrolls sideways, with a button in every header."""
    heads = "".join(
        f'<th scope="col"{"" if column.style == "text" else " class=number"}>'
        f'<button type="button">{escape(column.title) or "&nbsp;"}</button></th>'
        for column in columns
    )
    rows = []
    for at, row_class in enumerate(row_classes):
        cells = "".join(_cell(column, at) for column in columns)
        rows.append(f"<tr{f' class={row_class}' if row_class else ''}>{cells}</tr>")
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}"><table><thead><tr>{heads}</tr>'
        f"</thead><tbody>\n{chr(10).join(rows)}\n</tbody></table></div>"
    )


def _cell(column: Column, at: int) -> str:
    value = column.values[at]
    if column.style == "text":
        wide = " class=long" if len(str(value)) > _LONG else ""
        return f"<td{wide}>{escape(str(value))}</td>"
    if pd.isna(value):
        return '<td class="number" data-value="NaN">-</td>'
    number = float(value)
    shown = _number(number, column.style)
    spread = column.spreads[at] if column.spreads is not None else math.nan
    if not math.isnan(spread):
        shown += f' <span class="faint">± {_number(spread, "score" if column.style == "gain" else column.style)}</span>'
    colour = ""
    if column.style == "gain" and abs(number) >= 0.0005:
        colour = " good" if number > 0 else " bad"
    return f'<td class="number{colour}" data-value="{number:.9g}">{shown}</td>'


def _number(value: float, style: Style) -> str:
    formats: Mapping[Style, tuple[float, str]] = {"score": (100, ".1f"), "gain": (100, "+.1f"), "share": (100, ".0f")}
    factor, digits = formats.get(style, (1, ".6g"))
    return f"{factor * value:{digits}}"


def _settings(report: Report, table: pd.DataFrame) -> list[Column]:
    return [_setting(name, table[name]) for name in report.settings]


def _setting(name: str, values: pd.Series[Any]) -> Column:
    if is_numeric(values):
        return Column(name, "number", list(values))
    return Column(name, "text", [as_text(value) for value in values])


def _style(report: Report) -> Style:
    return "score" if is_score(report.metric) else "number"


def _gain(report: Report, table: pd.DataFrame, name: str, title: str) -> Column:
    return Column(title, _gain_style(report), list(table[name]), list(table[f"{name}_std"]))


def _gain_style(report: Report) -> Style:
    return "gain" if is_score(report.metric) else "number"


def _row_class(report: Report, row: pd.Series[Any]) -> str:
    if row[report.part] in _CONTROLS:
        return "control"
    if report.best is None or row["point"] != report.best.row["point"]:
        return ""
    return "best" if row.get("sweep") == report.best.row.get("sweep") else ""
