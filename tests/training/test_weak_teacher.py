"""A teacher that scores next to nothing: refused before a student is trained, with what is known of its classes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raydistill.config import ShapesData
from raydistill.data.build import build_splits
from raydistill.data.dataset import DetectionDataset
from raydistill.errors import UserError
from raydistill.inference.columns import Found
from raydistill.inference.confusion import without_classes
from raydistill.inference.evaluation import objects_of
from raydistill.runs.directory import RunDirectory
from raydistill.runs.events import Note
from raydistill.runs.weak_teacher import refuse_weakness, weakness
from raydistill.storage.output import Output
from raydistill.training import stages
from raydistill.training.nets import Stages
from tests.small import small_run

NAMED = {"classes_known": True}
UNNAMED = {"classes_known": False}
GIVEN = ("teacher.train=false", "teacher.weights=there.pt")


def _val() -> DetectionDataset:
    return build_splits(ShapesData(format="shapes", num_train=1, num_val=20, size=64)).val


def _found(dataset: DetectionDataset, order: dict[int, int] | None = None, shift: float = 0.0) -> Found:
    """Return every object as found, with its category by ``order`` and its box moved by ``shift`` pixels."""
    truth = objects_of(dataset)
    categories = np.array([(order or {}).get(int(one), int(one)) for one in truth.category_ids])
    boxes = truth.boxes + np.array([shift, 0, 0, 0])
    return Found(truth.image_ids, categories, boxes, np.linspace(0.5, 1, len(categories)))


def test_classes_in_another_order_are_recognised() -> None:
    dataset = _val()
    first, second, *rest = dataset.category_ids
    found = without_classes(dataset, _found(dataset, {first: second, second: first}))
    one, other = dataset.classes[:2]
    assert found.ap50 == pytest.approx(1)
    assert found.called == {one: other, other: one}
    assert rest


def test_right_names_are_called_nothing_else_and_no_find_at_all_is_said() -> None:
    dataset = _val()
    assert without_classes(dataset, _found(dataset)).called == {}
    nowhere = without_classes(dataset, _found(dataset, shift=500))
    assert (nowhere.ap50, nowhere.called) == (0, {})
    nothing = without_classes(dataset, Found.joined([]))
    assert (nothing.ap50, nothing.called) == (0, {})


REASONS: dict[str, tuple[dict[str, Any], tuple[str, ...], str]] = {
    "another order": (
        {**UNNAMED, "AP50_without_classes": 0.741, "called": {"cat": "dog", "dog": "cat"}},
        GIVEN,
        "its file does not name its classes, so they were taken in the order of the data; where the class does not "
        "count it has 74.1 AP50: its classes are in another order ('cat' is called 'dog', 'dog' is called 'cat'); ",
    ),
    "another order under the right names": (
        {**NAMED, "AP50_without_classes": 0.5, "called": {}},
        GIVEN,
        "its file names the classes of the data in their order; where the class does not count it has 50.0 AP50",
    ),
    "no objects": ({**NAMED, "AP50_without_classes": 0.0}, GIVEN, "it finds no objects: look at input.min_size"),
    "an earlier version's": ({}, GIVEN, "in their order; more is not known of it"),
    "damaged": ({**NAMED, "AP50_without_classes": "x"}, GIVEN, "more is not known of it"),
    "trained here": ({}, (), "train it longer (teacher.epochs)"),
}


@pytest.mark.parametrize("name", REASONS)
def test_a_weak_teacher_is_refused_with_what_is_known(name: str, tmp_path: Path) -> None:
    known, settings, reason = REASONS[name]
    scores = {"epochs": 1, "parameters": 9, "AP": 0.0004, "AP50": 0.001}
    (tmp_path / "result.json").write_text(json.dumps(scores | known))
    config = small_run(tmp_path, *settings)
    problem = weakness(RunDirectory(tmp_path), config)
    assert problem.startswith(
        "preflight: the teacher must detect something on the validation split, got 0.0 AP, 0.1 AP50"
    )
    assert reason in problem
    with pytest.raises(UserError, match=r"go on all the same with distillation\.preflight=warn"):
        refuse_weakness(problem, config, lambda _: None)
    heard: list[Note] = []
    refuse_weakness(problem, small_run(tmp_path, *settings, "distillation.preflight=warn"), heard.append)
    assert heard == [Note(problem, warning=True)]


@pytest.mark.parametrize("scores", [{"AP": 0.004, "AP50": 0.011}, {"AP": -1, "AP50": -1}, {"AP": 0.0}])
def test_a_poor_one_and_one_without_objects_to_find_may_teach(scores: dict[str, float], tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps({"epochs": 1, "parameters": 9, **scores}))
    assert weakness(RunDirectory(tmp_path), small_run(tmp_path)) == ""


def test_no_student_is_trained_under_a_weak_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def run(these: Stages, stage: Any) -> None:
        ran.append(stage)
        result = {"epochs": 1, "parameters": 9, "AP": 0.0, "AP50": 0.0}
        these.run_directory("teacher").path.mkdir(parents=True, exist_ok=True)
        these.run_directory("teacher").result.write_text(json.dumps(result))

    monkeypatch.setattr(stages, "_run_stage", run)
    config = small_run(tmp_path)
    output, data = Output.at(config.output), build_splits(config.data)
    these = Stages(config, output, stages.Worker(), lambda _: None, data, stages.NOTHING)  # type: ignore[arg-type, return-value]
    with pytest.raises(UserError, match="preflight: the teacher must detect something"):
        stages._run_missing(these, ["teacher", "baseline", "distilled"], lambda _: None)
    assert ran == ["teacher"]
    relaxed = small_run(tmp_path, "distillation.preflight=warn")
    stages._run_missing(replace(these, config=relaxed), ["baseline", "distilled"], lambda _: None)
    assert ran == ["teacher", "baseline", "distilled"]
