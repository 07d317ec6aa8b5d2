"""Exports of labelling tools are read as they are: the same objects and pixels from each, and what is odd is said."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from PIL import Image

from raydistill.config import load_config
from raydistill.data.build import AS_USUAL, build_splits
from raydistill.data.dataset import DetectionDataset
from raydistill.data.discover import open_dataset
from raydistill.data.readable import check_readable

from .exports import EXPORTS, SCENES, paint, xywh

WARNINGS = {"LabelImg's VOC": "1 of 3 images without an annotation or with an empty one"}


def _objects(dataset: DetectionDataset) -> list[list[tuple[str, list[float]]]]:
    images = (dataset.records.annotated(index) for index in range(len(dataset)))
    return [[(dataset.classes[found.label - 1], list(found.box)) for found in image.objects] for image in images]


@pytest.mark.parametrize("export", EXPORTS)
def test_an_export_is_read_with_the_right_objects_and_pixels(
    export: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write, settings = EXPORTS[export]
    names = write(tmp_path / "export")
    data = load_config("quickstart", {"data": {**settings, "root": tmp_path / "export"}}).data
    check_readable(data, AS_USUAL)
    with caplog.at_level(logging.WARNING, "raydistill"):
        splits = build_splits(data)

    right = [[(name, xywh(corners)) for name, corners in scene] for scene in SCENES]
    for number, scene in enumerate(SCENES):
        paint(tmp_path / f"{number}.png", scene)
        with Image.open(tmp_path / f"{number}.png") as picture:
            pixels = torch.tensor(list(picture.tobytes()), dtype=torch.uint8).view(80, 96, 3).permute(2, 0, 1)
        for split in splits[:2]:
            assert torch.equal(split.load(number)[0], pixels)
    for split in splits[:2]:
        assert _objects(split) == right
        assert [record.file for record in split.records] == names
        assert [name for name in split.classes if name != "pets"] == ["cat", "dog"]
    said = {message for message in caplog.messages if "pets" not in message}
    assert len(said) == (export in WARNINGS)
    assert all(WARNINGS[export] in message for message in said)


@pytest.mark.parametrize("export", EXPORTS)
def test_evaluate_finds_the_same_in_an_export(export: str, tmp_path: Path) -> None:
    write, settings = EXPORTS[export]
    write(tmp_path)
    coco = settings["format"] == "coco"
    path = tmp_path / settings["val_annotations"] if coco else tmp_path
    images = str(tmp_path / settings["val_images"]) if coco else None
    classes = None if coco else ("cat", "dog")
    dataset = open_dataset(str(path), None if coco else settings["val_split"], images, classes)
    assert _objects(dataset) == [[(name, xywh(corners)) for name, corners in scene] for scene in SCENES]


def test_a_class_list_of_an_export_leaves_out_the_images_without_that_class(tmp_path: Path) -> None:
    EXPORTS["CVAT's VOC"][0](tmp_path)
    dataset = open_dataset(str(tmp_path), "dog_default", classes=("cat", "dog"))
    assert [record.file for record in dataset.records] == ["Screenshot 2024-05-01 at 10.11.12.png"]
    assert len(open_dataset(str(tmp_path), "cat_default", classes=("cat", "dog"))) == 2
