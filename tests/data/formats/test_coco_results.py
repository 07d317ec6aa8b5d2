"""COCO files that are scored without images: what is read, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raydistill.data.formats.coco_results import read_detections, read_ground_truth
from raydistill.errors import UserError

TRUTH: dict[str, Any] = {
    "images": [{"id": 3, "width": 100, "height": 100}, {"id": 8, "width": 100, "height": 100}],
    "annotations": [{"id": 0, "image_id": 3, "category_id": 7, "bbox": [10, 10, 20, 30]}],
    "categories": [{"id": 7, "name": "cat"}, {"id": 2, "name": "dog"}],
}


def _written(folder: Path, content: Any, name: str = "file.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(content))
    return path


def _truth(folder: Path, **changes: Any) -> dict[str, Any]:
    return read_ground_truth(_written(folder, {**TRUTH, **changes}))


def _annotation(**changes: Any) -> list[dict[str, Any]]:
    return [{**TRUTH["annotations"][0], **changes}]


def _detection(**changes: Any) -> dict[str, Any]:
    return {"image_id": 3, "category_id": 7, "bbox": [10, 10, 20, 30], "score": 0.5, **changes}


def _read(folder: Path, detections: Any) -> Any:
    return read_detections(_written(folder, detections, "detections.json"), _truth(folder))


def test_annotations_are_numbered_from_one(tmp_path: Path) -> None:
    assert [a["id"] for a in _truth(tmp_path, annotations=_annotation() + _annotation(id=5))["annotations"]] == [1, 2]


def test_a_missing_area_is_width_times_height(tmp_path: Path) -> None:
    assert _truth(tmp_path)["annotations"][0]["area"] == 600


def test_an_area_that_is_given_is_kept(tmp_path: Path) -> None:
    assert _truth(tmp_path, annotations=_annotation(area=7.5))["annotations"][0]["area"] == 7.5


@pytest.mark.parametrize(("given", "read"), [({}, 0), ({"iscrowd": None}, 0), ({"iscrowd": 1}, 1)])
def test_a_missing_crowd_flag_is_no_crowd(tmp_path: Path, given: dict[str, Any], read: int) -> None:
    assert _truth(tmp_path, annotations=_annotation(**given))["annotations"][0]["iscrowd"] == read


def test_detections_are_read_as_they_are(tmp_path: Path) -> None:
    assert _read(tmp_path, [_detection()]) == [_detection()]


def test_no_detections_are_fine(tmp_path: Path) -> None:
    assert _read(tmp_path, []) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_id": 99}, "image_id must be one of the annotations', got 99"),
        ({"category_id": 99}, "category_id must be one of the annotations', got 99"),
        ({"category_id": None}, "category_id must be a whole number or a text that can be printed, got None"),
        ({"bbox": [1, 2, 3]}, r"bbox must be \[x, y, width, height\] in finite numbers, got \[1, 2, 3\]"),
        ({"bbox": [1, 2, 3, "4"]}, "bbox must be"),
        ({"bbox": [1, 2, 3, float("nan")]}, "bbox must be"),
        ({"score": None}, "score must be a number, got None"),
        ({"score": "high"}, "score must be a number, got 'high'"),
        ({"score": float("inf")}, "score must be a number, got inf"),
    ],
)
def test_a_detection_that_does_not_fit_is_named(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=f"detection number 2: {words}") as caught:
        _read(tmp_path, [_detection(), _detection(**change)])
    assert "detections.json" in str(caught.value)


def test_a_detection_that_is_no_object_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="detection number 1: must be an object with image_id"):
        _read(tmp_path, [5])


def test_many_wrong_detections_are_counted_and_the_first_twenty_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="and 5 more") as caught:
        _read(tmp_path, [_detection(image_id=99)] * 25)
    assert str(caught.value).count("detection number") == 20


def test_annotations_given_as_detections_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be a list of detections, got a dict"):
        _read(tmp_path, TRUTH)


def test_detections_given_as_annotations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"must be a COCO file with the lists .* got a list"):
        read_ground_truth(_written(tmp_path, []))


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_annotations_without_a_part_are_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(UserError, match=f"must be a COCO file with the lists .* got none of {key}"):
        _truth(tmp_path, **{key: None})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_id": 99}, "image_id must be that of an image, got 99"),
        ({"bbox": None}, "bbox must be"),
        ({"area": "large"}, "area must be a number from 0 on, got 'large'"),
    ],
)
def test_an_annotation_that_does_not_fit_is_named(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=f"annotation 41: {words}"):
        _truth(tmp_path, annotations=_annotation(id=41, **change))


@pytest.mark.parametrize(
    "change",
    [
        {"images": [{"file_name": "a.png"}]},
        {"images": ["a.png"]},
        {"images": [{"id": [3]}]},
        {"categories": [{"id": 7}]},
        {"categories": ["cat"]},
        {"categories": [{"name": "cat"}]},
    ],
)
def test_an_image_or_category_without_id_or_name_is_a_sentence(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"(image|category) (number 1|7): .*must be (an object|given|a whole)"):
        _truth(tmp_path, **{"annotations": [], **change})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.json: the annotations file must exist"):
        read_ground_truth(tmp_path / "gone.json")


def test_a_file_that_is_cut_off_is_named_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "cut.json"
    path.write_text(json.dumps(TRUTH, indent=1)[:-40])
    with pytest.raises(UserError, match=r"cut\.json, line \d+, column \d+: must be complete JSON"):
        read_ground_truth(path)


def test_a_file_of_other_bytes_is_named(tmp_path: Path) -> None:
    path = tmp_path / "image.json"
    path.write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(UserError, match=r"image\.json: must be UTF-8 text"):
        read_ground_truth(path)


def test_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the annotations file must exist"):
        read_ground_truth(tmp_path)
