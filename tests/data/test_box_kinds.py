"""Boxes of another kind than they are read as are told with their number and the kind that fits."""

from __future__ import annotations

import contextlib
import json
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raydistill.config.sections import CocoData, VocData
from raydistill.data.box_kinds import DECLARED, doubt_of
from raydistill.data.build import build_splits
from raydistill.data.formats.coco_results import read_detections, read_ground_truth
from raydistill.data.formats.voc import read_voc
from raydistill.errors import UserError
from tests.data.conftest import CocoFolder
from tests.data.formats.test_voc import SIZE, thing, write_image

XYWH, CORNERS, CENTRE, SWAPPED = (
    "x, y, width, height",
    "x1, y1, x2, y2",
    "centre x, centre y, width, height",
    "y1, x1, y2, x2",
)
PIXELS, UNIT, PERCENT, THOUSAND = "in pixels", "normalised to 0 to 1", "in percent", "in thousandths"


def scene(number: int, width: int, height: int, seed: int = 0) -> Any:
    """Corners of boxes of a tenth to a third of the sides, anywhere in images of a size, [N, 4]."""
    rng = np.random.default_rng(seed)
    sides = rng.uniform(0.1, 0.35, (number, 2)) * (width, height)
    first = rng.uniform(0, 1, (number, 2)) * ((width, height) - sides)
    return np.concatenate([first, first + sides], axis=1)


def written(corners: Any, width: int, height: int, form: str, scale: str = PIXELS) -> Any:
    """The four numbers that another tool writes for the boxes."""
    whole = {PIXELS: (width, height), UNIT: (1, 1), PERCENT: (100, 100), THOUSAND: (1000, 1000)}[scale]
    factor = (whole[0] / width, whole[1] / height)
    x1, y1, x2, y2 = (corners * np.tile(factor, 2)).T
    rows = {
        XYWH: (x1, y1, x2 - x1, y2 - y1),
        CORNERS: (x1, y1, x2, y2),
        CENTRE: ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1),
        SWAPPED: (y1, x1, y2, x2),
    }[form]
    return np.stack(rows, axis=1)


KINDS = [
    (CORNERS, PIXELS),
    (CENTRE, PIXELS),
    (XYWH, UNIT),
    (CORNERS, UNIT),
    (CENTRE, UNIT),
    (XYWH, PERCENT),
    (CORNERS, PERCENT),
    (CENTRE, PERCENT),
    (XYWH, THOUSAND),
    (CORNERS, THOUSAND),
]


@pytest.mark.parametrize(("form", "scale"), [*KINDS, (SWAPPED, PIXELS)])
@pytest.mark.parametrize("size", [(96, 80), (640, 480)])
def test_the_kind_that_fits_is_found(form: str, scale: str, size: tuple[int, int]) -> None:
    boxes = written(scene(40, *size), *size, form, scale)
    doubt = doubt_of(boxes, [size] * 40, DECLARED)
    assert f"[{form}] {scale}" in doubt
    assert re.match("all 40 boxes look as if given|[0-9]+ of 40 boxes do not lie in their images as", doubt)


@pytest.mark.parametrize(("form", "scale"), [(XYWH, PIXELS), (CENTRE, PIXELS), (CORNERS, UNIT), (CENTRE, UNIT)])
def test_the_kind_that_fits_is_found_where_corners_are_meant(form: str, scale: str) -> None:
    boxes = written(scene(40, 96, 80), 96, 80, form, scale)
    assert f"as [{form}] {scale}" in doubt_of(boxes, [(96, 80)] * 40, "x1, y1, x2, y2")


@pytest.mark.parametrize("seed", range(20))
def test_boxes_of_the_declared_kind_are_nothing_to_speak_of_though_some_stick_out(seed: int) -> None:
    size = [(96, 80), (640, 480), (64, 64), (3000, 20)][seed % 4]
    corners = scene(10 + 20 * seed, *size, seed)
    corners[:: seed + 5, 2] += 0.1 * size[0]
    corners[1 :: seed + 7, 1] -= 0.2 * size[1]
    sizes = [size] * len(corners)
    assert doubt_of(written(corners, *size, XYWH), sizes, DECLARED) == ""
    assert doubt_of(corners, sizes, "x1, y1, x2, y2") == ""


