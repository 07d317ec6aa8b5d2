"""How reports name points, settings and numbers, wherever these stand."""

from __future__ import annotations

from typing import Any

import pandas as pd

from raydistill.errors import printable
from raydistill.reports.build import Report
from raydistill.reports.settings import as_text, has_part
from raydistill.reports.trials import TEST

OTHERS = {"baseline": "the student alone", "constant": "the constant weight", "teacher": "the teacher"}
"""What gains are over."""
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


def point_name(report: Report, row: pd.Series[Any]) -> str:
    """Return a row of the summary as people call it."""
    if row[report.part] not in ("searched", "confirmed"):
        return LABELS[row[report.part]]
    again = f", {LABELS['confirmed']}" if row[report.part] == "confirmed" else ""
    return f"point {row['point']}" + (f" of {row['sweep']}" if "sweep" in row else "") + again


def marked_name(report: Report, row: pd.Series[Any]) -> str:
    """Return the same with a mark where a trial of the point is missing or did not finish."""
    is_point = row[report.part] in ("searched", "distilled", "confirmed")
    return point_name(report, row) + (" (incomplete)" if is_point and not row["complete"] else "")


def described(report: Report, row: pd.Series[Any]) -> str:
    """Return `` (setting=value, ...)`` of the settings that were active; nothing when there are none."""
    text = active_settings(report, row)
    return f" ({text})" if text else ""


def active_settings(report: Report, row: pd.Series[Any]) -> str:
    """Return ``setting=value, ...`` of the settings that were active."""
    return ", ".join(f"{name}={as_text(row[name])}" for name in report.settings if has_part(row[name]))


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
    numbers = {name: round(share * row["trials"]) for name, share in shares.items()} | {"missing": row["missing"]}
    return ", ".join(f"{number} {name}" for name, number in numbers.items() if number)


def extreme(report: Report) -> str:
    """Return what the best score is of all: it need not be better than another."""
    return "lowest" if report.mode == "min" else "highest"


def gains_over(report: Report) -> list[str]:
    """Return which others the summary holds gains over."""
    return [name for name in OTHERS if f"gain_over_{name}" in report.summary]


def has_test(report: Report) -> bool:
    """Return whether a test split was scored."""
    return f"{TEST}mean" in report.summary
