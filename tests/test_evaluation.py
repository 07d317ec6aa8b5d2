"""Detections to COCO scores, by one worker and by several."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor

from raydistill.data.loaders import evaluation_loader
from raydistill.evaluation import ABSENT, Detections, coco_detections, evaluate, score
from raydistill.runtime import Worker
from raydistill.structures import Target
from tests.small import Stage, small_run

T = TypeVar("T")


def _truth(boxes: list[tuple[int, int, list[float]]]) -> dict[str, Any]:
    """Return COCO annotations of (image, category, bbox) on images 1 to 3 with categories 4 and 9."""
    return {
        "images": [{"id": number, "width": 200, "height": 200} for number in (1, 2, 3)],
        "categories": [{"id": 4, "name": "cat"}, {"id": 9, "name": "dog"}],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": category,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
            }
            for number, (image, category, box) in enumerate(boxes, start=1)
        ],
    }


BOXES: list[tuple[int, int, list[float]]] = [
    (1, 4, [10, 10, 50, 50]),
    (2, 9, [5, 5, 20, 20]),
    (2, 4, [60, 60, 100, 120]),
]


def _found(boxes: list[tuple[int, int, list[float]]], confidence: float = 0.9) -> Detections:
    return [
        {"image_id": image, "category_id": category, "bbox": box, "score": confidence} for image, category, box in boxes
    ]


def test_perfect_detections_score_one() -> None:
    scores = score(_truth(BOXES), _found(BOXES))
    assert scores.summary["AP"] == pytest.approx(1)
    assert scores.per_class["dog"]["AP"] == pytest.approx(1)


def test_no_detections_score_zero() -> None:
    scores = score(_truth(BOXES), [])
    assert scores.summary["AP"] == 0
    assert scores.per_class["cat"]["AP"] == 0


def test_a_class_without_objects_has_no_score_and_does_not_count() -> None:
    scores = score(_truth(BOXES[:1]), _found(BOXES[:1]))
    assert scores.per_class["dog"]["AP"] == ABSENT
    assert scores.summary["AP"] == pytest.approx(1)


def test_half_of_the_objects_found_is_half_the_precision() -> None:
    boxes = [(1, 4, [10.0, 10, 50, 50]), (1, 4, [100.0, 100, 50, 50])]
    assert score(_truth(boxes), _found(boxes[:1])).summary["AP"] == pytest.approx(51 / 101)  # 51 of 101 recalls


def test_a_box_of_iou_six_tenths_counts_at_the_lower_thresholds_only() -> None:
    truth = [(1, 4, [0.0, 0, 100, 100])]
    scores = score(_truth(truth), _found([(1, 4, [0, 0, 62, 100])]))
    assert scores.summary["AP50"] == pytest.approx(1)
    assert scores.summary["AP75"] == 0
    assert scores.summary["AP"] == pytest.approx(0.3)  # 0.50, 0.55 and 0.60


def test_sizes_are_told_apart_by_area() -> None:
    scores = score(_truth(BOXES), _found(BOXES[:1]))  # the medium one
    assert (scores.summary["AP_small"], scores.summary["AP_large"]) == (0, 0)
    assert scores.summary["AP_medium"] == pytest.approx(1)


def test_a_crowd_is_neither_hit_nor_miss() -> None:
    truth = _truth(BOXES)
    crowd = {"id": 77, "image_id": 1, "category_id": 4, "bbox": [100, 100, 90, 90], "area": 8100, "iscrowd": 1}
    with_crowd = {**truth, "annotations": [*truth["annotations"], crowd]}
    detections = _found(BOXES) + _found([(1, 4, [110, 110, 30, 30]), (1, 4, [150, 150, 30, 30])], 0.95)
    assert score(truth, _found(BOXES)).summary == score(with_crowd, _found(BOXES)).summary
    assert score(with_crowd, detections).summary["AP"] == pytest.approx(1)
    assert score(truth, detections).summary["AP"] < 0.9


def test_the_scores_per_class_average_to_those_overall() -> None:
    moved = [(image, category, [x + 4, y, w, h]) for image, category, (x, y, w, h) in BOXES]
    scores = score(_truth(BOXES), _found(moved))
    for name in ("AP", "AP50", "AP75"):
        mean = (scores.per_class["cat"][name] + scores.per_class["dog"][name]) / 2
        assert scores.summary[name] == pytest.approx(mean)
    assert 0 < scores.summary["AP"] < 1


def test_scoring_prints_nothing_and_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    detections = _found(BOXES)
    before = copy.deepcopy(detections)
    score(_truth(BOXES), detections)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert detections == before


def test_boxes_become_corner_and_size_and_labels_category_ids() -> None:
    detection: Target = {
        "boxes": torch.tensor([[10.0, 20, 30, 60]]),
        "labels": torch.tensor([2]),
        "scores": torch.tensor([0.5]),
    }
    assert coco_detections(42, detection, (4, 9)) == [
        {"image_id": 42, "category_id": 9, "bbox": [10, 20, 20, 40], "score": 0.5}
    ]
    assert detection["boxes"].tolist() == [[10, 20, 30, 60]]


class _Oracle:
    """Stands for a detector: finds every object, given its images' targets in the order they come."""

    def __init__(self, classes: tuple[str, ...], answers: Iterable[Target]) -> None:
        self.classes = classes
        self.training = True
        self._answers = iter(answers)

    def eval(self) -> None:
        self.training = False

    def train(self, mode: bool) -> None:
        self.training = mode

    def detect(self, images: list[Tensor]) -> list[Target]:
        assert not self.training
        found = [next(self._answers) for _ in images]
        return [
            {"boxes": t["boxes"], "labels": t["labels"], "scores": torch.linspace(0.9, 0.5, len(t["labels"]))}
            for t in found
        ]


