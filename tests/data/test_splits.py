"""A validation split that is set aside, and what splits must not share."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from PIL import Image
from pydantic import ValidationError

from raydistill.config import CocoData, load_config
from raydistill.data.build import build_splits
from raydistill.data.copies import set_aside
from raydistill.data.split_checks import doubts_of_splits
from raydistill.data.splits import Splits
from raydistill.errors import UserError
from raydistill.runs.directory import DATA_RECORD
from raydistill.storage.output import Output
from raydistill.training.same_data import claim_data

NAMES = [f"{letter}{number}.png" for letter in "abcde" for number in range(10)]


def _split(names: list[str], fraction: float = 0.2, seed: int = 0) -> set[str]:
    chosen = set_aside(names, list(range(len(names))), [1] * len(names), fraction, seed)
    return {name for name, taken in zip(names, chosen, strict=True) if taken}


def test_what_is_set_aside_follows_from_names_and_seed_not_from_the_order() -> None:
    shuffled = NAMES.copy()
    random.Random(1).shuffle(shuffled)
    assert len(_split(NAMES)) == 10
    assert _split(shuffled) == _split(NAMES)
    assert _split(NAMES, seed=1) != _split(NAMES)


def test_more_images_leave_most_of_the_others_where_they_were() -> None:
    before, after = _split(NAMES), _split([*NAMES, "new.png"])
    assert len(before ^ (after - {"new.png"})) <= 1


def test_the_share_is_of_images_with_objects_and_of_those_without() -> None:
    objects = [int(number < 10) for number in range(50)]
    chosen = set_aside(NAMES, list(range(50)), objects, 0.2, 0)
    assert [sum(chosen[:10]), sum(chosen[10:])] == [2, 8]
    few = set_aside(NAMES, list(range(50)), [1, 1, *[0] * 48], 0.2, 0)
    assert sum(few[:2]) == 1  # something to train on and something to score


def test_groups_stay_whole_and_a_large_one_does_not_become_the_validation_split() -> None:
    groups = [0] * 40 + list(range(40, 50))
    chosen = set_aside(NAMES, groups, [1] * 50, 0.2, 0)
    assert not any(chosen[:40])
    assert sum(chosen[40:]) > 0
    assert not any(set_aside(NAMES, [0] * 50, [1] * 50, 0.2, 0))  # all belong together


def _write(root: Path, split: str, names: dict[str, int]) -> None:
    """Write a COCO split whose images are of one shade each."""
    content: dict[str, list[dict[str, object]]] = {"images": [], "annotations": [], "categories": []}
    content["categories"] = [{"id": 1, "name": "cat"}]
    for number, (name, shade) in enumerate(names.items(), 1):
        (root / split / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (shade, shade, shade)).save(root / split / name)
        content["images"].append({"id": number, "file_name": name, "width": 16, "height": 16})
        content["annotations"].append({"id": number, "image_id": number, "category_id": 1, "bbox": [2, 2, 9, 9]})
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / f"{split}.json").write_text(json.dumps(content))


def _unsplit(root: Path, names: dict[str, int], **more: object) -> CocoData:
    _write(root, "all", names)
    paths = {"train_images": "all", "train_annotations": "annotations/all.json", "val_annotations": None}
    return CocoData.model_validate({"format": "coco", "root": str(root), **paths, **more})


def _files(splits: Splits) -> list[set[str]]:
    return [{split.records.file(index) for index in range(len(split))} for split in splits if split is not None]


@pytest.mark.parametrize("seed", range(4))
def test_equal_images_copies_of_one_picture_and_frames_of_one_video_lie_in_one_split(seed: int, tmp_path: Path) -> None:
    names = {f"{number}.png": 10 * number for number in range(8)}
    names |= {"0 again.png": 0, "1 again.png": 10}
    names |= {f"pic_jpg.rf.{number:032x}.png": 100 + number for number in range(3)}
    names |= {f"film_{number}.png": 120 + number for number in range(3)}
    data = _unsplit(tmp_path, names, group_by="^(film)_", split_seed=seed, val_fraction=0.4)
    train, val = _files(build_splits(data))
    assert train | val == set(names)
    assert not train & val
    for together in (["0.png", "0 again.png"], ["1.png", "1 again.png"], "pic", "film"):
        group = {name for name in names if name.startswith(together)} if isinstance(together, str) else {*together}
        assert group <= train or group <= val
    assert abs(len(val) - 0.4 * len(names)) <= 2


def test_a_pattern_that_is_in_no_name_and_images_that_all_belong_together_are_errors(tmp_path: Path) -> None:
    names = {f"{number}.png": number for number in range(4)}
    with pytest.raises(UserError, match=r"data\.group_by: must be found in names of images, got 'film'"):
        build_splits(_unsplit(tmp_path, names, group_by="film"))
    with pytest.raises(UserError, match=r"data\.val_fraction: must leave images with objects to train on"):
        build_splits(_unsplit(tmp_path, names, group_by="png"))


def test_settings_of_a_split_that_is_set_aside_have_their_limits() -> None:
    for value, words in (({"group_by": "("}, "must be a regular expression"), ({"val_fraction": 1}, "less than 1")):
        with pytest.raises(ValidationError, match=words):
            CocoData.model_validate({"format": "coco", "root": "x", "val_annotations": None, **value})
    with pytest.raises(UserError, match=r"data\.val_fraction: has no effect where there is a validation split"):
        load_config("finetune", ["data.root=x", "data.val_annotations=a.json", "data.val_fraction=0.3"])


def test_images_added_to_a_begun_run_are_refused_and_move_nothing_silently(tmp_path: Path) -> None:
    names = {f"{number}.png": number for number in range(10)}
    output = Output.at(str(tmp_path / "run"))
    claim_data(output, build_splits(_unsplit(tmp_path, names)), begun=False)
    assert (output.folder / DATA_RECORD).is_file()
    claim_data(output, build_splits(_unsplit(tmp_path, dict(reversed(names.items())))), begun=True)  # another order
    with pytest.raises(UserError, match=r"must be those that it was begun with, got .*new\.png\) added"):
        claim_data(output, build_splits(_unsplit(tmp_path, {**names, "new.png": 99})), begun=True)


def test_images_in_two_splits_are_named(tmp_path: Path) -> None:
    _write(tmp_path, "train", {"a.png": 1, "pic_jpg.rf.00000000000000000000aa.png": 2, "film_1.png": 3, "own.png": 4})
    _write(tmp_path, "val", {"b.png": 1, "pic_jpg.rf.00000000000000000000bb.png": 12, "film_2.png": 13, "o.png": 14})
    _write(tmp_path, "test", {"c.png": 14, "only.png": 44})
    tests = {"test_images": "test", "test_annotations": "annotations/test.json"}
    data = CocoData.model_validate({"format": "coco", "root": str(tmp_path), "group_by": "^(film)", **tests})
    assert doubts_of_splits(data, build_splits(data)) == [
        "validation: 1 image is equal to one of training, so that scores say too much: b.png",
        "test: 1 image is equal to one of validation, so that scores say too much: c.png",
        "validation: 1 image is made of the same picture as one of training, so that scores say too much: "
        "pic_jpg.rf.00000000000000000000bb.png",
        "validation: 1 image is of the same data.group_by as one of training, so that scores say too much: film_2.png",
    ]


def test_the_same_file_for_training_and_validation_is_said(tmp_path: Path) -> None:
    _write(tmp_path, "train", {"a.png": 1, "b.png": 2})
    same = {"val_images": "train", "val_annotations": "annotations/train.json"}
    data = CocoData.model_validate({"format": "coco", "root": str(tmp_path), **same})
    (doubt,) = doubts_of_splits(data, build_splits(data))
    assert doubt.startswith("validation: data.val_annotations=annotations/train.json is the training split")
