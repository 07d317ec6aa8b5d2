"""Trials, epochs, summary and effects of the sweep that made_up's table describes; every number is from that table."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from raydistill.report import value
from raydistill.reports import load, page_tables, write_report
from raydistill.reports.build import Report
from raydistill.reports.importance import importances
from raydistill.reports.pictures_of_settings import effects
from raydistill.reports.screen import as_text
from raydistill.sweeps.directory import SweepDirectory, TrialRecord
from tests.reports import made_up


def _trial(report: Report, name: str) -> pd.Series:
    return report.trials.set_index("trial").loc[name]


def _point(report: Report, number: int) -> pd.Series:
    return report.summary.set_index("point").loc[number]


def test_controls_come_first_then_points_by_seed(report: Report) -> None:
    assert list(report.trials["trial"]) == [
        *("baseline_0", "baseline_1", "constant_0", "constant_1"),
        *("p000_s0", "p000_s1", "p001_s0", "p001_s1", "p002_s0", "p002_s1"),
    ]


def test_a_trial_is_scored_at_its_best_epoch_and_keeps_its_last_score(report: Report) -> None:
    row = _trial(report, "p000_s1")
    assert (row["AP"], row["AP50"], row["best_epoch"], row["epochs"]) == (0.42, 0.84, 3, 4)
    assert row["last_AP"] == pytest.approx(0.41)
    assert row["seconds"] == 40


def test_a_score_without_objects_is_missing_and_not_minus_one(report: Report) -> None:
    assert report.trials["AP_large"].isna().all()
    assert not (report.epochs["metric"] == "val/AP_large").any()


def test_gains_are_paired_by_seed(report: Report) -> None:
    first, second = _trial(report, "p000_s0"), _trial(report, "p000_s1")
    assert [first["gain_over_baseline"], second["gain_over_baseline"]] == pytest.approx([0.08, 0.10])
    assert [first["gain_over_constant"], second["gain_over_constant"]] == pytest.approx([0.04, 0.06])
    assert [first["gain_over_teacher"], second["gain_over_teacher"]] == pytest.approx([-0.12, -0.08])


def test_a_control_is_not_compared_with_itself(report: Report) -> None:
    assert math.isnan(_trial(report, "baseline_0")["gain_over_baseline"])
    assert math.isnan(_trial(report, "constant_1")["gain_over_constant"])
    assert _trial(report, "constant_1")["gain_over_baseline"] == pytest.approx(0.04)


def test_in_what_the_teacher_answered_is_in_the_table_and_on_the_screen(report: Report) -> None:
    precisions = report.trials.set_index("role")["distillation.teacher_precision"]
    assert set(precisions[["constant", "searched"]]) == {"fp32"}
    assert precisions["baseline"].isna().all()
    assert as_text(report).splitlines()[0].endswith("; the teacher answered in fp32")
    assert not any("not the same in all trials" in note for note in report.notes)


def test_teachers_that_answered_differently_in_one_sweep_are_a_note(tmp_path: Path) -> None:
    output = made_up.sweep(tmp_path / "mixed")
    trial = SweepDirectory(output).trial("p000_s0")
    trial.recipe.write_text(trial.recipe.read_text().replace("teacher_precision: fp32", "teacher_precision: auto"))
    trial.run.config.write_text("distillation: {teacher_precision: bf16}")  # what auto meant in it
    report = load(output)
    assert _trial(report, "p000_s0")["distillation.teacher_precision"] == "bf16"
    assert "; the teacher answered in bf16 and fp32" in as_text(report)
    assert any("in bf16 and fp32, not the same in all trials" in note for note in report.notes)


def test_a_stopped_trial_has_its_best_score_so_far(report: Report) -> None:
    row = _trial(report, "p001_s1")
    assert (row["status"], row["AP"], row["epochs"]) == ("stopped", 0.24, 2)


def test_a_trial_that_failed_before_its_first_epoch_has_a_row_without_scores(report: Report) -> None:
    row = _trial(report, "p002_s0")
    assert (row["status"], row["reason"], row["epochs"]) == ("failed", "RuntimeError: out of memory", 0)
    assert math.isnan(row["AP"]) and math.isnan(row["gain_over_baseline"])


def test_settings_are_those_that_had_an_effect(report: Report) -> None:
    assert report.settings == ("methods.tar.feature.weight", "decay.shape", "decay.power")
    assert _trial(report, "baseline_0")["methods.tar.feature.weight"] == 0
    assert pd.isna(_trial(report, "baseline_0")["decay.shape"])
    assert _trial(report, "constant_0")["methods.tar.feature.weight"] == 3  # the base's
    assert _trial(report, "constant_0")["decay.shape"] == "constant"
    assert math.isnan(_trial(report, "p000_s0")["decay.power"])  # linear has none
    assert _trial(report, "p001_s0")["decay.power"] == 3


def test_epochs_are_long_and_include_the_teacher(report: Report) -> None:
    scores = report.epochs[report.epochs["metric"] == "val/AP"]
    assert list(scores[scores["trial"] == "teacher"]["value"]) == [0.1, 0.2, 0.5, 0.49]
    assert list(scores[scores["trial"] == "p001_s0"]["epoch"]) == [1, 2]
    assert list(report.epochs.columns) == ["trial", "epoch", "metric", "value"]


def test_a_point_is_the_mean_of_its_seeds_and_of_their_paired_gains(report: Report) -> None:
    row = _point(report, 0)
    assert (row["n"], row["best"], row["epochs"]) == (2, 0.42, 8)
    assert row["mean"] == pytest.approx(0.40)
    assert row["std"] == pytest.approx(0.04 / math.sqrt(2))
    assert row["gain_over_baseline"] == pytest.approx(0.09)
    assert row["gain_over_baseline_std"] == pytest.approx(0.02 / math.sqrt(2))
    assert row["gain_over_constant"] == pytest.approx(0.05)
    assert row["gain_over_teacher"] == pytest.approx(-0.10)


def test_the_interval_of_a_gain_is_students(report: Report, tmp_path: Path) -> None:
    row = _point(report, 0)
    assert row["gain_over_baseline_high"] - row["gain_over_baseline"] == pytest.approx(12.7062 * 0.01, rel=1e-4)
    assert row["gain_over_baseline"] - row["gain_over_baseline_low"] == pytest.approx(12.7062 * 0.01, rel=1e-4)
    sweep = tmp_path / "s"
    made_up.begin(sweep, seeds=[0, 1, 2, 3, 4])
    for seed, gain in enumerate([0.01, 0.02, 0.03, 0.04, 0.05]):
        made_up.trial(sweep, f"baseline{seed}", "baseline", -1, seed, {}, [0.3 + seed / 10])
        made_up.trial(
            sweep, f"p0_{seed}", "searched", 0, seed, {"methods.tar.feature.weight": 2.0}, [0.3 + seed / 10 + gain]
        )
    five = _point(load(sweep), 0)
    half = 2.77645 * math.sqrt(0.00025) / math.sqrt(5)  # t of 4 degrees of freedom, deviation of the gains
    ends = [five["gain_over_baseline_low"], five["gain_over_baseline_high"]]
    assert ends == pytest.approx([0.03 - half, 0.03 + half], rel=1e-5)


def test_one_pair_has_no_interval(report: Report) -> None:
    row = _point(report, 2)
    assert math.isnan(row["gain_over_baseline_low"]) and math.isnan(row["gain_over_baseline_high"])


def _with_test_scores(sweep: Path) -> Path:
    """Give every finished trial a test score a tenth below that of validation, the point's a fifth."""
    for file in [*sweep.glob("trials/*/*/result.json"), sweep / "teacher" / "result.json"]:
        result = json.loads(file.read_text())
        result["test_AP"] = result["AP"] - (0.02 if "p000" in str(file) else 0.01)
        file.write_text(json.dumps(result))
    return sweep


