"""What trains on a COCO file and what scores against it take the same files, and refuse others in the same words."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raydistill.data.formats.coco import read_coco
from raydistill.data.formats.coco_results import read_ground_truth
from raydistill.errors import UserError
from tests.data.conftest import CocoFolder

Change = Callable[[dict[str, Any]], Any]


def _of(section: str, **values: Any) -> Change:
    return lambda content: content[section][0].update(values)


def _without(section: str, key: str) -> Change:
    return lambda content: content[section][0].pop(key)


def _again(section: str, **values: Any) -> Change:
    return lambda content: content[section].append({**content[section][0], **values})


def _image_named(new: Any) -> Change:
    return lambda content: [content["images"][0].update(id=new), content["annotations"][0].update(image_id=new)]


ACCEPTED: dict[str, Change] = {
    "nothing odd": lambda content: None,
    "a text as image id": _image_named("left"),
    "an image id beyond 64 bits": _image_named(2**70),
    "no annotation id": _without("annotations", "id"),
    "an annotation id twice": _again("annotations", bbox=[1, 1, 5, 5]),
    "no width": _without("images", "width"),
    "a height of null": _of("images", height=None),
    "a number as class": _of("categories", name=5),
    "a box without extent": _of("annotations", bbox=[5, 5, 0, 3]),
    "a negative width": _of("annotations", bbox=[5, 5, -3, 3]),
    "a box that sticks out": _of("annotations", bbox=[-5, 20, 100, 100]),
    "no objects": lambda content: content.update(annotations=[]),
    "a crowd of true": _of("annotations", iscrowd=True),
    "an area of null": _of("annotations", area=None),
    "an image id in floating point": _image_named(3.0),
    "an image id as text for a number": _of("annotations", image_id="3"),
    "a category id as text for a number": _of("categories", id="9"),
    "a width of 0": _of("images", width=0),
    "a height as text": _of("images", height="30"),
    "the same object twice": _again("annotations"),
    "a polygon without a box": _of("annotations", bbox=None, segmentation=[[5, 6, 15, 6, 15, 18]]),
    "keys of others": _of("annotations", segmentation="x", attributes={"occluded": True}),
}
REFUSED: dict[str, Change] = {
    "an image id with a fraction": _image_named(3.5),
    "a true image id": _image_named(True),
    "a blank image id": _image_named(" "),
    "an image twice": _again("images", file_name="c.png"),
    "an image that is null": lambda content: content["images"].append(None),
    "a width of -40": _of("images", width=-40),
    "a height in words": _of("images", height="thirty"),
    "a category without name": _without("categories", "name"),
    "a category id twice": _again("categories", name="x"),
    "a category name twice": _again("categories", id=1),
    "a class with a line break": _of("categories", name="a\nb"),
    "an unlisted image": _of("annotations", image_id=99),
    "an unlisted category": _of("annotations", category_id=99),
    "an outline of two corners": _of("annotations", bbox=None, segmentation=[[1, 2, 3, 4]]),
    "a bbox of 3": _of("annotations", bbox=[1, 2, 3]),
    "a bbox in texts": _of("annotations", bbox=["1", "2", "3", "4"]),
    "no bbox": _without("annotations", "bbox"),
    "a coordinate of NaN": _of("annotations", bbox=[float("nan"), 2, 3, 4]),
    "a coordinate of 1e15": _of("annotations", bbox=[1e15, 2, 3, 4]),
    "a crowd of 2": _of("annotations", iscrowd=2),
    "a negative area": _of("annotations", area=-1),
    "two faults in one": _of("annotations", bbox=[], image_id=99),
    "no images": lambda content: content.update(images=[]),
    "no categories": lambda content: content.update(categories=[]),
    "a list missing": lambda content: content.pop("annotations"),
    "an object for a list": lambda content: content.update(images={}),
}


@pytest.mark.parametrize("change", ACCEPTED.values(), ids=ACCEPTED)
def test_an_odd_file_that_has_a_meaning_is_read_by_both(coco_folder: CocoFolder, change: Change) -> None:
    change(coco_folder.content)
    images, annotations = coco_folder.write()
    dataset = read_coco(images, annotations)
    assert len(dataset.records.labels) == len(read_ground_truth(annotations)["annotations"])


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED)
def test_a_faulty_file_is_refused_by_both_in_the_same_words(coco_folder: CocoFolder, change: Change) -> None:
    change(coco_folder.content)
    images, annotations = coco_folder.write()
    with pytest.raises(UserError) as in_training:
        read_coco(images, annotations)
    with pytest.raises(UserError) as in_scoring:
        read_ground_truth(annotations)
    assert str(in_training.value) == str(in_scoring.value)


@pytest.mark.parametrize(
    "text", [b"", b'{"images": [', b"\x89PNG\xff", b"[]", b"null", b'{"a": 1, "a": 2}', b"[" * 100_000]
)
def test_a_file_in_another_form_is_refused_by_both_in_the_same_words(coco_folder: CocoFolder, text: bytes) -> None:
    images, annotations = coco_folder.write()
    annotations.write_bytes(text)
    messages = []
    for read in (lambda path: read_coco(images, path), read_ground_truth):
        with pytest.raises(UserError) as caught:
            read(annotations)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_both_say_alike_what_is_left_out_and_what_is_read_with_a_flaw(
    coco_folder: CocoFolder, caplog: pytest.LogCaptureFixture
) -> None:
    _of("annotations", bbox=[5, 5, 0, 3])(coco_folder.content)
    _again("annotations", bbox=[1, 1, 5, 5])(coco_folder.content)
    images, annotations = coco_folder.write()
    with caplog.at_level(logging.WARNING):
        read_coco(images, annotations)
        in_training = caplog.messages[:]
        caplog.clear()
        read_ground_truth(annotations)
    assert caplog.messages == in_training
    assert len(in_training) == 2


def test_a_fault_in_a_long_list_is_found_without_comparing_each_with_each(tmp_path: Path) -> None:
    """Every annotation is faulty and every key comes twice or from afar: what takes each pair would take minutes."""
    count = 5_000
    content = {
        "images": [{"id": number} for number in range(count)],
        "categories": [{"id": number, "name": f"c{number}"} for number in range(count)],
        "annotations": [{"image_id": -1, "category_id": -1, "bbox": [number]} for number in range(count)],
    }
    path = tmp_path / "long.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"the first of 15000(.|\n)*and 14980 more"):
        read_ground_truth(path)
