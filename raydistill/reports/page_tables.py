"""Tables of the page, as texts for ``page_tables.html``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import pandas as pd

from raydistill.config.cells import from_cell
from raydistill.reports.build import Report
from raydistill.reports.importance import is_numeric
from raydistill.reports.luck import is_clear
from raydistill.reports.settings import as_text
from raydistill.reports.summary import GAIN_BY_CLASS
from raydistill.reports.trials import SCORES, SIZES, SPACE, TEST
from raydistill.reports.wording import LABELS, extreme, gains_over, has_test, is_score, marked_name, one_line, state

Style = Literal["text", "score", "gain", "number", "share"]
RowKind = Literal["control", "best", "incomplete", ""]
_LONG = 40  # letters; a longer text is broken into lines
MOST_ROWS = 500
"""Of points and of trials, the controls apart: a browser sorts thousands of rows for seconds, and nobody reads them."""
_CONTROLS = ("baseline", "constant", "teacher", "confirmed_baseline")
_ALWAYS = (*_CONTROLS, "confirmed")
_DETAILS = {"best_epoch": "best epoch", "epochs": "epochs", "seconds": "seconds"}


class Cell(NamedTuple):
    """One value as it is shown."""

    text: str
    number: str = ""  # what it is sorted by; empty: the text
    spread: str = ""
    is_long: bool = False
    is_good: bool = False
    is_bad: bool = False


@dataclass(frozen=True)
class Column:
    """One column: what stands above it and how its values are shown."""

    title: str
    style: Style
    values: Sequence[Any]
    spreads: Sequence[float] | None = None  # shown as ± behind the value
    clear: Sequence[bool] | None = None  # whether the value is more than chance, and has a colour

    def cell(self, row: int) -> Cell:
        """Return one of the cells."""
        value = self.values[row]
        if self.style == "text":
            text = str(value)
            return Cell(text, is_long=len(text) > _LONG)
        if pd.isna(value):
            return Cell("-", "NaN")
        number = float(value)
        spread = self.spreads[row] if self.spreads is not None else math.nan
        is_coloured = self.clear is not None and self.clear[row]
        return Cell(
            _number(number, self.style),
            f"{number:.9g}",
            "" if math.isnan(spread) else _number(spread, "score" if self.style == "gain" else self.style),
            is_good=is_coloured and number > 0,
            is_bad=is_coloured and number < 0,
        )


@dataclass(frozen=True)
class Table:
    """What the page shows of ``number`` rows: the best of them where there are very many."""

    label: str
    columns: Sequence[Column]
    kinds: Sequence[RowKind]  # of the rows
    number: int

    def rows(self) -> Iterator[tuple[RowKind, list[Cell]]]:
        """Yield the rows that are shown, made one after the other: there are tens of thousands of cells."""
        for at, kind in enumerate(self.kinds):
            yield kind, [column.cell(at) for column in self.columns]


def points(report: Report) -> Table:
    """Return the summary: points of a sweep, or stages of runs; the best of very many."""
    table, metric = _best_rows(report, report.summary, "mean"), _style(report)
    rows = [row for _, row in table.iterrows()]
    columns = [
        Column("point" if report.kind == "sweep" else "stage", "text", [marked_name(report, row) for row in rows])
    ]
    columns.append(Column(report.metric, metric, list(table["mean"]), list(table["std"])))
    columns.append(Column("n", "number", list(table["n"])))
    for other in gains_over(report):
        columns += _gain(report, table, f"gain_over_{other}", f"vs {LABELS[other]}")
        if other == "baseline":
            columns += [
                Column(f"95% {end}", _gain_style(report), list(table[f"gain_over_baseline_{end}"]))
                for end in ("low", "high")
                if table[f"gain_over_baseline_{end}"].notna().any()
            ]
    if has_test(report):
        on_test = list(table[f"{TEST}mean"]), list(table[f"{TEST}std"])
        columns.append(Column(f"test {report.metric}", metric, *on_test))
        for other in gains_over(report):
            columns += _gain(report, table, f"{TEST}gain_over_{other}", f"test vs {LABELS[other]}")
    columns += _settings(report, table)
    columns += [Column(SPACE, "number", list(table[SPACE]))] if SPACE in table else []
    columns.append(Column(f"{extreme(report)} trial", metric, list(table["best"])))
    columns += [
        Column(f"{size.replace('_', ' ')} vs {LABELS['baseline']}", "gain", list(table[f"gain_{size}"]))
        for size in SIZES
        if table[f"gain_{size}"].notna().any()
    ]
    columns.append(Column("epochs", "number", list(table["epochs"])))
    states = [state(row) for row in rows]
    columns += [Column("not finished", "text", states)] if any(states) else []
    label = "Points" if report.kind == "sweep" else "Stages"
    return Table(label, columns, _kinds(report, table), len(report.summary))


def trials(report: Report) -> Table:
    """Return every trial with its scores; the best of very many."""
    table = _best_rows(report, report.trials, report.metric)
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
    columns += [Column(SPACE, "number", list(table[SPACE]))] if SPACE in table else []
    columns += [Column(title, "number", list(table[name])) for name, title in _DETAILS.items()]
    if table["reason"].any():
        columns.append(Column("reason", "text", [one_line(reason) for reason in table["reason"]]))
    return Table("Trials", columns, _kinds(report, table), len(report.trials))


def _best_rows(report: Report, table: pd.DataFrame, score: str) -> pd.DataFrame:
    """Return the rows that the page shows, in their order: controls, confirmation, and the best of the others."""
    others = table.loc[~table[report.part].isin(_ALWAYS), score]
    ranked = others.sort_values(ascending=report.mode == "min", kind="stable").index
    return table.drop(index=ranked[MOST_ROWS:])


def effects(report: Report) -> Table:
    """Return score by setting and value."""
    table, metric = report.effects, _style(report)
    columns = [
        Column("setting", "text", list(table["setting"])),
        Column("value", "text", [as_text(from_cell(value)) for value in table["value"]]),
        Column("trials", "number", list(table["n"])),
        Column(f"mean {report.metric}", metric, list(table["mean"]), list(table["std"])),
        Column(f"{extreme(report)} trial", metric, list(table["best"])),
        Column("mean gain", _gain_style(report), list(table["gain_over_baseline"])),
        Column("pairs", "number", list(table["pairs"])),
    ]
    if table["stopped"].any():
        columns.append(Column("stopped, %", "share", list(table["stopped"])))
    if table["importance"].notna().any():
        columns.append(Column("importance, %", "share", list(table["importance"])))
    return Table("Settings", columns, [""] * len(table), len(table))


def schedules(report: Report) -> Table:
    """Return the settings of the students of a population, epoch by epoch: the best point's, and then the others'."""
    table = report.schedules
    if report.best is not None and "point" in report.trials:
        best = report.trials.loc[report.trials["point"] == report.best.row["point"], "trial"]
        table = table.sort_values("trial", key=lambda names: ~names.isin(best), kind="stable")
    return _plain("Settings while the students were trained", table)


def takeovers(report: Report) -> Table:
    """Return which trials of a population went on from others."""
    return _plain("Takeovers", report.takeovers)


def _plain(label: str, table: pd.DataFrame) -> Table:
    shown = table.head(MOST_ROWS)
    columns = [_setting(str(name).replace("_", " "), shown[name]) for name in shown]
    return Table(label, columns, [""] * len(shown), len(table))


def classes(row: pd.Series[Any] | None) -> Table:
    """Return the gains of one point over the baseline, by class; no rows when no class was scored."""
    scored = {} if row is None else {name: row[name] for name in row.index if name.startswith(GAIN_BY_CLASS)}
    gains = {name.removeprefix(GAIN_BY_CLASS): gain for name, gain in scored.items() if pd.notna(gain)}
    gains = dict(sorted(gains.items(), key=lambda item: -item[1]))
    columns = [Column("class", "text", list(gains)), Column("gain in AP", "gain", list(gains.values()))]
    return Table("Gain by class over the student alone", columns, [""] * len(gains), len(gains))


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


def _gain(report: Report, table: pd.DataFrame, name: str, title: str) -> list[Column]:
    """Return a gain's columns: the gain, in colour where it is more than chance, and on how many pairs it rests."""
    clear = [is_clear(row, name) and report.mode == "max" for _, row in table.iterrows()]
    gain = Column(title, _gain_style(report), list(table[name]), list(table[f"{name}_std"]), clear)
    if name.endswith("teacher"):
        return [gain]
    return [gain, Column("pairs", "number", list(table[f"{name}_pairs"]))]


def _gain_style(report: Report) -> Style:
    return "gain" if is_score(report.metric) else "number"


def _kinds(report: Report, table: pd.DataFrame) -> list[RowKind]:
    """Return which rows are controls, which belong to a point that is better, and which are not complete."""
    controls = table[report.part].isin(_CONTROLS)
    best = pd.Series(False, index=table.index)
    if report.best is not None and report.best.is_better:
        best = table["point"] == report.best.row["point"]
        if "sweep" in table:
            best &= table["sweep"] == report.best.row["sweep"]
    complete = table.get("complete", pd.Series(True, index=table.index))
    return [
        "control" if is_control else "incomplete" if not is_complete else "best" if is_best else ""
        for is_control, is_complete, is_best in zip(controls, complete, best, strict=True)
    ]
