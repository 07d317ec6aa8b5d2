"""Reports on sweeps of very many trials: what the page, the pictures and the screen leave out, and where it is."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection

from raydistill.reports import load
from raydistill.reports.build import Report
from raydistill.reports.page import page
from raydistill.reports.page_tables import MOST_ROWS
from raydistill.reports.pictures_of_training import scores
from raydistill.reports.screen import as_text
from tests.reports import made_up

POINTS = 1200


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report of a sweep with one point, its tables as if that point had been searched 1,200 times."""
    folder = tmp_path_factory.mktemp("big") / "sweep"
    made_up.begin(folder, seeds=[0])
    made_up.trial(folder, "baseline_0", "baseline", -1, 0, {}, made_up.epochs_to(0.30))
    made_up.trial(folder, "p0000-seed0", "searched", 0, 0, {"methods.tar.feature.weight": 2.0}, made_up.epochs_to(0.4))
    report = load(folder)
    return dataclasses.replace(
        report,
        trials=_many(report.trials, "AP"),
        summary=_many(report.summary, "mean").sort_values("mean", ascending=False, ignore_index=True),
        epochs=_epochs(report.epochs),
    )


def _many(table: pd.DataFrame, score: str) -> pd.DataFrame:
    points = table[table["role"] == "searched"].loc[np.repeat(table.index[table["role"] == "searched"], POINTS)]
    points = points.assign(point=range(POINTS), **{score: np.linspace(0.1, 0.4, POINTS)})
    if "trial" in points:
        points["trial"] = [f"p{number:04d}-seed0" for number in range(POINTS)]
    return pd.concat([table[table["role"] != "searched"], points], ignore_index=True)


def _epochs(table: pd.DataFrame) -> pd.DataFrame:
    own = table[table["trial"] == "p0000-seed0"]
    copies = [own.assign(trial=f"p{number:04d}-seed0") for number in range(POINTS)]
    return pd.concat([table.astype({"trial": str}), *copies], ignore_index=True)


def test_the_page_shows_the_best_and_the_controls_and_says_where_the_others_are(big: Report) -> None:
    text = page(big, {}, has_recipe=False)
    points, trials = text.partition("<h2>Settings</h2>")[0], text.partition("<details>")[2]
    for part, file in ((points, "summary.csv"), (trials, "trials.csv")):
        assert part.count('<tr class="control">') == 1
        assert part.count("<tr") == MOST_ROWS + 2  # and the head
        assert f'{POINTS - MOST_ROWS} more, none of them better, in <a href="{file}">' in part
    assert "p1199-seed0" in trials
    assert "p0699-seed0" not in trials


def test_a_page_with_room_for_all_leaves_nothing_out(report: Report) -> None:
    assert "more, none of them better" not in page(report, {}, has_recipe=False)


def test_the_picture_of_the_scores_draws_a_sample_of_the_curves_and_says_so(big: Report) -> None:
    figure = scores(big)
    assert figure is not None
    (axes,) = figure.axes
    curves = [len(own.get_segments()) for own in axes.collections if isinstance(own, LineCollection)]
    assert max(curves) == 600
    assert len(axes.lines) <= 10  # one for the ends of all curves of a group, not one a trial
    assert f"searched (600 of {POINTS - 1})" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_of_many_failures_and_notes_the_first_are_listed(big: Report) -> None:
    failed = big.trials.assign(status="failed", reason="out of memory")
    report = dataclasses.replace(big, trials=failed, notes=("cannot be read",) * 50)
    for text in (as_text(report), page(report, {}, has_recipe=False)):
        assert f"... and {POINTS + 1 - 20} more" in text
        assert text.count("cannot be read") == 20
        assert "... and 30 more" in text


def test_the_best_of_a_metric_to_be_minimised_are_the_lowest(big: Report, tmp_path: Path) -> None:
    trials = page(dataclasses.replace(big, mode="min"), {}, has_recipe=False).partition("<details>")[2]
    assert "p0000-seed0" in trials
    assert "p1199-seed0" not in trials
