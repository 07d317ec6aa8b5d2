"""What training reads, looked at before."""

from __future__ import annotations

from pathlib import Path

import pytest

from raydistill.config.sections import CocoData
from raydistill.errors import UserError
from raydistill.training.inputs import Inputs, inputs_of
from tests.small import small_run


def _inputs(tmp_path: Path, stages: tuple[str, ...] = ("teacher", "baseline", "distilled")) -> Inputs:
    weights = [f"{role}.weights={tmp_path / role}" for role in ("teacher", "student")]
    return inputs_of(small_run(tmp_path / "run", *weights), stages, students=[str(tmp_path / "other")])  # type: ignore[arg-type]


def test_only_what_a_stage_still_reads_is_looked_at(tmp_path: Path) -> None:
    settings = {stage: [name for name, _ in _inputs(tmp_path, (stage,)).weights] for stage in ("teacher", "distilled")}
    assert settings == {"teacher": ["teacher.weights"], "distilled": ["student.weights", "student.weights"]}


def test_weights_that_are_downloaded_and_data_that_are_made_are_no_files(tmp_path: Path) -> None:
    inputs = inputs_of(
        small_run(tmp_path / "run", "student.weights=imagenet", "student.norm=batch"), ("teacher", "baseline")
    )
    assert not inputs
    inputs.check()


def test_weights_that_are_missing_are_told_with_their_setting(tmp_path: Path) -> None:
    for name in ("student", "other"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"^teacher\.weights: .*teacher: must be a weights file or a run directory"):
        _inputs(tmp_path).check()
    (tmp_path / "teacher").touch()
    _inputs(tmp_path).check()


def test_data_are_looked_at_too(tmp_path: Path) -> None:
    data = CocoData(format="coco", root=str(tmp_path / "nowhere"))
    inputs = Inputs(data, (), small_run(tmp_path / "run").downloads)
    with pytest.raises(UserError, match="nowhere"):
        inputs.check()


def test_each_place_is_on_one_of_two_sides(tmp_path: Path) -> None:
    data = CocoData(format="coco", root="/there/data")
    whole = Inputs(data, (("teacher.weights", "/here/t"), ("student.weights", "/there/s")), _inputs(tmp_path).downloads)
    here, there = whole.parted(lambda place: place.startswith("/here"))
    assert (here.data, here.weights) == (None, (("teacher.weights", "/here/t"),))
    assert (there.data, there.weights) == (data, (("student.weights", "/there/s"),))
