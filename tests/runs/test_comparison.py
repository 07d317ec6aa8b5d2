"""Teacher, student alone and distilled student side by side."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest

from raydistill.runs.comparison import as_csv, as_text, comparison
from tests.small import run_python

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
    assert [row.stage for row in comparison(output)] == ["teacher", "baseline", "distilled"]


def test_differences_are_to_the_baseline_and_to_the_teacher(output: Path) -> None:
    teacher, baseline, distilled = comparison(output)
    assert distilled.vs_baseline == pytest.approx(0.03)
    assert teacher.vs_baseline == pytest.approx(0.1)
    assert distilled.vs_teacher == pytest.approx(-0.07)
    assert baseline.vs_teacher == pytest.approx(-0.1)


def test_a_model_is_not_compared_with_itself(output: Path) -> None:
    teacher, baseline, _ = comparison(output)
    assert math.isnan(baseline.vs_baseline)
    assert math.isnan(teacher.vs_teacher)


def test_a_score_without_objects_is_not_a_number(output: Path) -> None:
    assert all(math.isnan(row.scores["AP_small"]) for row in comparison(output))


def test_a_stage_that_is_not_finished_has_no_row(tmp_path: Path) -> None:
    _write(tmp_path, "teacher")
    (tmp_path / "baseline").mkdir()
    (tmp_path / "baseline" / "metrics.jsonl").write_text('{"epoch": 1}\n')
    (row,) = comparison(tmp_path)
    assert row.stage == "teacher"
    assert math.isnan(row.vs_baseline)


def test_a_baseline_without_score_gives_no_difference(tmp_path: Path) -> None:
    _write(tmp_path, "baseline", AP=-1)
    _write(tmp_path, "distilled", AP=0.5)
    assert all(math.isnan(row.vs_baseline) for row in comparison(tmp_path))


def test_the_table_survives_csv(output: Path) -> None:
    """Every number to its last bit; what there is no value for is an empty field."""
    rows = comparison(output)
    read = list(csv.DictReader(io.StringIO(as_csv(rows))))
    assert [list(row) for row in read] == [list(row.columns) for row in rows]
    for row, fields in zip(rows, read, strict=True):
        for name, value in row.columns.items():
            if isinstance(value, str):
                assert fields[name] == value
            else:
                assert fields[name] == ("" if math.isnan(value) else repr(value))


TABLE = """\
            model   AP AP50 AP75 AP small AP medium AP large parameters images/s vs baseline vs teacher  epoch
          teacher 50.0 60.0 30.0        -      20.0     50.0      9.0 M     12.3       +10.0          -      3
    student alone 40.0 60.0 30.0        -      20.0     50.0      2.5 M     12.3           -      -10.0      3
student distilled 43.0 60.0 30.0        -      20.0     50.0      2.5 M     12.3        +3.0       -7.0      3"""


def test_people_see_points_millions_and_signs(output: Path) -> None:
    assert as_text(comparison(output)) == TABLE


def test_how_speeds_were_measured_stands_below_them(output: Path) -> None:
    _write_speed(output, "baseline", {"net": "a", "batch_size": 1, "device": "cpu", "threads": 2})
    assert as_text(comparison(output)) == f"{TABLE}\nimages/s: batch 1, 2 threads, the median once warmed up"
    _write_speed(output, "teacher", {"net": "b", "batch_size": 1, "device": "cuda", "threads": 0})
    rows = comparison(output)
    assert as_text(rows).endswith("2 threads, the median once warmed up; or batch 1, cuda, the median once warmed up")
    assert [row.columns["speed"] for row in rows][2] == ""  # of an earlier version


def _write_speed(output: Path, stage: str, speed: dict[str, Any]) -> None:
    file = output / stage / "result.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"speed": speed}))


def test_scores_on_a_test_split_are_shown_beside_those_of_validation(output: Path) -> None:
    assert "test_AP" not in comparison(output)[0].columns
    for stage, score in (("baseline", 0.38), ("distilled", 0.42)):
        file = output / stage / "result.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"test_AP": score}))
    table = {row.stage: row.columns for row in comparison(output)}
    assert table["distilled"]["test_vs_baseline"] == pytest.approx(0.04)
    assert math.isnan(float(table["teacher"]["test_AP"]))
    assert math.isnan(float(table["baseline"]["test_vs_baseline"]))
    lines = as_text(comparison(output)).splitlines()
    assert "test AP" in lines[0] and "test vs baseline" in lines[0]
    assert lines[3].split()[-3:] == ["42.0", "+4.0", "3"]


def test_no_pandas_is_needed_for_the_comparison() -> None:
    loaded = "import sys, raydistill.runs.comparison; print('pandas' in sys.modules)"
    assert run_python("-c", loaded).stdout == "False\n"
