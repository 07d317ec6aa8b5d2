"""Data of the user's own: columns of what is known, and pixels of any kind of image."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import raydistill as rd
from raydistill.config.data import OwnData
from raydistill.data.build import build_splits
from raydistill.data.own import read_own
from raydistill.errors import UserError

PIXELS = np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)
KNOWN: dict[str, Any] = {"file": "a", "width": 64, "height": 48, "boxes": [[1, 2, 30, 40]], "labels": ["cat"]}
CLASSES = ["cat", "dog"]
_given: dict[str, Any] = {}


def read(split: str, settings: dict[str, Any]) -> Any:
    """Return what a test has put there for the split."""
    return _given[split]


def own(**settings: Any) -> OwnData:
    return OwnData(format="own", dataset=f"{__name__}:read", **settings)


def dataset(*images: dict[str, Any], image: Any = PIXELS) -> rd.Dataset:
    return rd.Dataset(CLASSES, [{**KNOWN, **given} for given in images], lambda _: image)  # type: ignore[misc]


def test_images_and_objects_are_what_the_user_says() -> None:
    _given["train"] = dataset(
        {"boxes": torch.tensor([[1.0, 2, 30, 40], [-5, 0, 10, 60]]), "labels": torch.tensor([1, 2])},
        {"file": "b", "labels": ["dog"], "ignored": [True]},
        {"file": "c", "boxes": [], "labels": []},
    )
    split = read_own(own(), "train")
    assert split.classes == ("cat", "dog")
    first, second, third = (split.records.annotated(index) for index in range(3))
    assert [found[:2] for found in first.objects] == [(1, (1, 2, 29, 38)), (2, (0, 0, 10, 48))]
    assert second.objects == [(2, (1, 2, 29, 38), 29 * 38, True)]
    assert (third.file, third.width, third.height, third.objects) == ("c", 64, 48, [])
    image, target = split.load(0)
    assert torch.equal(image, torch.from_numpy(PIXELS).permute(2, 0, 1))
    assert target["boxes"].tolist() == [[1, 2, 30, 40], [0, 0, 10, 48]]


@pytest.mark.parametrize(
    "image",
    [
        PIXELS,
        Image.fromarray(PIXELS),
        torch.from_numpy(PIXELS).permute(2, 0, 1),
        torch.from_numpy(PIXELS).permute(2, 0, 1) / 255,
        torch.from_numpy(PIXELS).permute(2, 0, 1).double() / 255,
    ],
)
def test_every_kind_of_image_is_the_same_pixels(image: Any) -> None:
    _given["train"] = dataset({}, image=image)
    assert torch.equal(read_own(own(), "train").load(0)[0], torch.from_numpy(PIXELS).permute(2, 0, 1))


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (PIXELS[:, :, :2], r"ndarray \[48, 64, 2\] of uint8"),
        (PIXELS.astype(np.float32), r"ndarray \[48, 64, 3\] of float32"),
        (None, "NoneType"),
        (PIXELS[:-1], r"a: must be of the size that data.dataset states, 64 x 48, got 64 x 47"),
    ],
)
def test_pixels_that_are_no_image_are_named(image: Any, said: str) -> None:
    _given["train"] = dataset({}, image=image)
    with pytest.raises(UserError, match=said):
        read_own(own(), "train").load(0)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ({"labels": ["cow"]}, "a object 1: label must be 1 to 2 or a class, got cow"),
        ({"labels": [0]}, "a object 1: label must be 1 to 2 or a class, got 0"),
        ({"labels": [3]}, "a object 1: label must be 1 to 2 or a class, got 3"),
        ({"boxes": [[1, 2, 3]]}, "a: boxes must be rows of four numbers"),
        ({"boxes": [1, 2, 30, 40]}, "a: boxes must be rows of four numbers"),
        ({"boxes": [[1, 2, 30, 40], [1, 2]]}, "a: boxes must be rows of four numbers"),
        ({"boxes": [["left", 2, 30, 40]]}, "a: boxes must be rows of four numbers"),
        ({"labels": []}, "a: must have as many labels as boxes, got 0 labels, 1 boxes"),
        ({"boxes": [[0, 0, float("nan"), 1]]}, "a object 1: the box must have finite corners"),
        ({"width": 0}, "a must have width and height"),
        ({"file": ""}, "each image must have a file"),
    ],
)
def test_what_is_wrong_is_named_with_its_image(image: dict[str, Any], said: str) -> None:
    _given["train"] = dataset(image)
    with pytest.raises(UserError, match=rf"(?s)^data\.dataset, train: .*{re.escape(said)}"):
        read_own(own(), "train")


def test_an_image_that_is_listed_twice_is_refused() -> None:
    _given["train"] = dataset({}, {})
    with pytest.raises(UserError, match="file must name each image once, got 2 images and 1 names"):
        read_own(own(), "train")


@pytest.mark.parametrize("classes", [[], ["a", "a"], [1, 2]])
def test_classes_that_are_none_are_refused(classes: list[Any]) -> None:
    _given["train"] = rd.Dataset(classes, [])
    with pytest.raises(UserError, match="classes must be different texts"):
        read_own(own(), "train")


def test_something_else_than_a_dataset_is_refused() -> None:
    _given["train"] = [1, 2]
    with pytest.raises(UserError, match=r"must return a raydistill\.Dataset, got a list"):
        read_own(own(), "train")


def test_a_box_without_extent_is_dropped_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    _given["train"] = dataset({"boxes": [[5, 5, 5, 9], [1, 2, 30, 40]], "labels": [1, 1]})
    assert len(read_own(own(), "train").records.annotated(0).objects) == 1
    assert "dropped 1 box" in caplog.text


def test_without_a_reader_the_files_are_read_and_say_their_size(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    image = {"file": str(tmp_path / "a.png"), "boxes": [[1, 2, 30, 40]], "labels": [2]}
    _given["train"] = rd.Dataset(CLASSES, [image])  # type: ignore[list-item]
    split = read_own(own(), "train")
    assert split.records.sizes.tolist() == [[64, 48]]
    assert torch.equal(split.load(0)[0], torch.from_numpy(PIXELS).permute(2, 0, 1))
    _given["train"] = rd.Dataset(CLASSES, [{**image, "file": str(tmp_path / "gone.png")}])  # type: ignore[list-item]
    with pytest.raises(UserError, match=r"gone\.png: the image file must exist"):
        read_own(own(), "train")


def test_a_torch_dataset_is_taken_as_it_is() -> None:
    target = {"boxes": torch.tensor([[1.0, 2, 30, 40]] * 2), "labels": torch.tensor([2, 1]), "iscrowd": [0, 1]}
    items = [(torch.from_numpy(PIXELS).permute(2, 0, 1) / 255, target), (Image.fromarray(PIXELS), target)]
    _given["train"] = rd.Dataset.of(items, CLASSES)
    split = read_own(own(), "train")
    assert [(found.label, found.ignored) for found in split.records.annotated(1).objects] == [(2, False), (1, True)]
    assert torch.equal(split.load(0)[0], split.load(1)[0])


def test_all_splits_have_the_same_classes_and_a_test_split_is_asked_for() -> None:
    for split in ("train", "val", "test"):
        _given[split] = dataset({}, {"file": "b", "boxes": [], "labels": []})
    assert build_splits(own()).test is None
    splits = build_splits(own(test=True, skip_images_without_objects=True))
    assert splits.test is not None
    assert [len(split) for split in (splits.train, splits.val, splits.test)] == [1, 2, 2]
    _given["test"] = rd.Dataset(["dog", "cat"], [KNOWN], lambda _: PIXELS)  # type: ignore[list-item]
    with pytest.raises(UserError, match="same classes in the same order, got cat, dog in train and dog, cat in test"):
        build_splits(own(test=True))
