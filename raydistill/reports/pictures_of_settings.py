"""What the settings did to the score."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pydantic import TypeAdapter, ValidationError

from raydistill.config import Decay
from raydistill.config.cells import as_cell, from_cell
from raydistill.methods.schedules import decay_at
from raydistill.reports.build import Report
from raydistill.reports.drawing import COLORS, grid, name, plain
from raydistill.reports.effects import of_interest, scored
from raydistill.reports.settings import as_text, has_part
from raydistill.reports.trials import name_of
from raydistill.reports.wording import LABELS, is_score

_MOST_PANELS = 24
_MOST_TICKS = 6
_FEW_CURVES, _MOST_CURVES = 30, 500
_DOT: dict[str, Any] = {"color": COLORS["searched"], "marker": "o", "linestyle": "", "ms": 3.5, "alpha": 0.6}
_HOLLOW: dict[str, Any] = {**_DOT, "markerfacecolor": "none", "alpha": 0.35}
_DECAY = TypeAdapter[Any](Decay)


def effects(report: Report) -> Figure | None:
    """Draw a panel per setting: every trial as a dot, mean and standard deviation of each value or range."""
    names = list(dict.fromkeys(report.effects["setting"]))[:_MOST_PANELS]
    if not names:
        return None
    figure, panels = grid(len(names), 3, 3.6, 2.9)
    trials = report.trials[scored(report.trials, report.metric)]
    others = report.trials[of_interest(report.trials) & report.trials[report.metric].notna()].drop(index=trials.index)
    for axes, setting in zip(panels, names, strict=True):
        rows = report.effects[report.effects["setting"] == setting]
        if rows["low"].notna().all():
            _numeric_slice(axes, report, trials, others, rows)
        else:
            _text_slice(axes, report, trials, others, rows)
        for control in ("baseline", "constant"):
            _control_line(axes, report, control)
        name(axes, setting, "", report.metric)
    handles = [
        Line2D([], [], color=COLORS[control], linestyle="--", linewidth=1.2, label=LABELS[control])
        for control in ("baseline", "constant")
        if (report.summary[report.part] == control).any()
    ]
    dots = [Line2D([], [], **_DOT, label="a trial")]
    if len(others):
        dots.append(Line2D([], [], **_HOLLOW, label="not finished (not in the mean)"))
    mean = Line2D([], [], color=COLORS["best"], marker="o", ms=5, label="mean ± std")
    figure.legend(handles=[*dots, mean, *handles], loc="outside lower left", ncols=5, fontsize=8, frameon=False)
    return figure


def importance(report: Report) -> Figure | None:
    """Draw each setting's share as a bar, the largest on top."""
    shares = report.effects.drop_duplicates("setting").set_index("setting")["importance"].dropna()
    if shares.empty:
        return None
    shares = shares.sort_values().tail(_MOST_PANELS)
    figure, (axes,) = grid(1, 1, 7, 1.0 + 0.32 * len(shares))
    axes.barh(range(len(shares)), 100 * shares, color=COLORS["best"], height=0.6)
    axes.set_yticks(range(len(shares)), [plain(setting) for setting in shares.index])
    for at, share in enumerate(shares):
        label, end = f"{100 * share:.0f} %", (100 * share, at)
        axes.annotate(label, end, (4, 0), textcoords="offset points", va="center", size=8)
    axes.set_xlim(0, 100 * shares.max() * 1.12)
    axes.grid(visible=False, axis="y")
    name(axes, "", "importance (PED-ANOVA), %")
    return figure


def decays(report: Report) -> Figure | None:
    """Draw the curves d(t) that were tried, coloured by the score, and the scores that each kind came with."""
    table = _decay_table(report)
    if table["decay"].nunique() < 2:
        return None
    factor = 100 if is_score(report.metric) else 1
    figure, (curves, strip) = grid(2, 2, 4.8, 3.8)
    means = table.groupby("decay", sort=False)["score"].mean() * factor
    low, high = means.min(), means.max()
    faintest = low - 0.15 * ((high - low) or 1)  # the palest yellow cannot be seen on white
    colours = ScalarMappable(Normalize(faintest, high), "viridis_r")
    progress = np.linspace(0, 1, 101)
    width, alpha = (1.6, 1.0) if len(means) <= _FEW_CURVES else (1.0, 0.6)
    ranked = means.sort_values(ascending=report.mode == "max")  # the best on top
    step = math.ceil(len(ranked) / _MOST_CURVES)
    for text, score in ranked.iloc[::-step].iloc[::-1].items():
        decay = _DECAY.validate_python(json.loads(str(text)))
        curves.plot(progress, [decay_at(decay, t) for t in progress], color=colours.to_rgba(score, alpha), lw=width)
    figure.colorbar(colours, ax=curves, label=f"mean {report.metric}", shrink=0.9)
    name(curves, "" if step == 1 else f"one in {step}, by score", "progress t of the training", "d(t)")
    labels = table.groupby("label")["score"].mean().sort_values(ascending=report.mode == "max").index
    for at, label in enumerate(labels):
        _mean_and_dots(strip, table.loc[table["label"] == label, "score"] * factor, at)
    strip.set_yticks(range(len(labels)), [plain(str(label)) for label in labels])
    strip.set_ylim(-0.6, len(labels) - 0.4)
    name(strip, "", report.metric)
    return figure


