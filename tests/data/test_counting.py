"""What of a split counts: nothing is trained on, or scored against, that has no object."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raydistill.config.sections import CocoData, VocData
from raydistill.data.build import AS_USUAL, build_splits
from raydistill.data.discover import open_dataset
from raydistill.data.formats.coco_results import read_ground_truth
from raydistill.data.readable import check_readable
from raydistill.data.split_checks import doubts_of_splits
from raydistill.errors import UserError
from tests.data.conftest import CocoFolder
from tests.data.formats.test_voc import SIZE, thing, write_image

Change = Callable[[dict[str, Any]], object]
LOOKS: tuple[Callable[[Any], object], ...] = (lambda data: check_readable(data, AS_USUAL), build_splits)
KEYS = {"training": "train", "validation": "val", "test": "test"}


def _coco(folder: Path, changed: str = "", change: Change = lambda content: None, **settings: Any) -> CocoData:
    """Write three splits of three objects and a crowd each, one of them changed, and return the settings."""
    coco = CocoFolder(folder)
    coco.content["annotations"] += [coco.box(2, 3, 2, [1, 1, 8, 8]), coco.box(3, 7, 9, [2, 2, 9, 9])]
    coco.content["annotations"].append({**coco.box(4, 7, 9, [0, 0, 9, 9]), "iscrowd": 1})
    for name, key in KEYS.items():
        content = json.loads(json.dumps(coco.content))
        if name == changed:
            change(content)
        (folder / "annotations" / f"{key}.json").write_text(json.dumps(content))
    images = {f"{key}_images": "val" for key in KEYS.values()}
    return CocoData(format="coco", root=str(folder), **images, test_annotations="annotations/test.json", **settings)


def _each(**values: Any) -> Change:
    return lambda content: [annotation.update(values) for annotation in content["annotations"]]


NOTHING: dict[str, tuple[Change, str]] = {
    "crowds as CVAT writes masks": (_each(iscrowd=1), r"none of 4: 4 as crowds \(iscrowd 1\) in .*iscrowd 0, as masks"),
    "true crowds": (_each(iscrowd=True), "none of 4: 4 as crowds"),
    "no annotations": (lambda content: content.update(annotations=[]), "got none in .*; add annotations"),
    "boxes without extent": (_each(bbox=[5, 5, 0, 9]), "none of 4: 4 without width or height inside the image"),
    "boxes beside the image": (_each(bbox=[500, 5, 9, 9]), "none of 4: 4 without width or height inside the image"),
    "boxes of negative width": (_each(bbox=[5, 5, -2, 9]), "none of 4: 4 without width or height"),
    "boxes thinner than float32": (_each(bbox=[5, 5, 1e-12, 9]), "none of 4: 4 without width or height"),
    "crowds and boxes beside the image": (
        lambda content: (
            [a.update(iscrowd=1) for a in content["annotations"][1:]]
            + [content["annotations"][0].update(bbox=[99, 0, 1, 1])]
        ),
        r"none of 4: (3 as crowds \(iscrowd 1\), 1 without|1 without width or height inside the image, 3 as crowds)",
    ),
}


@pytest.mark.parametrize("split", KEYS)
@pytest.mark.parametrize("kind", NOTHING)
def test_a_split_in_which_nothing_counts_is_an_error_on_the_driver_and_the_worker(
    tmp_path: Path, split: str, kind: str
) -> None:
    change, words = NOTHING[kind]
    data = _coco(tmp_path, split, change)
    purpose = "train on" if split == "training" else "score"
    for look in LOOKS:
        with pytest.raises(
            UserError, match=rf"^data\.{KEYS[split]}_annotations: must have an object to {purpose}, got"
        ):
            look(data)
        with pytest.raises(UserError, match=words):
            look(data)


def test_images_that_are_skipped_can_take_all_objects_with_them(tmp_path: Path) -> None:
    data = _coco(tmp_path, "validation", lambda c: c.update(annotations=c["annotations"][:2]), on_bad_image="skip")
    for skips in (False, True):
        build_splits(data.model_copy(update={"skip_images_without_objects": skips}))
    (tmp_path / "val" / "a.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"data\.val_annotations: must have an object to score, got none in"):
        build_splits(data)


def _voc(folder: Path, *objects: str, **settings: Any) -> VocData:
    for name, content in (("a", "".join(objects)), ("b", "")):
        write_image(folder, name, SIZE + content)
    return VocData(format="voc", root=str(folder), val_split="train", classes=("cat", "dog"), **settings)


@pytest.mark.parametrize(
    ("objects", "words"),
    [
        ([thing("cat", (1, 1, 9, 9), 1)] * 2, "none of 2: 2 as difficult in .*; difficult=include takes them in"),
        ([thing("cat", (9, 9, 5, 5))], "none of 1: 1 without width or height inside the image"),
        ([thing("cat", (9, 9, 5, 5)), thing("cat", (1, 1, 9, 9), 1)], "none of 2: 1 "),
        ([], "got none in .*; add annotations"),
    ],
)
def test_a_voc_split_in_which_nothing_counts_is_an_error_on_the_driver_and_the_worker(
    tmp_path: Path, objects: list[str], words: str
) -> None:
    data = _voc(tmp_path, *objects)
    for look in LOOKS:
        with pytest.raises(UserError, match=r"^data\.train_split: must have an object to train on, got"):
            look(data)
        with pytest.raises(UserError, match=words):
            look(data)


def test_difficult_objects_count_where_they_are_included(tmp_path: Path) -> None:
    data = _voc(tmp_path, thing("cat", (1, 1, 9, 9), 1), difficult="include")
    check_readable(data, AS_USUAL)
    assert build_splits(data).train.num_counted == 1


def test_what_is_left_out_is_counted_in_one_line_a_split(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        build_splits(_coco(tmp_path))
    told = [message for message in caplog.messages if "left out" in message]
    assert told == [f"data: {name}: 3 of 4 objects count; left out are 1 as crowds (iscrowd 1)" for name in KEYS]


def test_many_left_out_are_a_warning_with_the_likely_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    half = _coco(tmp_path, "training", lambda c: [a.update(iscrowd=1) for a in c["annotations"][:2]])
    with caplog.at_level(logging.WARNING):
        build_splits(half)
    assert caplog.messages == [
        "data: training: 1 of 4 objects count; left out are 3 as crowds (iscrowd 1); objects that are annotated one by "
        "one must have iscrowd 0, as masks too (CVAT writes 1 for masks)"
    ]


def test_difficult_and_dropped_objects_are_in_the_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    corners = [(1.0, 1.0, 9.0, float(bottom)) for bottom in range(5, 9)]
    objects = [thing("cat", one) for one in corners] + [thing("cat", (1, 1, 9, 9), 1), thing("cat", (9, 9, 5, 5))]
    with caplog.at_level(logging.INFO):
        splits = build_splits(data := _voc(tmp_path, *objects))
    words = "4 of 6 objects count; left out are 1 as difficult, 1 without width or height inside the image"
    assert [message for message in caplog.messages if "left out are" in message] == [
        f"data: {name}: {words}" for name in ("training", "validation")
    ]
    assert [doubt for doubt in doubts_of_splits(data, splits) if "no object of" in doubt] == [
        f"{name}: no object of dog" for name in ("training", "validation")
    ]


def test_data_to_score_on_without_an_object_that_counts_are_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = str(_coco(tmp_path, "validation", _each(iscrowd=1)).root)
    open_dataset(f"{root}/annotations/val.json")
    read_ground_truth(Path(root) / "annotations" / "val.json")
    text = f"{root}/annotations/val.json: no object counts (4 as crowds (iscrowd 1)): the scores show -; objects that"
    assert [message.startswith(text) for message in caplog.messages] == [True, True]


def test_data_to_score_on_say_what_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = str(_coco(tmp_path).root)
    with caplog.at_level(logging.INFO):
        open_dataset(f"{root}/annotations/val.json")
        read_ground_truth(Path(root) / "annotations" / "val.json")
    text = f"{root}/annotations/val.json: 3 of 4 objects count; left out are 1 as crowds (iscrowd 1)"
    assert caplog.messages == [text, text]
