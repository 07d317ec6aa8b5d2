"""Tests of raydistill.data.dataset."""

from __future__ import annotations

import contextlib
import io
import pickle
from dataclasses import replace
from typing import Any

import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from raydistill.data.dataset import AnnotatedImage, AnnotatedObject, DetectionDataset, Record, Records


def grey(record: Record) -> Tensor:
    return torch.full((3, record.height, record.width), 128, dtype=torch.uint8)


def example() -> DetectionDataset:
    """Three images: two objects of which one is ignored, none, one."""
    images = [
        AnnotatedImage(
            5,
            "á.jpg",
            40,
            30,
            [
                AnnotatedObject(1, (1.0, 2.0, 10.0, 20.0), 150.0, False),
                AnnotatedObject(2, (0.0, 0.0, 30.0, 30.0), 900.0, True),
            ],
        ),
        AnnotatedImage(6, "b.jpg", 20, 20, []),
        AnnotatedImage(9, "c.jpg", 50, 60, [AnnotatedObject(2, (0.1, 0.2, 5.3, 6.4), 33.92, False)]),
    ]
    return DetectionDataset(("cat", "dog"), (4, 8), Records.build(images), grey)


def average_precision(truth: dict[str, Any], detections: list[dict[str, Any]]) -> float:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(detections), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


def test_records_hold_the_training_objects_as_corners() -> None:
    record = example().records[0]
    assert (record.image_id, record.file, record.width, record.height) == (5, "á.jpg", 40, 30)
    assert record.boxes.tolist() == [[1, 2, 11, 22]]
    assert record.boxes.dtype == torch.float32
    assert record.labels.tolist() == [1]
    assert record.labels.dtype == torch.int64


def test_an_image_without_objects_has_empty_boxes_of_four_columns() -> None:
    assert example().records[1].boxes.shape == (0, 4)


def test_records_are_counted_from_both_ends_and_end() -> None:
    records = example().records
    assert [record.image_id for record in records] == [5, 6, 9]
    assert records[-1].image_id == 9
    with pytest.raises(IndexError):
        records[3]


def test_boxes_shrink_with_an_image_that_the_reader_gives_smaller() -> None:
    halves = replace(example(), read_image=lambda record: grey(record)[:, ::2, ::5])
    image, target = halves.load(0)
    assert image.shape == (3, 15, 8)
    assert target["boxes"][0].tolist() == pytest.approx([1 / 5, 2 / 2, 11 / 5, 22 / 2])
    assert halves.records[0].boxes.tolist() == [[1, 2, 11, 22]]


def test_load_gives_the_image_and_its_target() -> None:
    image, target = example().load(2)
    assert image.shape == (3, 60, 50)
    assert target["image_id"] == 9
    assert target["labels"].tolist() == [2]
    torch.testing.assert_close(target["boxes"], torch.tensor([[0.1, 0.2, 5.4, 6.6]]))


def test_the_ground_truth_holds_all_images_and_marks_ignored_objects_as_crowds() -> None:
    truth = example().ground_truth
    assert [image["id"] for image in truth["images"]] == [5, 6, 9]
    assert [(found["category_id"], found["iscrowd"]) for found in truth["annotations"]] == [(4, 0), (8, 1), (8, 0)]
    assert truth["annotations"][0]["area"] == 150.0
    assert truth["annotations"][2]["bbox"] == [0.1, 0.2, 5.3, 6.4]
    assert truth["categories"] == [{"id": 4, "name": "cat"}, {"id": 8, "name": "dog"}]


def test_perfect_detections_score_one_and_those_on_ignored_objects_do_not_count() -> None:
    truth = example().ground_truth
    detections = [
        {"image_id": found["image_id"], "category_id": found["category_id"], "bbox": found["bbox"], "score": 0.5}
        for found in truth["annotations"]
    ]
    assert average_precision(truth, detections) == pytest.approx(1.0)


def test_without_empty_keeps_the_images_with_training_objects() -> None:
    only_crowds = AnnotatedImage(1, "d.jpg", 9, 9, [AnnotatedObject(1, (0.0, 0.0, 5.0, 5.0), 25.0, True)])
    dataset = example()
    everything = [dataset.records.annotated(index) for index in range(3)]
    longer = DetectionDataset(dataset.classes, dataset.category_ids, Records.build([*everything, only_crowds]), grey)
    kept = longer.without_empty()
    assert [record.image_id for record in kept.records] == [5, 9]
    assert [kept.records.annotated(index) for index in range(2)] == [everything[0], everything[2]]


def test_a_dataset_survives_pickling() -> None:
    copy = pickle.loads(pickle.dumps(example()))
    assert copy.ground_truth == example().ground_truth
    assert torch.equal(copy.load(0)[0], example().load(0)[0])


def test_a_thousand_images_with_seven_objects_each_pickle_to_less_than_a_megabyte() -> None:
    objects = [AnnotatedObject(1, (1.0, 2.0, 3.0, 4.0), 12.0, False)] * 7
    records = Records.build(AnnotatedImage(i, f"{i:012d}.jpg", 640, 480, objects) for i in range(1000))
    assert len(pickle.dumps(records)) < 1_000_000