def test_scores_on_the_test_split_have_columns_of_their_own(report: Report, tmp_path: Path) -> None:
    assert not any(name.startswith("test_") for name in (*report.trials, *report.summary))
    tested = load(_with_test_scores(made_up.sweep(tmp_path / "s")))
    row = _trial(tested, "p000_s1")
    assert row["test_AP"] == pytest.approx(0.40)
    gains = [row[f"test_gain_over_{other}"] for other in ("baseline", "constant", "teacher")]
    assert gains == pytest.approx([0.40 - 0.31, 0.40 - 0.35, 0.40 - 0.49])
    assert math.isnan(_trial(tested, "p001_s0")["test_AP"])
    point = _point(tested, 0)
    assert point["mean"] == pytest.approx(0.40)  # chosen on the validation split
    assert point["test_mean"] == pytest.approx(0.38)
    assert point["test_gain_over_baseline"] == pytest.approx(0.08)
    assert point["test_gain_over_baseline_high"] == pytest.approx(0.08 + 12.7062 * 0.01, rel=1e-4)


def test_the_screen_and_the_page_name_the_test_split(report: Report, tmp_path: Path) -> None:
    tested = load(_with_test_scores(made_up.sweep(tmp_path / "s")))
    assert "test" not in as_text(report)
    sentence = "on the test split 38.0 ± 2.8, +8.0 ± 1.4 over the student alone (95% interval -4.7 to +20.7, 2 pairs)"
    assert sentence in as_text(tested)
    assert "test vs student alone" in [column.title for column in page_tables.points(tested).columns]
    assert not any("test" in column.title for column in page_tables.points(report).columns)