def _decay_table(report: Report) -> pd.DataFrame:
    """Return decay (JSON), label and score of every trial that can be compared, the constant control among them."""
    several = len(report.sources) > 1
    controls = report.trials[report.part] == "constant"
    scores = report.trials[scored(report.trials, report.metric) | controls].set_index("trial")[report.metric]
    rows = []
    for source in report.sources:
        for trial in source.trials:
            score = scores.get(name_of(source, trial, several))
            if score is None or pd.isna(score):
                continue
            try:
                decay = _DECAY.validate_python(trial.recipe.get("decay"))
            except ValidationError:
                continue  # a recipe that could not be read, which the notes say
            rows.append((decay.model_dump_json(), decay.shape, _decay_label(decay.model_dump(mode="json")), score))
    table = pd.DataFrame(rows, columns=["decay", "shape", "label", "score"])
    if table["label"].nunique() > 2 * _MOST_TICKS:
        table["label"] = table["shape"]
    return table


def _decay_label(decay: dict[str, Any]) -> str:
    values = {key: f"{value:.3g}" if isinstance(value, float) else as_text(value) for key, value in decay.items()}
    parameters = ", ".join(f"{key} {value}" for key, value in values.items() if key != "shape")
    return f"{decay['shape']} ({parameters})" if parameters else str(decay["shape"])


def _numeric_slice(axes: Axes, report: Report, trials: pd.DataFrame, others: pd.DataFrame, rows: pd.DataFrame) -> None:
    factor = 100 if is_score(report.metric) else 1
    setting = rows["setting"].iloc[0]
    axes.plot(others[setting], factor * others[report.metric], **_HOLLOW)
    axes.plot(trials[setting], factor * trials[report.metric], **_DOT)
    if len(rows) == 1:
        axes.set_xticks(rows["low"])
    logarithmic = setting in report.log_settings and rows["low"].min() > 0
    middle = np.sqrt(rows["low"] * rows["high"]) if logarithmic else (rows["low"] + rows["high"]) / 2
    axes.errorbar(
        *(middle, factor * rows["mean"], factor * rows["std"].fillna(0)),
        color=COLORS["best"],
        marker="o",
        ms=5,
        capsize=3,
        linewidth=1.3,
    )
    if logarithmic:
        axes.set_xscale("log")


def _text_slice(axes: Axes, report: Report, trials: pd.DataFrame, others: pd.DataFrame, rows: pd.DataFrame) -> None:
    factor = 100 if is_score(report.metric) else 1
    labels, setting = list(rows["value"]), rows["setting"].iloc[0]
    for at, label in enumerate(labels):
        unfinished = factor * others.loc[_is(others[setting], label), report.metric]
        own = factor * trials.loc[_is(trials[setting], label), report.metric]
        axes.plot(at + _jitter(len(unfinished)), unfinished, **_HOLLOW)
        axes.plot(at + _jitter(len(own)), own, **_DOT)
        axes.errorbar(at, own.mean(), _spread(own), color=COLORS["best"], marker="o", ms=5, capsize=3)
    turned = len(labels) > 3 or any(len(label) > 9 for label in labels)
    axes.set_xticks(
        range(len(labels)),
        [plain(as_text(from_cell(label))) for label in labels],
        rotation=30 if turned else 0,
        ha="right" if turned else "center",
    )
    axes.set_xlim(-0.5, len(labels) - 0.5)


def _is(values: pd.Series[Any], cell: str) -> list[bool]:
    """Return which values of a setting are those of a cell."""
    return [has_part(value) and as_cell(value) == cell for value in values]


def _mean_and_dots(axes: Axes, scores: pd.Series[float], at: int) -> None:
    axes.plot(scores, at + _jitter(len(scores)), **_DOT)
    axes.errorbar(scores.mean(), at, xerr=_spread(scores), color=COLORS["best"], marker="o", ms=5, capsize=3)


def _spread(scores: pd.Series[float]) -> float:
    return float(scores.std()) if len(scores) > 1 else 0.0


def _jitter(number: int) -> np.ndarray[Any, np.dtype[Any]]:
    """Return small shifts that keep equal dots apart, the same in every report."""
    return (np.arange(number) * 0.618 % 1 - 0.5) * 0.24


def _control_line(axes: Axes, report: Report, control: str) -> None:
    mean = report.summary.loc[report.summary[report.part] == control, "mean"].mean()
    if pd.notna(mean):
        axes.axhline(
            mean * (100 if is_score(report.metric) else 1), color=COLORS[control], linestyle="--", linewidth=1.2
        )