def _targets(stage: Stage, rank: int = 0, world_size: int = 1) -> list[Target]:
    loader = evaluation_loader(stage.job.val, 3, rank, world_size, stage.config.loader)
    return [target for _, targets in loader for target in targets]


def _evaluated(stage: Stage, detector: Any, worker: Worker) -> Any:
    batches = evaluation_loader(stage.job.val, 3, worker.rank, worker.world_size, stage.config.loader)
    return evaluate(detector, stage.job.val, batches, worker)


def test_a_detector_that_finds_everything_scores_one_on_a_data_set(tmp_path: Path) -> None:
    stage = Stage(small_run(tmp_path, "data.num_val=7"))
    result = _evaluated(stage, _Oracle(stage.job.val.classes, _targets(stage)), Worker())
    assert result.scores.summary["AP"] == pytest.approx(1)
    assert {d["image_id"] for d in result.detections} <= set(range(1, 8))
    assert result.images_per_second > 0


def test_the_order_of_the_detectors_classes_may_differ_from_the_datas(tmp_path: Path) -> None:
    stage = Stage(small_run(tmp_path, "data.num_val=7"))
    classes = tuple(reversed(stage.job.val.classes))
    answers = [{**target, "labels": len(classes) + 1 - target["labels"]} for target in _targets(stage)]
    assert len({int(label) for answer in answers for label in answer["labels"]}) > 1
    result = _evaluated(stage, _Oracle(classes, answers), Worker())
    assert result.scores.summary["AP"] == pytest.approx(1)


def test_the_detector_is_left_in_the_mode_it_was_in(tmp_path: Path) -> None:
    stage = Stage(small_run(tmp_path))
    detector = stage.detector()
    detector.train()
    _evaluated(stage, detector, Worker())
    assert detector.training
    assert detector.model.training


@dataclass(frozen=True)
class _OneOfTwo(Worker):
    """The first of two workers, given what the second one found."""

    world_size: int = 2
    other: Any = None

    def gather_on_main(self, value: T) -> list[T]:
        return [value, self.other]

    def broadcast(self, value: T) -> T:
        return value


def test_two_workers_shares_together_are_what_one_worker_finds(tmp_path: Path) -> None:
    stage = Stage(small_run(tmp_path, "data.num_val=7", "student.box_score_thresh=0"))
    detector = stage.detector()
    whole = _evaluated(stage, detector, Worker())
    second: Detections = []
    share = evaluation_loader(stage.job.val, 3, 1, 2, stage.config.loader)
    detector.eval()
    for images, targets in share:
        for target, found in zip(targets, detector.detect(images), strict=True):
            second += coco_detections(int(target["image_id"]), found, stage.job.val.category_ids)
    result = _evaluated(stage, detector, _OneOfTwo(other=second))
    assert len(whole.detections) > 7
    assert sorted(map(repr, result.detections)) == sorted(map(repr, whole.detections))
    assert result.scores.summary == pytest.approx(whole.scores.summary)


def test_every_image_is_in_the_share_of_one_worker_only(tmp_path: Path) -> None:
    stage = Stage(small_run(tmp_path, "data.num_val=7"))
    ids = [int(target["image_id"]) for rank in range(3) for target in _targets(stage, rank, 3)]
    assert sorted(ids) == list(range(1, 8))


def test_a_worker_without_images_brings_nothing(tmp_path: Path) -> None:
    stage = Stage(small_run(tmp_path, "data.num_val=1"))
    assert _targets(stage, 1, 2) == []