def test_gains_by_size_and_class_are_over_the_baseline(report: Report) -> None:
    row = _point(report, 0)
    assert row["gain_AP_small"] == pytest.approx(0.045)  # small objects have half the AP
    assert row["gain/class/cat"] == pytest.approx(1.1 * 0.09)
    assert row["gain/class/dog"] == pytest.approx(0.9 * 0.09)
    assert math.isnan(row["gain_AP_large"])


def test_one_seed_has_no_spread(report: Report) -> None:
    row = _point(report, 2)
    assert (row["n"], row["trials"], row["failed"], row["mean"]) == (1, 2, 0.5, 0.26)
    assert math.isnan(row["std"])


def test_points_are_sorted_best_first_with_the_controls_among_them_and_incomplete_ones_last(report: Report) -> None:
    assert list(report.summary["point"]) == [0, -2, -1, 2, 1]
    assert list(report.summary["role"]) == ["searched", "constant", "baseline", "searched", "searched"]


def test_the_lowest_is_best_when_the_sweep_says_so(tmp_path: Path) -> None:
    made_up.sweep(tmp_path / "s")
    settings = (tmp_path / "s" / "sweep.yaml").read_text()
    (tmp_path / "s" / "sweep.yaml").write_text(settings.replace("mode: max", "mode: min"))
    report = load(tmp_path / "s")
    assert list(report.summary["point"]) == [-1, -2, 0, 1, 2]  # the last two have trials that did not finish
    assert report.summary["best"][3] == 0.20


def test_another_metric_is_what_is_ranked_and_gained(tmp_path: Path) -> None:
    made_up.sweep(tmp_path / "s")
    settings = (tmp_path / "s" / "sweep.yaml").read_text()
    (tmp_path / "s" / "sweep.yaml").write_text(settings.replace("metric: AP", "metric: AP50"))
    report = load(tmp_path / "s")
    assert _point(report, 0)["mean"] == pytest.approx(0.80)
    assert _point(report, 0)["gain_over_baseline"] == pytest.approx(0.18)


def test_effects_compare_finished_trials_and_count_those_that_were_stopped(report: Report) -> None:
    table = report.effects.set_index(["setting", "value"])
    weight = table.loc[("methods.tar.feature.weight", "2")]
    assert (weight["n"], weight["best"], weight["stopped"]) == (2, 0.42, 0)
    assert weight["mean"] == pytest.approx(0.40)
    assert weight["gain_over_baseline"] == pytest.approx(0.09)
    polynomial = table.loc[("decay.shape", "polynomial")]
    assert (polynomial["n"], polynomial["stopped"]) == (0, 1)
    assert math.isnan(polynomial["mean"])


def _wide_sweep(output: Path, points: int = 20) -> Path:
    """Write a sweep in which the weight decides everything and the seed of the data nothing."""
    space = {
        "methods.tar.feature.weight": {"uniform": [0, 20]},
        "data.seed": {"choice": [0, 1]},
        "decay.power": {"when": {}},
    }
    made_up.begin(output, space=space, seeds=[0])
    for number in range(points):
        settings = {"methods.tar.feature.weight": float(number), "data.seed": number % 2}
        settings |= {"decay.shape": "polynomial", "decay.power": 1.0 + number % 3} if number % 4 == 0 else {}
        made_up.trial(output, f"p{number}", "searched", number, 0, settings, [0.3 + number / 100])
    return output


def test_many_numbers_are_put_into_four_ranges(tmp_path: Path) -> None:
    rows = load(_wide_sweep(tmp_path / "s")).effects.query("setting == 'methods.tar.feature.weight'")
    assert list(rows["value"]) == ["0 to 4", "5 to 9", "10 to 14", "15 to 19"]
    assert list(rows["n"]) == [5, 5, 5, 5]
    assert list(rows["mean"]) == pytest.approx([0.32, 0.37, 0.42, 0.47])


