"""Tests of raydistill.data.build."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from raydistill.config import CocoData, Config, load_config
from raydistill.data.build import AS_USUAL, build_datasets, build_splits
from raydistill.data.dataset import DetectionDataset
from raydistill.data.discover import open_dataset
from raydistill.data.readable import check_readable
from raydistill.errors import UserError
from tests.data.conftest import CocoFolder
from tests.data.formats.test_voc import SIZE, thing, write_image


def config_with(**data: Any) -> Config:
    return load_config("quickstart", [f"data={json.dumps(data)}"])


def coco_config(folder: CocoFolder, **changes: Any) -> Config:
    """Return the settings of a folder whose one split serves for training and validation."""
    paths = {"train_images": "val", "train_annotations": "annotations/val.json"}
    return config_with(format="coco", root=str(folder.images.parent), **paths, **changes)


SPLITS = {"train": 3, "val": 2, "test": 1}
"""How many images each split of the folders below has."""


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """A COCO and a VOC data set of three splits, with the classes cat and dog."""
    roots = {"coco": tmp_path / "coco", "voc": tmp_path / "voc"}
    (roots["coco"] / "annotations").mkdir(parents=True)
    for split, count in SPLITS.items():
        stems = [f"{split}{number}" for number in range(count)]
        _write_coco_split(roots["coco"], split, stems)
        for stem in stems:
            objects = thing("cat", (2, 2, 9, 9)) + thing("dog", (4, 4, 12, 12))
            write_image(roots["voc"], stem, SIZE + objects)
    for split, count in SPLITS.items():  # each stem was added to the list of training
        stems = [f"{split}{number}" for number in range(count)]
        (roots["voc"] / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(stems))
    return roots


def _write_coco_split(root: Path, split: str, stems: list[str]) -> None:
    (root / split).mkdir()
    content: dict[str, Any] = {"categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]}
    content["images"] = [
        {"id": number, "file_name": f"{stem}.png", "width": 16, "height": 16} for number, stem in enumerate(stems)
    ]
    content["annotations"] = [
        {"id": number, "image_id": number, "category_id": 1, "bbox": [2, 2, 7, 7], "iscrowd": 0}
        for number in range(len(stems))
    ]
    for stem in stems:
        Image.new("RGB", (16, 16)).save(root / split / f"{stem}.png")
    (root / "annotations" / f"{split}.json").write_text(json.dumps(content))


def test_shapes_are_built_from_their_settings() -> None:
    train, val = build_datasets(config_with(format="shapes", num_train=5, num_val=3).data)
    assert (len(train), len(val)) == (5, 3)


@pytest.mark.parametrize("form", ["coco", "voc"])
def test_splits_are_built_and_share_the_classes_of_training(folders: dict[str, Path], form: str) -> None:
    train, val = build_datasets(config_with(format=form, root=str(folders[form])).data)
    assert (len(train), len(val)) == (3, 2)
    assert train.classes == val.classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("data", "count"),
    [
        ({"format": "coco"}, None),
        ({"format": "coco", "test_images": "test", "test_annotations": "annotations/test.json"}, 1),
        ({"format": "voc"}, None),
        ({"format": "voc", "test_split": "test"}, 1),
    ],
)
def test_a_test_split_is_built_where_one_is_named(
    folders: dict[str, Path], data: dict[str, Any], count: int | None
) -> None:
    splits = build_splits(config_with(**{**data, "root": str(folders[data["format"]])}).data)
    assert (len(splits.train), len(splits.val)) == (3, 2)
    assert (splits.test and len(splits.test)) == count
    assert splits.test is None or splits.test.classes == splits.train.classes


def test_generated_images_have_a_test_split_of_their_own_where_its_size_is_given() -> None:
    assert build_splits(config_with(format="shapes", num_train=2, num_val=2).data).test is None
    splits = build_splits(config_with(format="shapes", num_train=2, num_val=2, num_test=2).data)
    assert splits.test is not None
    first = [split.read_image(split.records[0]) for split in (splits.train, splits.val, splits.test)]
    assert len({image.numpy().tobytes() for image in first}) == 3


def test_a_test_split_of_other_categories_is_refused(coco_folder: CocoFolder) -> None:
    coco_folder.write()
    other = coco_folder.content | {"categories": [{"id": 9, "name": "dog"}, {"id": 3, "name": "cat"}]}
    (coco_folder.annotations.parent / "test.json").write_text(json.dumps(other))
    config = coco_config(coco_folder, test_images="val", test_annotations="annotations/test.json")
    with pytest.raises(UserError, match=r"test.json.*only in training: 2 cat; only in test: 3 cat"):
        build_splits(config.data)


def test_half_a_test_split_is_an_error() -> None:
    with pytest.raises(UserError, match=r"data\.test_images: must be given together with test_annotations, got test"):
        config_with(format="coco", root="x", test_images="test")


def test_images_without_objects_are_skipped_in_training_only_where_asked(coco_folder: CocoFolder) -> None:
    coco_folder.write()
    assert [len(split) for split in build_datasets(coco_config(coco_folder).data)] == [2, 2]
    skipping = coco_config(coco_folder, skip_images_without_objects=True)
    assert [len(split) for split in build_datasets(skipping.data)] == [1, 2]


def test_different_categories_of_the_splits_are_shown(coco_folder: CocoFolder) -> None:
    coco_folder.write()
    other = coco_folder.content | {"categories": [{"id": 9, "name": "dog"}, {"id": 3, "name": "cat"}]}
    (coco_folder.annotations.parent / "train.json").write_text(json.dumps(other))
    config = config_with(format="coco", root=str(coco_folder.images.parent), train_images="val")
    with pytest.raises(UserError, match="only in training: 3 cat; only in validation: 2 cat"):
        build_datasets(config.data)


def test_an_annotations_file_finds_its_images(coco_folder: CocoFolder) -> None:
    coco_folder.write()
    assert len(open_dataset(str(coco_folder.annotations))) == 2


def test_an_annotations_file_takes_the_given_images(coco_folder: CocoFolder) -> None:
    coco_folder.write()
    moved = coco_folder.images.rename(coco_folder.images.with_name("photos"))
    hidden = moved.parent / "deep" / "er" / "photos"
    hidden.parent.mkdir(parents=True)
    moved.rename(hidden)
    with pytest.raises(UserError, match=r"its images must lie near it, got no a\.png .* --images"):
        open_dataset(str(coco_folder.annotations))
    assert open_dataset(str(coco_folder.annotations), images=str(hidden)).load(0)[0].shape == (3, 30, 40)


def test_of_folders_with_equal_file_names_that_of_the_split_is_taken(coco_folder: CocoFolder) -> None:
    coco_folder.write()
    for name in ("aaa", "train"):
        other = coco_folder.images.with_name(name)
        other.mkdir()
        for image in ("a.png", "b.png"):
            (other / image).write_bytes((coco_folder.images / image).read_bytes())
    reader: Any = open_dataset(str(coco_folder.annotations)).read_image
    assert Path(reader.folder).name == "val"


@pytest.mark.parametrize("name", ["val.json", "instances_val2017.json", "bccd_val.json"])
def test_a_coco_folder_finds_the_file_of_its_split(coco_folder: CocoFolder, name: str) -> None:
    coco_folder.write()
    (coco_folder.annotations.parent / "train.json").write_text("{}")
    coco_folder.annotations.rename(coco_folder.annotations.with_name(name))
    assert len(open_dataset(str(coco_folder.images.parent))) == 2


def test_a_coco_folder_without_the_split_lists_its_files(coco_folder: CocoFolder) -> None:
    coco_folder.write()
    with pytest.raises(UserError, match=r"one file must belong to the split 'test', got none.*val\.json"):
        open_dataset(str(coco_folder.images.parent), split="test")


def test_data_opens_by_folder_file_and_split(folders: dict[str, Path]) -> None:
    assert len(open_dataset(str(folders["coco"]))) == 2
    assert len(open_dataset(str(folders["coco"]), split="test")) == 1
    assert len(open_dataset(str(folders["coco"] / "annotations" / "train.json"))) == 3
    assert len(open_dataset(str(folders["voc"]))) == 2
    assert len(open_dataset(str(folders["voc"]), split="test")) == 1


def test_a_voc_split_takes_the_classes_of_a_model(folders: dict[str, Path]) -> None:
    classes = ("dog", "bird", "cat")
    assert open_dataset(str(folders["voc"]), classes=classes).classes == classes


def test_a_folder_with_neither_form_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="must be a folder with COCO, YOLO, PASCAL VOC or LabelMe data, got an empty one"
    ):
        open_dataset(str(tmp_path))


def test_a_missing_path_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the annotations file must exist"):
        open_dataset(str(tmp_path / "gone.json"))


def test_a_split_of_a_single_file_and_images_of_a_voc_folder_are_errors(
    folders: dict[str, Path],
) -> None:
    with pytest.raises(UserError, match="--split: must be left out"):
        open_dataset(str(folders["coco"] / "annotations" / "val.json"), split="val")
    with pytest.raises(UserError, match="--images: must be left out"):
        open_dataset(str(folders["voc"]), images="photos")


def skipping(folder: CocoFolder) -> tuple[DetectionDataset, DetectionDataset]:
    folder.write()
    return build_datasets(coco_config(folder, on_bad_image="skip").data)


def test_skipped_images_are_left_out_of_both_splits_with_their_objects(
    coco_folder: CocoFolder, caplog: pytest.LogCaptureFixture
) -> None:
    (coco_folder.images / "a.png").write_bytes(b"")
    for split in skipping(coco_folder):
        assert [image["id"] for image in split.ground_truth["images"]] == [7]
        assert split.ground_truth["annotations"] == []
        assert split.classes == ("cat", "dog")
    assert [message.partition(": ")[2] for message in caplog.messages] == [
        "left out 1 of 2 images that cannot be read (data.on_bad_image=skip): a.png"
    ] * 2


def test_many_skipped_images_are_counted_and_twenty_named(
    coco_folder: CocoFolder, caplog: pytest.LogCaptureFixture
) -> None:
    gone = [{"id": 100 + i, "file_name": f"gone{i:02d}.png", "width": 4, "height": 4} for i in range(25)]
    coco_folder.content["images"] += gone
    skipping(coco_folder)
    assert "left out 25 of 27 images" in caplog.messages[0]
    assert caplog.messages[0].endswith("gone19.png and 5 more")


def test_a_split_of_skipped_images_only_is_an_error(coco_folder: CocoFolder) -> None:
    for image in coco_folder.images.iterdir():
        image.write_bytes(b"")
    with pytest.raises(UserError, match=r"must list an image that can be read .*got none of 2; the first: .*a\.png"):
        skipping(coco_folder)


def test_only_training_replaces_images_and_only_where_they_are_skipped(coco_folder: CocoFolder) -> None:
    assert [split.replaces_unreadable for split in skipping(coco_folder)] == [True, False]
    assert [split.replaces_unreadable for split in build_datasets(coco_config(coco_folder).data)] == [False, False]


def test_without_bad_images_the_splits_are_the_same_for_both_settings(coco_folder: CocoFolder) -> None:
    lenient_splits = skipping(coco_folder)
    for strict, lenient in zip(build_datasets(coco_config(coco_folder).data), lenient_splits, strict=True):
        assert strict.ground_truth == lenient.ground_truth
        assert strict.load(0)[0].equal(lenient.load(0)[0])


def test_wrong_annotations_are_an_error_though_bad_images_are_skipped(coco_folder: CocoFolder) -> None:
    (coco_folder.images / "a.png").write_bytes(b"")
    coco_folder.content["images"][1]["width"] = 5
    with pytest.raises(UserError, match=r"\(1 problem\):\n.*image 7 \(b\.png\): size must be that of the image"):
        skipping(coco_folder)


def test_skipping_leaves_classes_and_ids_of_a_voc_folder_as_they_are(tmp_path: Path) -> None:
    for stem, name in (("a", "cat"), ("b", "ant"), ("c", "cat")):
        write_image(tmp_path, stem, SIZE + thing(name, (1, 1, 9, 9)))
    (tmp_path / "JPEGImages" / "b.jpg").write_bytes(b"")
    data = config_with(format="voc", root=str(tmp_path), val_split="train", on_bad_image="skip").data
    for split in build_datasets(data):
        assert split.classes == ("ant", "cat")
        assert [(record.image_id, record.file) for record in split.records] == [(1, "a.jpg"), (3, "c.jpg")]
        assert split.records[0].labels.tolist() == [2]


def _rewritten(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_categories_that_are_only_written_otherwise_are_those_of_training(
    folders: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """In validation the ids are text, in another order, and a name has another form of Unicode."""
    annotations = folders["coco"] / "annotations"

    def train(content: dict[str, Any]) -> None:
        content["categories"] = [{"id": 2, "name": "caf\u00e9"}, {"id": 10, "name": "dog"}]
        for found in content["annotations"]:
            found["category_id"] = 10

    def val(content: dict[str, Any]) -> None:
        content["categories"] = [{"id": "10", "name": "dog "}, {"id": "2", "name": "cafe\u0301"}]
        for found in content["annotations"]:
            found["category_id"] = "10"

    _rewritten(annotations / "train.json", train)
    _rewritten(annotations / "val.json", val)
    data = CocoData(format="coco", root=str(folders["coco"]))
    check_readable(data, AS_USUAL)
    splits = build_splits(data)
    for split in (splits.train, splits.val):
        assert split.classes == ("caf\u00e9", "dog")
        assert split.category_ids == (2, 10)
        assert set(split.records.labels.tolist()) == {2}
    assert len([message for message in caplog.messages if "look" in message]) == 1
