"""The look at data before anything is started: it finds what reading would find first, in the same words."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raydistill.config.sections import CocoData, VocData
from raydistill.data import readable
from raydistill.data.build import AS_USUAL, build_splits
from raydistill.data.readable import check_readable
from raydistill.errors import UserError
from tests.data.test_build import folders as folders  # a fixture
from tests.small import run_python


def _data(folders: dict[str, Path], form: str) -> Any:
    kind: Any = {"coco": CocoData, "voc": VocData}[form]
    given: dict[str, Any] = {"format": form, "root": str(folders[form])}
    if form == "coco":
        given |= {"test_images": "test", "test_annotations": "annotations/test.json"}
    return kind(**given, **({"test_split": "test"} if form == "voc" else {}))


@pytest.mark.parametrize("form", ["coco", "voc"])
def test_data_that_can_be_read_pass(folders: dict[str, Path], form: str) -> None:
    check_readable(_data(folders, form), AS_USUAL)


def _put_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _rename_category(root: Path) -> None:
    file = root / "annotations" / "test.json"
    file.write_text(file.read_text().replace("cat", "bird"))


BROKEN: dict[str, tuple[str, Callable[[Path], object]]] = {
    "no folder": ("coco", shutil.rmtree),
    "no annotations": ("coco", lambda root: (root / "annotations" / "val.json").unlink()),
    "no JSON": ("coco", lambda root: (root / "annotations" / "test.json").write_text("[")),
    "no images": ("coco", lambda root: shutil.rmtree(root / "test")),
    "no category": (
        "coco",
        lambda root: (root / "annotations" / "train.json").write_text(
            json.dumps({"images": [{"id": 1, "file_name": "train0.png"}], "categories": [], "annotations": []})
        ),
    ),
    "other categories": ("coco", _rename_category),
    "no VOC folder": ("voc", shutil.rmtree),
    "no list": ("voc", lambda root: (root / "ImageSets" / "Main" / "test.txt").unlink()),
    "no XML": ("voc", lambda root: [path.unlink() for path in (root / "Annotations").glob("val*.xml")]),
    "FIFO for a list": ("voc", lambda root: _put_fifo(root / "ImageSets" / "Main" / "val.txt")),
    "FIFO for annotations": ("coco", lambda root: _put_fifo(root / "annotations" / "val.json")),
    "no image of a list": ("voc", lambda root: next((root / "JPEGImages").glob("train2.*")).unlink()),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_wrong_is_told_as_reading_tells_it(folders: dict[str, Path], kind: str) -> None:
    form, spoil = BROKEN[kind]
    data = _data(folders, form)
    spoil(folders[form])
    with pytest.raises(UserError) as built:
        build_splits(data)
    with pytest.raises(UserError) as looked_at:
        check_readable(data, AS_USUAL)
    assert str(looked_at.value) == str(built.value)


def test_a_folder_without_the_first_image_is_told_unless_such_images_are_skipped(folders: dict[str, Path]) -> None:
    data = _data(folders, "coco")
    (folders["coco"] / "val" / "val0.png").unlink()
    with pytest.raises(UserError, match=r"image 0: .*val0\.png: the image"):
        check_readable(data, AS_USUAL)
    check_readable(data.model_copy(update={"on_bad_image": "skip"}), AS_USUAL)


def test_annotations_that_take_long_to_be_read_are_left_to_the_workers(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readable, "_LARGEST_READ", 10)
    (folders["coco"] / "annotations" / "val.json").write_text("no JSON, but much of it")
    check_readable(_data(folders, "coco"), AS_USUAL)
    shutil.rmtree(folders["coco"] / "val")
    with pytest.raises(UserError, match="the folder of the images"):
        check_readable(_data(folders, "coco"), AS_USUAL)


def test_no_torch_is_needed_for_the_look() -> None:
    """The driver of a sweep has none, and of a run's start it would be the longest part."""
    loaded = "import sys, raydistill.training.inputs; print('torch' in sys.modules)"
    assert run_python("-c", loaded).stdout == "False\n"
