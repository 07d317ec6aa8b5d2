"""What the tests of the data package share: the real data beside the repository, and small data written for a test."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data; the test is skipped where it is not there."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the data sets of {SHARED}")
    return SHARED


class CocoFolder:
    """A small COCO data set on disk that a test changes before it is written."""

    def __init__(self, folder: Path) -> None:
        self.images = folder / "val"
        self.annotations = folder / "annotations" / "val.json"
        self.images.mkdir(parents=True)
        self.annotations.parent.mkdir()
        self.content: dict[str, Any] = {
            "images": [self.image(3, "a.png", 40, 30), self.image(7, "b.png", 20, 50)],
            "annotations": [self.box(1, 3, 9, [5, 6, 10, 12])],
            "categories": [{"id": 9, "name": "dog"}, {"id": 2, "name": "cat"}],
        }

    def image(self, image_id: int, name: str, width: int, height: int) -> dict[str, Any]:
        """Write a plain image and return its entry."""
        Image.new("RGB", (width, height), "teal").save(self.images / name)
        return {"id": image_id, "file_name": name, "width": width, "height": height}

    def box(self, annotation_id: int, image_id: int, category_id: int, bbox: Sequence[float]) -> dict[str, Any]:
        """Return the entry of an annotation."""
        return {"id": annotation_id, "image_id": image_id, "category_id": category_id, "bbox": list(bbox), "iscrowd": 0}

    def write(self) -> tuple[Path, Path]:
        """Write the JSON file; return the arguments of read_coco."""
        self.annotations.write_text(json.dumps(self.content))
        return self.images, self.annotations


@pytest.fixture
def coco_folder(tmp_path: Path) -> CocoFolder:
    """A COCO folder with two images, one box and the categories 2 and 9."""
    return CocoFolder(tmp_path)
