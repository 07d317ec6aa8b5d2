"""Teacher, student alone and distilled student side by side."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from raydistill.runs.comparison import as_text, comparison

SCORES = {"AP": 0.4, "AP50": 0.6, "AP75": 0.3, "AP_small": -1, "AP_medium": 0.2, "AP_large": 0.5}


def _write(output: Path, stage: str, **changes: Any) -> None:
    (output / stage).mkdir()
    result = {"stage": stage, "epochs": 4, "epoch": 3, "parameters": 2_500_000, "images_per_second": 12.34, **SCORES}
    (output / stage / "result.json").write_text(json.dumps(result | changes))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Three finished stages of 50, 40 and 43 points."""
    _write(tmp_path, "teacher", AP=0.5, parameters=9_000_000)
    _write(tmp_path, "baseline", AP=0.4)
    _write(tmp_path, "distilled", AP=0.43)
    return tmp_path


def test_there_is_a_row_per_stage_in_order(output: Path) -> None:
    assert list(comparison(output)["model"]) == ["teacher", "student alone", "student distilled"]


def test_differences_are_to_the_baseline_and_to_the_teacher(output: Path) -> None:
    table = comparison(output).set_index("model")
    assert table["vs_baseline"]["student distilled"] == pytest.approx(0.03)
    assert table["vs_baseline"]["teacher"] == pytest.approx(0.1)
    assert table["vs_teacher"]["student distilled"] == pytest.approx(-0.07)
    assert table["vs_teacher"]["student alone"] == pytest.approx(-0.1)


def test_a_model_is_not_compared_with_itself(output: Path) -> None:
    table = comparison(output).set_index("model")
    assert math.isnan(table["vs_baseline"]["student alone"])
    assert math.isnan(table["vs_teacher"]["teacher"])


def test_a_score_without_objects_is_not_a_number(output: Path) -> None:
    assert comparison(output)["AP_small"].isna().all()


def test_a_stage_that_is_not_finished_has_no_row(tmp_path: Path) -> None:
    _write(tmp_path, "teacher")
    (tmp_path / "baseline").mkdir()
    (tmp_path / "baseline" / "metrics.jsonl").write_text('{"epoch": 1}\n')
    table = comparison(tmp_path)
    assert list(table["model"]) == ["teacher"]
    assert math.isnan(table["vs_baseline"][0])


def test_a_baseline_without_score_gives_no_difference(tmp_path: Path) -> None:
    _write(tmp_path, "baseline", AP=-1)
    _write(tmp_path, "distilled", AP=0.5)
    assert comparison(tmp_path)["vs_baseline"].isna().all()


def test_the_table_survives_csv(output: Path) -> None:
    table = comparison(output)
    table.to_csv(output / "comparison.csv", index=False)
    pd.testing.assert_frame_equal(pd.read_csv(output / "comparison.csv"), table)


def test_people_see_points_millions_and_signs(output: Path) -> None:
    lines = as_text(comparison(output)).splitlines()
    assert "images/s" in lines[0]
    assert "vs baseline" in lines[0]
    distilled = lines[3].split()
    assert distilled == [
        *("student", "distilled", "43.0", "60.0", "30.0", "-", "20.0", "50.0"),
        *("2.5", "M", "12.3", "+3.0", "-7.0", "3"),
    ]


def test_scores_on_a_test_split_are_shown_beside_those_of_validation(output: Path) -> None:
    assert "test_AP" not in comparison(output)
    for stage, score in (("baseline", 0.38), ("distilled", 0.42)):
        file = output / stage / "result.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"test_AP": score}))
    table = comparison(output).set_index("model")
    assert table["test_vs_baseline"]["student distilled"] == pytest.approx(0.04)
    assert math.isnan(table["test_AP"]["teacher"]) and math.isnan(table["test_vs_baseline"]["student alone"])
    lines = as_text(comparison(output)).splitlines()
    assert "test AP" in lines[0] and "test vs baseline" in lines[0]
    assert lines[3].split()[-3:] == ["42.0", "+4.0", "3"]