@pytest.mark.parametrize(
    "boxes", [[], [[0.1, 0.1, 0.2, 0.2]], [[0, 0, 1, 1]] * 5, [[0, 0, 96, 80]] * 5, [[-9, -9, 300, 300]] * 2]
)
def test_too_few_or_odd_boxes_say_nothing(boxes: list[list[float]]) -> None:
    assert doubt_of(boxes, [(96, 80)] * len(boxes), DECLARED) == ""


@pytest.mark.parametrize("size", [(96, 80), (640, 480), (4000, 3000)])
def test_boxes_of_images_of_another_size_are_told(size: tuple[int, int]) -> None:
    corners = scene(60, *size)
    smaller = doubt_of(written(corners / 2, *size, XYWH), [size] * 60, DECLARED)
    assert smaller == "all 60 boxes lie in the first 50 % of both sides: are they of smaller images?"
    larger = doubt_of(written(corners * 2, *size, XYWH), [size] * 60, DECLARED)
    assert re.match("[45][0-9] of 60 boxes do not lie in their images as .*: are they of larger", larger)


def _coco(folder: Path, boxes: Any, size: tuple[int, int], **more: Any) -> CocoData:
    coco = CocoFolder(folder)
    coco.content["images"] = [coco.image(1, "a.png", *size)]
    coco.content["annotations"] = [
        {**coco.box(number, 1, 9, row), **{key: float(value[number]) for key, value in more.items()}}
        for number, row in enumerate(np.asarray(boxes).tolist())
    ]
    coco.write()
    paths = {"train_images": "val", "train_annotations": "annotations/val.json"}
    return CocoData(format="coco", root=str(folder), **paths)


