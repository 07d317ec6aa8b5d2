"""The report for people: sentences and tables in points of 100."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from raydistill.config.precision import TEACHER_PRECISION
from raydistill.errors import printable
from raydistill.reports.build import Report
from raydistill.reports.settings import as_text as setting_as_text
from raydistill.reports.trials import TEST
from raydistill.runs import comparison
from raydistill.storage.mirror import place_of

_ROWS = 10
_MOST_SENTENCES = 20
_OTHERS = {"baseline": "the student alone", "constant": "the constant weight", "teacher": "the teacher"}
LABELS = {
    "baseline": "student alone",
    "constant": "constant weight",
    "searched": "searched",
    "teacher": "teacher",
    "distilled": "student distilled",
    "confirmed_baseline": "student alone, fresh seeds",
    "confirmed": "fresh seeds",
}
"""Roles and stages as they are shown."""


def as_text(report: Report) -> str:
    """Return what the screen shows."""
    parts = [counts(report), *headline(report), "", _tables(report)]
    failures = failed_trials(report)
    if failures:
        parts += ["", "Failed:", *(f"  {line}" for line in few([f"{name}: {reason}" for name, reason in failures]))]
    if report.notes:
        parts += ["", *(f"Note: {line}" for line in few(report.notes))]
    if report.output is not None:
        parts += ["", f"Report: {place_of(report.output / 'report.html')}"]
    return "\n".join(parts)


def counts(report: Report) -> str:
    """Return how many trials there are, what became of them, and in what their teacher answered."""
    found = report.trials["status"].value_counts()
    states = [
        f"{found[status]} {status}" for status in ("finished", "stopped", "failed", "unfinished") if status in found
    ]
    what = "stage" if report.kind == "run" else "trial"
    number = len(report.trials)
    text = ", ".join([f"{report.title}: {number} {what}{'' if number == 1 else 's'}", *states])
    precisions = sorted(report.trials[TEACHER_PRECISION].dropna().unique())
    return text + (f"; the teacher answered in {' and '.join(precisions)}" if precisions else "")


def headline(report: Report) -> list[str]:
    """Return the result in a sentence or two."""
    if report.kind == "run":
        rows = report.summary[(report.summary["stage"] == "distilled") & (report.summary["n"] > 0)]
        return [
            f"Distilled student{described(report, row)}: {_result(report, row)}." for _, row in rows.head(1).iterrows()
        ]
    if report.best is None:
        return ["No searched trial has a score yet."]
    row = report.best.row
    sentences = [f"Best: {point_name(report, row)}{described(report, row)}: {_result(report, row)}."]
    if not report.best.complete:
        sentences.append("No point has finished on every seed yet: the best of all that have a score is named.")
    return sentences


def failed_trials(report: Report) -> list[tuple[str, str]]:
    """Return name and reason of every failed trial."""
    failed = report.trials[report.trials["status"] == "failed"]
    return [
        (str(name), one_line(reason) or "no reason was recorded")
        for name, reason in zip(failed["trial"], failed["reason"], strict=True)
    ]


def few(sentences: Sequence[str]) -> list[str]:
    """Return the first of them, a line each, and how many more there are: thousands of trials can fail."""
    more = len(sentences) - _MOST_SENTENCES
    return [one_line(sentence) for sentence in sentences[:_MOST_SENTENCES]] + [f"... and {more} more"] * (more > 0)


def point_name(report: Report, row: pd.Series[Any]) -> str:
    """Return a row of the summary as people call it."""
    if row[report.part] not in ("searched", "confirmed"):
        return LABELS[row[report.part]]
    again = f", {LABELS['confirmed']}" if row[report.part] == "confirmed" else ""
    return f"point {row['point']}" + (f" of {row['sweep']}" if "sweep" in row else "") + again


def described(report: Report, row: pd.Series[Any]) -> str:
    """Return `` (setting=value, ...)`` of the settings that were active; nothing when there are none."""
    text = active_settings(report, row)
    return f" ({text})" if text else ""


def active_settings(report: Report, row: pd.Series[Any]) -> str:
    """Return ``setting=value, ...`` of the settings that were active."""
    return ", ".join(f"{name}={setting_as_text(row[name])}" for name in report.settings if pd.notna(row[name]))


def measure(report: Report, mean: float, std: float, sign: str = "") -> str:
    """Return ``mean ± std``, scores in points of 100; ``-`` where there is no value."""
    if pd.isna(mean):
        return "-"
    factor, digits = (100, ".1f") if is_score(report.metric) else (1, ".4g")
    spread = "" if pd.isna(std) else f" ± {factor * std:{digits}}"
    return f"{factor * mean:{sign}{digits}}{spread}"


def is_score(metric: str) -> bool:
    """Return whether a metric is a share of 1 that people read in points of 100."""
    return metric.startswith(("AP", "AR", "class/"))


def one_line(text: str) -> str:
    """Return a text in one line, what cannot be seen escaped, cut where it gets long."""
    plain = printable(" ".join(text.split()))
    return plain if len(plain) <= 300 else f"{plain[:297]}..."


def state(row: pd.Series[Any]) -> str:
    """Return what became of a point's trials, when not all of them finished."""
    shares = {name: row[name] for name in ("stopped", "failed")}
    shares["unfinished"] = 1 - row["finished"] - row["stopped"] - row["failed"]
    numbers = {name: round(share * row["trials"]) for name, share in shares.items()}
    return ", ".join(f"{number} {name}" for name, number in numbers.items() if number)


