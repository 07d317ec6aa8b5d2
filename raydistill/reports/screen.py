"""The report for people: sentences and tables in points of 100."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from raydistill.config.precision import TEACHER_PRECISION
from raydistill.errors import printable
from raydistill.reports.build import Report
from raydistill.reports.headline import headline
from raydistill.reports.trials import TEST
from raydistill.reports.wording import (
    active_settings,
    gains_over,
    has_test,
    marked_name,
    measure,
    one_line,
    state,
)
from raydistill.runs import comparison
from raydistill.storage.mirror import place_of

_ROWS = 10
_MOST_SENTENCES = 20


def as_text(report: Report) -> str:
    """Return what the screen shows."""
    parts = [counts(report), *headline(report), "", _tables(report)]
    failures = failed_trials(report)
    if failures:
        parts += ["", "Failed:", *(f"  {line}" for line in few([f"{name}: {reason}" for name, reason in failures]))]
    if report.growth:
        parts += ["", *few(report.growth)]
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
        line = {"": marked_name(report, row), report.metric: measure(report, row["mean"], row["std"]) + trials}
        for other in gains_over(report):
            gain = measure(report, row[f"gain_over_{other}"], row[f"gain_over_{other}_std"], "+")
            pairs = "" if gain == "-" or other == "teacher" else f" ({row[f'gain_over_{other}_pairs']})"
            line[f"vs {other}"] = f"{gain}{pairs}"
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