@pytest.mark.parametrize(("form", "scale"), KINDS[:4])
def test_coco_files_are_looked_at_for_training_and_for_scoring(
    tmp_path: Path, form: str, scale: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = _coco(tmp_path, written(scene(40, 96, 80), 96, 80, form, scale), (96, 80))
    with caplog.at_level(logging.WARNING):
        build_splits(data)
    told = [message for message in caplog.messages if f"as [{form}] {scale}" in message]
    assert [message.partition(":")[2][:11].strip() for message in told] == ["training:", "validation"]
    caplog.clear()
    read_ground_truth(tmp_path / "annotations" / "val.json")
    assert f"as [{form}] {scale}" in caplog.text


SQUARES = written(scene(40, 96, 80), 96, 80, XYWH)
SURFACE = SQUARES[:, 2] * SQUARES[:, 3]
AREAS: dict[str, tuple[Any, str]] = {
    "0": (SURFACE * 0, "the area of 40 of 40 objects is 0 or 1 or less"),
    "1": (SURFACE * 0 + 1, "the area of 40 of 40 objects is 0 or 1 or less"),
    "normalised": (SURFACE / (96 * 80), "the area of 40 of 40 objects is 0 or 1 or less"),
    "most 0": (SURFACE * (np.arange(40) < 10), "the area of 30 of 40 objects is 0 or 1 or less"),
    "too large": (SURFACE * 4, "is larger than the box"),
    "right": (SURFACE, ""),
    "outlines": (SURFACE * 0.4, ""),
    "some 0": (SURFACE * (np.arange(40) > 10), ""),
}


@pytest.mark.parametrize("kind", AREAS)
def test_areas_that_cannot_be_are_counted(tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    areas, words = AREAS[kind]
    data = _coco(tmp_path, SQUARES, (96, 80), area=areas)
    build_splits(data)
    read_ground_truth(tmp_path / "annotations" / "val.json")
    assert [words in message for message in caplog.messages] == [True] * (3 if words else 0)


@pytest.mark.parametrize(("ignore", "words"), [(1, "40 of 40"), (True, "40 of 40"), (0, ""), (None, "")])
def test_objects_that_are_marked_without_effect_are_counted(
    tmp_path: Path, ignore: Any, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = _coco(tmp_path, SQUARES, (96, 80), area=SURFACE)
    file = tmp_path / "annotations" / "val.json"
    content = json.loads(file.read_text())
    content["annotations"] = [{**annotation, "ignore": ignore} for annotation in content["annotations"]]
    file.write_text(json.dumps(content))
    assert build_splits(data).train.num_counted == 40
    assert len(read_ground_truth(file)["annotations"]) == 40
    assert [f"{words} objects have ignore set" in message for message in caplog.messages] == [True] * (3 * bool(words))


def _voc(folder: Path, boxes: Any) -> VocData:
    write_image(folder, "a", SIZE + "".join(thing("cat", tuple(row)) for row in np.asarray(boxes).tolist()))
    return VocData(format="voc", root=str(folder), val_split="train")


@pytest.mark.parametrize(("form", "scale"), [(XYWH, PIXELS), (CORNERS, UNIT), (CENTRE, UNIT), (CENTRE, PIXELS)])
def test_voc_files_are_looked_at(tmp_path: Path, form: str, scale: str, caplog: pytest.LogCaptureFixture) -> None:
    data = _voc(tmp_path, written(scene(40, 40, 30), 40, 30, form, scale))
    with contextlib.suppress(UserError):  # of some forms no box is left at all
        build_splits(data)
    assert f"as [{form}] {scale}" in caplog.text


ZERO: list[tuple[tuple[float, ...], str]] = [
    ((0, 5, 9, 9), "1 of 2 objects have an xmin or ymin of 0"),
    ((5, 0, 9, 9), "1 of 2 objects have an xmin or ymin of 0"),
    ((0.5, 5, 9, 9), "1 of 2 objects have an xmin or ymin of 0"),
    ((1, 1, 40, 30), ""),
    ((-1, 5, 9, 9), ""),
]


@pytest.mark.parametrize(("corners", "words"), ZERO)
def test_corners_that_prove_to_be_zero_based_are_counted(
    tmp_path: Path, corners: tuple[float, ...], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = _voc(tmp_path, [corners, (5, 5, 9, 9)])
    build_splits(data)
    told = [message for message in caplog.messages if "coordinates=zero_based takes corners as they stand" in message]
    assert [words in message for message in told] == [True] * (2 if words else 0)
    assert read_voc(tmp_path, "train", coordinates="zero_based").doubts == ()


@pytest.mark.parametrize(("form", "scale"), [(XYWH, PIXELS), *KINDS, (SWAPPED, PIXELS)])
@pytest.mark.parametrize("size", [(96, 80), (640, 480)])
def test_detections_are_held_against_the_annotated_objects(
    tmp_path: Path, form: str, scale: str, size: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    corners = scene(40, *size)
    _coco(tmp_path, written(corners, *size, XYWH), size)
    noisy = corners + np.random.default_rng(1).normal(0, 0.01 * size[0], corners.shape)
    found = [
        {"image_id": 1, "category_id": 9, "bbox": np.abs(row).tolist(), "score": 0.5}
        for row in written(noisy, *size, form, scale)
    ]
    (tmp_path / "found.json").write_text(json.dumps(found))
    truth = read_ground_truth(tmp_path / "annotations" / "val.json")
    assert len(read_detections(tmp_path / "found.json", truth)) == 40
    if (form, scale) == (XYWH, PIXELS):
        assert caplog.messages == []
    else:
        assert re.search(rf"found\.json: 40 detections overlap .* as \[{form}\] {scale}; convert", caplog.text)


def test_detections_that_are_only_bad_are_no_other_kind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _coco(tmp_path, SQUARES, (96, 80))
    rows = written(scene(40, 96, 80, seed=9), 96, 80, XYWH).tolist()
    found = [{"image_id": 1, "category_id": 9, "bbox": row, "score": 0.5} for row in rows]
    (tmp_path / "found.json").write_text(json.dumps(found))
    read_detections(tmp_path / "found.json", read_ground_truth(tmp_path / "annotations" / "val.json"))
    assert caplog.messages == []