def gains_over(report: Report) -> list[str]:
    """Return which others the summary holds gains over."""
    return [name for name in _OTHERS if f"gain_over_{name}" in report.summary]


def has_test(report: Report) -> bool:
    """Return whether a test split was scored."""
    return f"{TEST}mean" in report.summary


def _result(report: Report, row: pd.Series[Any]) -> str:
    seeds = "1 trial" if row["n"] == 1 else f"{row['n']} trials"
    parts = [f"{report.metric} {measure(report, row['mean'], row['std'])} ({seeds})", *_gains(report, row)]
    if has_test(report) and pd.notna(row[f"{TEST}mean"]):
        on_test = f"on the test split {measure(report, row[f'{TEST}mean'], row[f'{TEST}std'])}"
        parts[-1] += f"; {', '.join([on_test, *_gains(report, row, TEST)])}"
    return ", ".join(parts)


def _gains(report: Report, row: pd.Series[Any], prefix: str = "") -> list[str]:
    """Return the gains over each other in words, with the 95% interval of that over the student alone."""
    parts = []
    for other in gains_over(report):
        name = f"{prefix}gain_over_{other}"
        gain = measure(report, row[name], row[f"{name}_std"], "+")
        if gain == "-":
            continue
        interval = ""
        if other == "baseline" and pd.notna(row[f"{name}_low"]):
            low, high = (measure(report, row[f"{name}_{end}"], math.nan, "+") for end in ("low", "high"))
            interval = f" (95% interval {low} to {high})"
        parts.append(f"{gain} {'against' if other == 'teacher' else 'over'} {_OTHERS[other]}{interval}")
    return parts


def _tables(report: Report) -> str:
    if report.kind == "run" and len(report.sources) == 1:
        table = comparison.comparison(report.sources[0].path)
        if table:
            return comparison.as_text(table)
    if report.trials.empty:
        return "No trials."
    controls = report.summary[report.part] != ("distilled" if report.kind == "run" else "searched")
    others, shown = report.summary[controls], report.summary[~controls]
    text = _rows(report, pd.concat([shown.head(_ROWS), others]))
    more = len(shown) - _ROWS
    return text + (f"\n({more} more in the report)" if more > 0 else "")


def _rows(report: Report, rows: pd.DataFrame) -> str:
    table = []
    for _, row in rows.iterrows():
        trials = f" ({row['n']})" if row["n"] else ""
        line = {"": point_name(report, row), report.metric: measure(report, row["mean"], row["std"]) + trials}
        for other in gains_over(report):
            gain = measure(report, row[f"gain_over_{other}"], row[f"gain_over_{other}_std"], "+")
            line[f"vs {other}"] = gain
        if has_test(report):
            line[f"test {report.metric}"] = measure(report, row[f"{TEST}mean"], row[f"{TEST}std"])
            over = f"{TEST}gain_over_baseline"
            line["test vs baseline"] = measure(report, row[over], row[f"{over}_std"], "+")
        table.append(
            {**line, "epochs": str(row["epochs"]), "not finished": state(row), "settings": active_settings(report, row)}
        )
    shown = pd.DataFrame(table)
    for name in ("not finished", "settings"):
        shown[name] = shown[name].replace("", "-")
    if (shown["not finished"] == "-").all():
        shown = shown.drop(columns="not finished")
    if (shown["settings"] == "-").all():
        shown = shown.drop(columns="settings")
    return _left(shown)


def _left(table: pd.DataFrame) -> str:
    """Return the table with texts flush left and numbers flush right."""
    lines = [[printable(str(cell)) for cell in line] for line in [list(table.columns), *table.to_numpy().tolist()]]
    widths = [max(len(line[at]) for line in lines) for at in range(len(table.columns))]
    flush_left = {0, *(at for at, name in enumerate(table.columns) if name in ("settings", "not finished"))}
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at in flush_left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
