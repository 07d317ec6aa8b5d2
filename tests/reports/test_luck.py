"""How much of a result may be luck: made-up sweeps without an effect, with one, and the figures computed anew."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from raydistill.reports import load, page_tables
from raydistill.reports.build import Report
from raydistill.reports.headline import headline
from raydistill.reports.importance import _beyond_chance, importances
from raydistill.reports.luck import error_of_gains, expected_maximum, is_clear
from raydistill.reports.page import page
from raydistill.reports.screen import as_text
from tests.reports import made_up
from tests.reports.drawn_sweeps import report_of, trials_of, with_gains

NOISE = 0.02
GAINS = ("gain_over_baseline", "gain_over_constant")


def _drawn(generator: np.random.Generator, points: int, seeds: int, effect: Any = 0.0, shift: float = 0.0) -> Report:
    """Return the report of a sweep whose points have an ``effect`` each, and all gain ``shift`` over the controls."""
    easy = generator.normal(0, NOISE, seeds)  # a seed that is easy for all
    scores = generator.normal(0.3 + shift, NOISE, (points, seeds)) + easy + np.reshape(effect, (-1, 1))
    controls = generator.normal(0.3, NOISE, (2, seeds)) + easy
    values = generator.uniform(1, 9, points)
    return report_of(trials_of(scores, *controls, **{"methods.tar.feature.weight": values}), _SETTINGS)


_SETTINGS = ("methods.tar.feature.weight",)


def _calls_anything_better(report: Report) -> bool:
    rows = [row for _, row in report.summary.iterrows()]
    coloured = any(is_clear(row, gain) and row[gain] > 0 for row in rows for gain in GAINS)
    said = headline(report)[0].startswith(("Best", "Better"))
    assert coloured or not said
    return coloured


# Without an effect ----------------------------------------------------------------------------------------------------
def test_in_a_hundred_sweeps_in_which_nothing_matters_at_most_five_call_anything_better() -> None:
    generator = np.random.default_rng(18)
    called = sum(_calls_anything_better(_drawn(generator, 40, 3)) for _ in range(100))
    assert called <= 5


def test_a_sweep_in_which_nothing_matters_names_the_highest_point_and_what_chance_gives() -> None:
    report = _drawn(np.random.default_rng(0), 40, 1)
    sentences = headline(report)
    assert sentences[0].startswith("Highest AP: point ")
    assert sentences[1] == "It is not called better than the student alone: that takes 3 pairs, and there is 1."
    spread = 100 * report.summary.loc[report.summary["role"] == "searched", "mean"].std()
    assert sentences[2] == (
        "It is the highest of 40 points: if all that they differ by is chance, which one seed cannot tell, the highest "
        f"of so many gains +{2.1608 * spread:.1f}."
    )
    text = page(report, {}, has_recipe=False).partition("<body>")[2]
    assert 'class="number good"' not in text and 'class="number bad"' not in text
    assert 'class="best"' not in text and '"good"' not in text
    assert "best" not in as_text(report).lower()


def test_no_point_is_better_where_every_score_is_0_or_all_are_the_same() -> None:
    for score, said in ((0.0, "Every AP is 0: no point is better than another."), (0.25, "the same AP, 25.0")):
        report = report_of(trials_of(np.full((4, 3), score), np.full(3, score)))
        assert report.best is not None and not report.best.differs
        assert said in headline(report)[0]
        assert not any(is_clear(row, GAINS[0]) for _, row in report.summary.iterrows())
        assert "cards" not in page(report, {}, has_recipe=False).partition("<body>")[2]


def test_two_seeds_are_too_few_however_large_the_gain() -> None:
    report = _drawn(np.random.default_rng(0), 5, 2, [0.3, 0, 0, 0, 0])
    assert not _calls_anything_better(report)
    assert "that takes 3 pairs, and there are 2" in headline(report)[1]


# With one -------------------------------------------------------------------------------------------------------------
def test_a_point_that_gains_much_is_called_the_best_and_has_a_colour() -> None:
    report = _drawn(np.random.default_rng(3), 40, 4, [0.12] + [0.0] * 39)
    assert report.best is not None
    assert (report.best.row["point"], report.best.word) == (0, "best")
    assert headline(report)[0].startswith("Best: point 0 ")
    assert ", 4 pairs)" in headline(report)[0]
    table = page_tables.points(report)
    (own,) = [cells for kind, cells in table.rows() if kind == "best"]
    titles = [column.title for column in table.columns]
    assert own[titles.index("vs student alone")].is_good
    assert own[titles.index("pairs")].text == "4"


def test_points_that_all_gain_alike_are_better_and_none_is_the_best() -> None:
    report = _drawn(np.random.default_rng(5), 12, 5, shift=0.12)
    sentences = headline(report)
    assert sentences[0].startswith("Better than the student alone: point ")
    assert sentences[-1] == (
        "The points differ among each other no more than by chance: which of them is taken says little."
    )


def test_points_as_good_as_the_best_are_counted() -> None:
    report = _drawn(np.random.default_rng(5), 12, 5, [0.15, 0.15, 0.15] + [0.0] * 9)
    assert headline(report)[0].startswith("Best: point ")
    assert headline(report)[-1] == "2 of the 11 other points cannot be told from it."


def test_a_point_that_loses_much_is_coloured_too() -> None:
    report = _drawn(np.random.default_rng(5), 6, 5, [-0.15] + [0.0] * 5)
    coloured = [cell for _, cells in page_tables.points(report).rows() for cell in cells if cell.is_bad]
    assert [cell.text[0] for cell in coloured] == ["-", "-"]  # over either control
    assert headline(report)[0].startswith("Highest AP")


def test_gains_over_the_teacher_and_of_single_trials_have_no_colour(report: Report) -> None:
    for table in (page_tables.trials(report), page_tables.effects(report), page_tables.classes(report.summary.iloc[0])):
        assert not any(cell.is_good or cell.is_bad for _, cells in table.rows() for cell in cells)
    drawn = _drawn(np.random.default_rng(5), 2, 4, 0.2)
    assert "gain_over_teacher_needed" not in drawn.summary


# Figures computed anew ------------------------------------------------------------------------------------------------
def test_pairs_intervals_and_what_a_gain_needs_are_those_of_plain_pandas_and_scipy() -> None:
    generator = np.random.default_rng(7)
    points, baseline = generator.normal(0.3, NOISE, (6, 4)), generator.normal(0.3, NOISE, 4)
    trials = trials_of(points, baseline, generator.normal(0.3, NOISE, 4))
    found = report_of(trials).summary.set_index("point")
    compared = 6 + 1 + 6  # the points and the constant weight over the student alone, the points over that
    gains = pd.DataFrame(points - baseline)
    rows = pd.concat([gains, pd.DataFrame([trials.loc[trials["point"] == -2, GAINS[0]].to_numpy(), np.zeros(4)])])
    long = rows.reset_index(drop=True).rename_axis("row").melt(ignore_index=False).reset_index()
    means = long.groupby("row")["value"].transform("mean") + long.groupby("variable")["value"].transform("mean")
    noise = float(((long["value"] - means + long["value"].mean()) ** 2).sum()) / (7 * 3)
    of_control = max(noise, float(rows.iloc[:7].mean().var()) - noise / 7)
    shared = scipy.stats.t.ppf(1 - 0.05 / 2 / compared, 7 * 3) * math.sqrt((noise + of_control) / 4)
    for point in range(6):
        row = found.loc[point]
        own = scipy.stats.ttest_rel(points[point], baseline).confidence_interval(0.95)
        assert row["gain_over_baseline"] == pytest.approx(gains.loc[point].mean())
        assert row["gain_over_baseline_pairs"] == 4
        assert [row["gain_over_baseline_low"], row["gain_over_baseline_high"]] == pytest.approx(list(own))
        half = (own.high - own.low) / 2
        assert row["gain_over_baseline_needed"] == pytest.approx(max(half, shared))
    assert found["complete"].all()


def test_of_one_point_the_error_is_that_of_the_paired_test() -> None:
    gains = np.array([[0.01, 0.03, 0.02, 0.07]])
    error, freedom = error_of_gains(gains)
    assert (error, freedom) == (pytest.approx(gains.std(ddof=1) / 2), 3)


def test_a_control_that_is_noisier_than_the_points_shows_in_the_error() -> None:
    generator = np.random.default_rng(0)
    points, control = generator.normal(0, 1, (50, 10)), generator.normal(0, 5, 10)
    error, _ = error_of_gains(points - control)
    assert error == pytest.approx(math.sqrt((1 + control.var(ddof=1)) / 10), rel=0.1)


def test_the_expected_maximum_is_that_of_drawn_values() -> None:
    drawn = np.random.default_rng(0).normal(size=(20_000, 40))
    for number in (1, 2, 5, 40):
        assert expected_maximum(number) == pytest.approx(drawn[:, :number].max(axis=1).mean(), abs=0.03)
    assert expected_maximum(10_000) == pytest.approx(3.8516, abs=1e-3)


def test_what_the_highest_gains_by_chance_is_what_it_gains_in_sweeps_without_an_effect() -> None:
    generator, number, seeds = np.random.default_rng(0), 10, 3
    drawn = generator.normal(0.3, NOISE, (4000, number + 1, seeds)).mean(axis=2)
    by_chance = float((drawn[:, 1:].max(axis=1) - drawn[:, 0]).mean())
    expected = [best.by_chance for _ in range(15) if (best := _drawn(generator, number, seeds).best) is not None]
    assert np.mean(expected) == pytest.approx(by_chance, rel=0.1)


def test_the_lowest_is_judged_the_same_where_less_is_better() -> None:
    generator = np.random.default_rng(3)
    points, baseline = generator.normal(0.3, NOISE, (8, 4)), generator.normal(0.3, NOISE, 4)
    points[5] -= 0.15
    report = report_of(trials_of(points, baseline), mode="min")
    assert report.best is not None
    assert (report.best.row["point"], report.best.word) == (5, "best")
    assert report.best.by_chance < 0
    assert not report_of(trials_of(-points + 0.6, -baseline + 0.6), mode="min").best.is_better  # type: ignore[union-attr]


# Points that are not complete -----------------------------------------------------------------------------------------
def test_points_with_a_missing_stopped_or_failed_trial_come_last_are_marked_and_never_called_better() -> None:
    points = np.array([[0.5, 0.51, 0.52], [0.6, 0.61, 0.63], [0.7, 0.7, 0.72], [0.8, 0.81, 0.8]])
    trials = trials_of(points, np.array([0.30, 0.31, 0.33]))
    trials.loc[(trials["point"] == 1) & (trials["seed"] == 2), "status"] = "stopped"
    trials.loc[(trials["point"] == 2) & (trials["seed"] == 2), "status"] = "failed"
    trials = with_gains(trials[~((trials["point"] == 3) & (trials["seed"] == 2))].reset_index(drop=True))
    report = report_of(trials)
    assert list(report.summary["point"]) == [0, -1, 3, 2, 1]
    assert list(report.summary["complete"]) == [True, True, False, False, False]
    assert report.best is not None and report.best.row["point"] == 0
    shown = {line[: line.index("  ")]: line for line in as_text(report).splitlines() if line.startswith("point ")}
    assert list(shown) == ["point 0", *(f"point {number} (incomplete)" for number in (3, 2, 1))]
    for number, what in ((1, "1 stopped"), (2, "1 failed"), (3, "1 missing")):
        assert what in shown[f"point {number} (incomplete)"]
    kinds = [kind for kind, _ in page_tables.points(report).rows()]
    assert kinds == ["best", "control", "incomplete", "incomplete", "incomplete"]
    better = [is_clear(row, GAINS[0]) for _, row in report.summary.iterrows()]
    assert better == [True, False, False, False, False]


# Runs -----------------------------------------------------------------------------------------------------------------
def test_several_runs_are_pairs_too_and_one_has_no_colour(tmp_path: Path) -> None:
    scores = [(0.30, 0.41), (0.31, 0.40), (0.32, 0.44), (0.29, 0.41)]
    runs = [
        made_up.run(tmp_path / f"r{number}", {"baseline": alone, "distilled": distilled}, f"seed={number}")
        for number, (alone, distilled) in enumerate(scores)
    ]
    every, one = load(*runs), load(runs[0])
    (row,) = [row for _, row in every.summary.iterrows() if row["stage"] == "distilled"]
    half = scipy.stats.t.ppf(0.975, 3) * np.std([0.11, 0.09, 0.12, 0.12], ddof=1) / 2
    assert row["gain_over_baseline_needed"] == pytest.approx(half)
    assert (row["gain_over_baseline_pairs"], is_clear(row, GAINS[0])) == (4, True)
    assert "(95% interval " in headline(every)[0] and ", 4 pairs)" in headline(every)[0]
    for report, number in ((every, 1), (one, 0)):
        cells = [cell for _, cells in page_tables.points(report).rows() for cell in cells]
        assert sum(cell.is_good for cell in cells) == number
    assert "(1 pair)" in headline(one)[0]


# Fresh seeds ----------------------------------------------------------------------------------------------------------
def _again(report: Report, *gains: float, seeds: tuple[int, ...] = (1000, 1001, 1002, 1003)) -> Report:
    """Return the report with the best point run again under fresh seeds."""
    assert report.best is not None
    rows = report.trials[report.trials["role"] == "searched"].head(2 * len(gains)).copy()
    rows["role"] = ["confirmed_baseline", "confirmed"] * len(gains)
    rows["point"] = [-1, report.best.row["point"]] * len(gains)
    rows["seed"] = np.repeat(seeds[: len(gains)], 2)
    rows["AP"] = [*itertools.chain.from_iterable((0.3, 0.3 + gain) for gain in gains)]
    rows["trial"] = [f"confirm{at}" for at in range(len(rows))]
    return report_of(with_gains(pd.concat([report.trials, rows], ignore_index=True)), report.settings)


def test_the_report_leads_with_what_was_confirmed() -> None:
    report = _again(_drawn(np.random.default_rng(0), 10, 3), 0.04, 0.05, 0.045, 0.05)
    first = headline(report)[0]
    assert first.startswith("Confirmed on 4 fresh seeds that nothing was chosen on: point ")
    half = scipy.stats.t.ppf(0.975, 3) * np.std([0.04, 0.05, 0.045, 0.05], ddof=1) / 2
    low, high = 100 * (0.04625 - half), 100 * (0.04625 + half)
    assert f"+4.6 ± 0.5 over the student alone (95% interval {low:+.1f} to {high:+.1f}, 4 pairs)" in first
    text = page(report, {}, has_recipe=False).partition("<main>")[2]
    assert "over student alone, fresh seeds, 4 pairs" in text.partition("</div>")[0]
    assert '<dd class="good">+4.6' in text.partition("</div>")[0]


def test_what_fresh_seeds_do_not_show_is_not_confirmed() -> None:
    drawn = _drawn(np.random.default_rng(0), 10, 3)
    assert headline(_again(drawn, 0.04, -0.05, 0.02))[0].startswith("Not confirmed on 3 fresh seeds")
    assert headline(_again(drawn, -0.04, -0.05, -0.045))[0].startswith("Not confirmed on 3 fresh seeds")
    two = headline(_again(drawn, 0.04, 0.041))[0]
    assert two.startswith("Run again on 2 fresh seeds") and two.endswith("An answer takes 3 pairs.")


def test_fresh_seeds_that_are_still_trained_or_have_failed_are_counted_beside_what_there_is() -> None:
    report = _again(
        _drawn(np.random.default_rng(0), 10, 3), 0.04, 0.05, 0.045, 0.05, 0.05, seeds=tuple(range(1000, 1005))
    )
    last = report.trials["trial"] == "confirm9"
    trials = report.trials.assign(status=report.trials["status"].mask(last, "failed"))
    first = headline(report_of(with_gains(trials), report.settings))[0]
    assert first.startswith("Confirmed on 4 fresh seeds") and first.endswith("; 1 failed.")


def test_a_gain_that_fresh_seeds_do_not_show_is_no_longer_called_one() -> None:
    drawn = _drawn(np.random.default_rng(3), 10, 4, [0.12] + [0.0] * 9)
    assert drawn.best is not None and drawn.best.word == "best"
    refuted, confirmed = _again(drawn, 0.04, -0.05, 0.02), _again(drawn, 0.11, 0.12, 0.1)
    assert refuted.best is not None and (refuted.best.word, refuted.best.is_better) == ("highest", False)
    assert [sentence.partition(":")[0] for sentence in headline(refuted)[:2]] == [
        "Not confirmed on 3 fresh seeds that nothing was chosen on",
        "Highest AP",
    ]
    assert headline(refuted)[2] == "It is not called better than the student alone: fresh seeds do not show it."
    assert 'class="best"' not in page(refuted, {}, has_recipe=False)
    assert headline(confirmed)[1].startswith("Best: point 0 ")


def test_fresh_seeds_change_neither_the_choice_nor_its_figures() -> None:
    before = _drawn(np.random.default_rng(0), 10, 3)
    after = _again(before, 0.04, 0.05, 0.045)
    assert before.best is not None and after.best is not None
    pd.testing.assert_series_equal(before.best.row, after.best.row, check_names=False)
    assert before.best.by_chance == after.best.by_chance
    assert headline(after)[1:] == headline(before)
    assert headline(_again(before, 0.0, 0.0, 0.0))[0].startswith("Not confirmed")


# Importance -----------------------------------------------------------------------------------------------------------
def _points(generator: np.random.Generator, number: int = 40) -> pd.DataFrame:
    settings = {name: generator.uniform(0, 1, number) for name in "abc"}
    return pd.DataFrame({**settings, "mean": generator.normal(0, NOISE, number)})


def test_a_setting_that_chance_makes_important_is_not_called_so() -> None:
    points = _points(np.random.default_rng(4))
    assert all(math.isnan(share) for share in importances(points, ["a", "b", "c"], "max", ()).values())
    points["mean"] += 0.3 * points["b"]
    shares = importances(points, ["a", "b", "c"], "max", ())
    assert shares["b"] > 0.5
    assert math.isnan(shares["a"]) and math.isnan(shares["c"])


def test_importance_without_an_effect_is_shown_in_a_twentieth_of_the_sweeps() -> None:
    generator = np.random.default_rng(0)
    scales = np.array([1.0, 5.0, 0.1, 1.0])  # settings of different kinds
    shown = [bool(_beyond_chance(scales * generator.exponential(size=(100, 4))).any()) for _ in range(1000)]
    assert 0.03 < np.mean(shown) < 0.07