@pytest.mark.filterwarnings("error")
def test_importance_finds_the_setting_that_decides_and_survives_conditional_ones(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shares = load(_wide_sweep(tmp_path / "s")).effects.drop_duplicates("setting").set_index("setting")["importance"]
    assert 0.5 < shares["methods.tar.feature.weight"] < 1
    assert shares.drop("methods.tar.feature.weight").isna().all()  # no more than permuted scores give them
    assert capfd.readouterr() == ("", "")


def test_importance_of_a_handful_of_points_is_unknown(report: Report, tmp_path: Path) -> None:
    assert report.effects["importance"].isna().all()
    assert load(_wide_sweep(tmp_path / "s", 7)).effects["importance"].isna().all()


def test_importance_of_settings_that_were_never_varied_is_unknown() -> None:
    points = pd.DataFrame({"mean": [0.1] * 10, "a": [1.0] * 10})
    assert math.isnan(importances(points, ["a"], "max", ())["a"])


ANYTHING = [
    *(1, 2.5, "auto", True, False, None, [1, None], {"shape": "linear"}, made_up.NASTY),
    *("null", "Null", "None", "nan", "NA", "true", "1", "1e3", "yes", "[1]", "{a: 1}", "", " a", "-", "=1+1", "'a'"),
]
"""Values of a setting of which no two are the same."""


def _sweep_over(output: Path, values: list[Any]) -> Path:
    made_up.begin(output, space={"x.y": {"choice": values}}, seeds=[0])
    for number, searched in enumerate(values):
        directory = made_up.trial(output, f"p{number}", "searched", number, 0, {}, [0.3 + number / 100])
        directory.write(TrialRecord(f"p{number}", "searched", number, 0, {"x.y": searched}, "finished"))
    return output


def _same(values: Any, others: Any) -> bool:
    return [(type(value), value) for value in values] == [(type(other), other) for other in others]


def test_a_value_read_back_from_any_table_is_what_was_searched(tmp_path: Path) -> None:
    folder = _sweep_over(tmp_path / "s", ANYTHING) / "report"
    report = write_report(folder.parent, pictures=False)
    assert _same(report.trials["x.y"], ANYTHING)
    assert _same(report.summary.sort_values("point")["x.y"], ANYTHING)
    for name, column, by in (("trials", "x.y", "point"), ("summary", "x.y", "point"), ("effects", "value", "best")):
        for table in (pd.read_csv(folder / f"{name}.csv"), pd.read_parquet(folder / f"{name}.parquet")):
            assert _same(table.sort_values(by)[column].map(value), ANYTHING), name
    assert list(report.effects["n"]) == [1] * len(ANYTHING)


def test_values_that_look_alike_are_told_apart_on_the_screen_and_the_page(tmp_path: Path) -> None:
    report = load(_sweep_over(tmp_path / "s", [None, "null", True, "true", 1, "1"]))
    texts = ["null", '"null"', "true", '"true"', "1", '"1"']
    lines = as_text(report).splitlines()
    for number, text in enumerate(texts):
        assert [line for line in lines if line.startswith(f"point {number} ") and line.endswith(f"  x.y={text}")]
    for table, title in ((page_tables.points(report), "x.y"), (page_tables.effects(report), "value")):
        (column,) = [column for column in table.columns if column.title == title]
        assert sorted(column.values) == sorted(texts)
    assert effects(report) is not None


def test_a_setting_without_a_part_is_an_empty_cell_and_no_null(tmp_path: Path) -> None:
    sweep = _sweep_over(tmp_path / "s", [None, "a"])
    other = made_up.trial(sweep, "p2", "searched", 2, 0, {}, [0.3])
    other.write(TrialRecord("p2", "searched", 2, 0, {}, "finished"))
    report = write_report(sweep, pictures=False)
    assert _same(report.trials["x.y"][:2], [None, "a"])
    assert math.isnan(report.trials["x.y"][2])
    assert (sweep / "report" / "trials.csv").read_text().splitlines()[3].split(",")[6] == ""
    assert pd.read_csv(sweep / "report" / "trials.csv")["x.y"].isna().tolist() == [False, False, True]
    assert "x.y" not in next(line for line in as_text(report).splitlines() if line.startswith("point 2"))


@pytest.mark.parametrize(
    ("values", "dtype"), [([1, 2], "int64"), ([1, 2.5], "float64"), ([True, False], "boolean"), (["a", "null"], "str")]
)
def test_a_column_of_one_kind_stays_one(tmp_path: Path, values: list[Any], dtype: str) -> None:
    report = write_report(_sweep_over(tmp_path / "s", values), pictures=False)
    assert report.trials["x.y"].dtype == dtype
    assert list(report.trials["x.y"]) == values
    for table in (pd.read_csv(tmp_path / "s/report/trials.csv"), pd.read_parquet(tmp_path / "s/report/trials.parquet")):
        assert list(table["x.y"].map(value)) == values


def test_large_whole_numbers_are_not_rounded(tmp_path: Path) -> None:
    large = 2**60 + 1
    report = write_report(_sweep_over(tmp_path / "s", [large, 1]), pictures=False)
    assert _same(report.trials["x.y"], [large, 1])
