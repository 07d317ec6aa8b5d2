"""How trials went: scores, losses and gates over the epochs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from raydistill.reports.build import Report
from raydistill.reports.drawing import COLORS, grid, name
from raydistill.reports.effects import of_interest
from raydistill.reports.wording import LABELS, is_score

_PANELS_PER_ROW = 4
_MOST_LINES = 1000
_GENERAL = ("train/detection/total", "train/decay", "train/learning_rate")
# Faint lines first, so that what they are compared with lies on top.
_ORDER = ("searched", "teacher", "baseline", "constant", "distilled", "best")


def scores(report: Report) -> Figure | None:
    """Draw the metric over the epochs; controls and the point with the best score stand out, the teacher is dashed."""
    values = report.epochs[report.epochs["metric"].isin([f"val/{report.metric}", report.metric])]
    if values.empty:
        return None
    factor = 100 if is_score(report.metric) else 1
    figure, (axes,) = grid(1, 1, 9, 4.6)
    groups = _groups(report)
    handles = []
    for group in _ORDER:
        trials = groups.get(group, [])
        drawn = _some(trials)
        lines = [
            (own["epoch"].to_numpy(), factor * own["value"].to_numpy())
            for _, own in values[values["trial"].isin(drawn)].groupby("trial", observed=True)
        ]
        if lines:
            _lines(axes, lines, group)
            label = f"{report.best.word} point" if group == "best" and report.best else LABELS[group]
            number = f"{len(lines)}" if len(drawn) == len(trials) else f"{len(lines)} of {len(trials)}"
            handles.append(Line2D([], [], color=COLORS[group], linewidth=1.8, label=f"{label} ({number})"))
    if report.kind == "sweep":
        for score in report.teachers.values():
            axes.axhline(factor * score, color=COLORS["teacher"], linestyle="--", linewidth=1.2)
        if report.teachers:
            handles.append(Line2D([], [], color=COLORS["teacher"], linestyle="--", linewidth=1.2, label="teacher"))
    axes.autoscale_view()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    name(axes, "", "epoch", f"{report.metric} on the validation split")
    figure.legend(handles=handles[::-1], loc="outside right upper", fontsize=8, frameon=False)
    return figure


def losses(report: Report) -> Figure | None:
    """Draw losses and gates of the best trial and of its control: what the decay changes is the space between them."""
    shown = compared_trials(report)
    values = report.epochs[report.epochs["trial"].isin(list(shown))]
    values = values[values["metric"].astype(str).str.startswith("train/")]
    found = list(dict.fromkeys(values["metric"].astype(str)))
    metrics = [metric for metric in _GENERAL if metric in found]
    for kind in ("distillation", "weighted", "gate"):
        metrics += [metric for metric in found if metric.startswith(f"train/{kind}/")]
    if not metrics:
        return None
    figure, panels = grid(len(metrics), _PANELS_PER_ROW, 2.7, 2.1)
    for axes, metric in zip(panels, metrics, strict=True):
        for trial, (label, group) in shown.items():
            own = values[(values["trial"] == trial) & (values["metric"] == metric)]
            marker = "o" if len(own) < 4 else None
            axes.plot(own["epoch"], own["value"], color=COLORS[group], linewidth=1.5, marker=marker, ms=3, label=label)
        name(axes, _panel_title(metric))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        low, high = axes.get_ylim()
        if "/gate/" in metric or metric == "train/decay":
            axes.set_ylim(-0.03, 1.03)
        elif low > 0 and high > 3 * low:
            axes.set_ylim(bottom=0)
    handles = [Line2D([], [], color=COLORS[group], linewidth=1.8, label=label) for label, group in shown.values()]
    figure.legend(handles=handles, loc="outside lower left", ncols=len(handles), fontsize=8, frameon=False)
    return figure


def compared_trials(report: Report) -> dict[str, tuple[str, str]]:
    """Return trial -> (label, group) of the best trial and of the controls with its seed."""
    trials = report.trials[report.trials["epochs"] > 0]
    candidates = trials[of_interest(trials) & trials[report.metric].notna()]
    if report.best is not None:
        own = candidates["point"] == report.best.row["point"]
        if "sweep" in candidates:
            own &= candidates["sweep"] == report.best.row["sweep"]
        candidates = candidates[own]
    candidates = candidates.sort_values(report.metric, ascending=report.mode == "min", kind="stable")
    shown: dict[str, tuple[str, str]] = {}
    if len(candidates):
        first = candidates.iloc[0]
        group, what = ("best", report.best.word) if report.best is not None else ("distilled", LABELS["distilled"])
        shown[first["trial"]] = (f"{first['trial']} ({what})", group)
        keys = [key for key in ("sweep", "run", "seed") if key in trials]
        trials = trials[(trials[keys] == first[keys]).all(axis=1)]
    other = "constant" if report.kind == "sweep" else "baseline"
    for trial in trials.loc[trials[report.part] == other, "trial"].head(1):
        shown[trial] = (f"{trial} ({LABELS[other]})", other)
    return shown


def _groups(report: Report) -> dict[str, list[str]]:
    """Return the names of the trials that are drawn alike."""
    trials = report.trials[report.trials[report.part].isin(_ORDER)]  # not what was run again
    group = trials[report.part].copy()
    if report.best is not None and report.best.differs:
        best = (trials["role"] == "searched") & (trials["point"] == report.best.row["point"])
        if "sweep" in trials:
            best &= trials["sweep"] == report.best.row["sweep"]
        group[best] = "best"
    return {str(name): list(own) for name, own in trials["trial"].groupby(group)}


def _some(trials: Sequence[str]) -> Sequence[str]:
    """Return the trials to draw, from first to last: thousands of lines would be one blot."""
    return trials[:: max(1, math.ceil(len(trials) / _MOST_LINES))]


def _lines(axes: Axes, lines: Sequence[tuple[Any, Any]], group: str) -> None:
    faint = group == "searched"
    alpha = max(0.04, min(0.8, 15 / len(lines))) if faint else 0.95
    curves = [np.column_stack(line) for line in lines]
    axes.add_collection(
        LineCollection(curves, colors=COLORS[group], linewidths=1.0 if faint else 1.8, alpha=alpha), autolim=True
    )
    ends = np.array([curve[-1] for curve in curves])  # an evaluation that is alone, or the last one
    axes.plot(ends[:, 0], ends[:, 1], "o", color=COLORS[group], ms=2.5 if faint else 4, alpha=alpha)


def _panel_title(metric: str) -> str:
    kind, _, term = metric.removeprefix("train/").partition("/")
    titles = {"distillation": f"{term}, raw", "weighted": f"{term}, weighted", "gate": f"open: {term}"}
    return titles.get(kind, metric.removeprefix("train/")).replace("_open", "").replace("_", " ")
