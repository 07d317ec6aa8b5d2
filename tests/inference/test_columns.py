"""Objects and detections in columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from raydistill.inference.columns import Detections, Found, from_coco, rows_of

TRUTH: dict[str, Any] = {
    "images": [{"id": 30}, {"id": 4}],
    "categories": [{"id": 9, "name": "dog"}, {"id": 2, "name": "cat"}],
    "annotations": [
        {"id": 1, "image_id": 30, "category_id": 9, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0},
        {"id": 2, "image_id": 4, "category_id": 2, "bbox": [5, 6, 7, 8], "area": 50.5, "iscrowd": 1},
    ],
}
FOUND: Detections = [
    {"image_id": 30, "category_id": 9, "bbox": [1, 2, 3, 4.5], "score": 0.25},
    {"image_id": 4, "category_id": 2, "bbox": [0.1, 0.2, 0.3, 0.4], "score": 0.5},
]


def _found(*numbers: int) -> Found:
    column = np.array(numbers, np.int64)
    return Found(column, column + 10, np.repeat(column[:, None], 4, axis=1).astype(float), column / 100)


def test_images_and_categories_are_numbered_in_the_order_of_their_ids() -> None:
    truth, found, names = from_coco(TRUTH, FOUND)
    assert names == ["cat", "dog"]
    assert truth.image_ids.tolist() == found.image_ids.tolist() == [1, 0]
    assert truth.category_ids.tolist() == found.category_ids.tolist() == [1, 0]


def test_ids_may_be_strings_too() -> None:
    truth, _, _ = from_coco({**TRUTH, "images": [{"id": "b"}, {"id": 4}, {"id": 30}, {"id": "a"}]}, [])
    assert truth.image_ids.tolist() == [1, 0]


def test_boxes_areas_scores_and_crowds_are_kept() -> None:
    truth, found, _ = from_coco(TRUTH, FOUND)
    assert truth.boxes.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert (truth.areas.tolist(), truth.ignored.tolist()) == ([12, 50.5], [False, True])
    assert found.boxes.tolist() == [[1, 2, 3, 4.5], [0.1, 0.2, 0.3, 0.4]]
    assert found.scores.tolist() == [0.25, 0.5]


def test_what_has_an_unlisted_category_and_objects_of_unlisted_images_are_left_out() -> None:
    truth, found, names = from_coco({**TRUTH, "categories": TRUTH["categories"][:1]}, FOUND)
    assert (len(truth.areas), len(found), names) == (1, 1, ["dog"])
    assert len(from_coco({**TRUTH, "images": [{"id": 4}]}, FOUND[1:])[0].areas) == 1


def test_a_detection_on_an_unlisted_image_is_an_error() -> None:
    with pytest.raises(ValueError, match="images that the ground truth lists"):
        from_coco({**TRUTH, "images": [{"id": 4}]}, FOUND)


def test_detections_are_in_cocos_format_again() -> None:
    found = Found(np.array([30, 4]), np.array([9, 2]), np.array([f["bbox"] for f in FOUND]), np.array([0.25, 0.5]))
    assert found.as_coco() == FOUND
    assert type(found.as_coco()[0]["image_id"]) is int


def test_parts_are_joined_in_their_order() -> None:
    assert Found.joined([_found(3, 1), _found(), _found(2)]).as_coco() == _found(3, 1, 2).as_coco()


def test_no_parts_are_no_detections() -> None:
    assert len(Found.joined([])) == 0
    assert Found.joined([]).as_coco() == []


def test_rows_can_be_chosen_by_index_and_by_mask() -> None:
    found = _found(1, 2, 3)
    assert found.rows(np.array([2, 0])).scores.tolist() == [0.03, 0.01]
    assert found.rows(found.image_ids > 1).scores.tolist() == [0.02, 0.03]


def test_the_rows_of_a_category_come_in_their_order() -> None:
    rows = rows_of(np.array([7, 3, 7, 5, 3, 7]), [7, 4, 3])
    assert [row.tolist() for row in rows] == [[0, 2, 5], [], [1, 4]]
