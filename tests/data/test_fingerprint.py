"""What stands for data, so that a change is noticed, and told."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from raydistill.config import CocoData, ShapesData
from raydistill.data import checksums
from raydistill.data import fingerprint as module
from raydistill.data.build import build_splits
from raydistill.data.fingerprint import differences, digest, fingerprint, from_text, in_another_order, to_text
from raydistill.storage.store import store
from tests.object_store import BUCKET, s3_server

Change = Callable[[Path], Any]
CONTENT: dict[str, Any] = {
    "images": [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in (1, 2, 3)],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 12], "area": 120, "iscrowd": 0},
        {"id": 2, "image_id": 1, "category_id": 2, "bbox": [5.5, 2, 10, 12.25], "area": 100, "iscrowd": 0},
        {"id": 3, "image_id": 2, "category_id": 2, "bbox": [3, 4, 9, 8], "area": 72, "iscrowd": 1},
    ],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
}


def _draw(path: Path, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for split in ("train", "val"):
        (root / split).mkdir()
        for number in (1, 2, 3):
            _draw(root / split / f"{number}.png", number)
        (root / f"{split}.json").write_text(json.dumps(CONTENT))
    return root


def _look(root: object) -> module.Fingerprint:
    data = CocoData(format="coco", root=str(root), train_annotations="train.json", val_annotations="val.json")
    return fingerprint(build_splits(data))


def _edit(change: Callable[[dict[str, Any]], Any], *splits: str) -> Change:
    """Change the content of annotation files."""

    def edit(root: Path) -> None:
        for split in splits or ("train",):
            content = json.loads((root / f"{split}.json").read_text())
            change(content)
            (root / f"{split}.json").write_text(json.dumps(content))

    return edit


def _add_image(content: dict[str, Any]) -> None:
    content["images"].append({"id": 9, "file_name": "9.png", "width": 40, "height": 30})


def _remove_image(content: dict[str, Any]) -> None:
    content["images"] = [image for image in content["images"] if image["id"] != 2]
    content["annotations"] = [found for found in content["annotations"] if found["image_id"] != 2]


def _exchange_classes(content: dict[str, Any]) -> None:
    content["categories"] = [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]


def _same_size_and_time(root: Path) -> None:
    """Change one byte of the image, in the last of its compressed pixels."""
    file = root / "train" / "2.png"
    state, content = file.stat(), bytearray(file.read_bytes())
    content[-30] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))


CHANGES: dict[str, tuple[Change, list[str]]] = {
    "a box moved by a millionth of a pixel": (
        _edit(lambda c: c["annotations"][0]["bbox"].__setitem__(0, 1.000001)),
        ["train: other annotations of 1 image (1.png), 3 objects then, 3 now"],
    ),
    "an object more in both": (
        _edit(lambda c: c["annotations"].append({**c["annotations"][0], "id": 7, "image_id": 3}), "train", "val"),
        [f"{split}: other annotations of 1 image (3.png), 3 objects then, 4 now" for split in ("train", "val")],
    ),
    "an object less": (
        _edit(lambda c: c["annotations"].pop()),
        ["train: other annotations of 1 image (2.png), 3 objects then, 2 now"],
    ),
    "another class of an object": (
        _edit(lambda c: c["annotations"][0].update(category_id=2)),
        ["train: other annotations of 1 image (1.png), 3 objects then, 3 now"],
    ),
    "no crowd any more": (
        _edit(lambda c: c["annotations"][2].update(iscrowd=0)),
        ["train: other annotations of 1 image (2.png), 3 objects then, 3 now"],
    ),
    "another area": (
        _edit(lambda c: c["annotations"][0].update(area=2000), "val"),
        ["val: other annotations of 1 image (1.png), 3 objects then, 3 now"],
    ),
    "an image added": (
        lambda root: (_draw(root / "train" / "9.png", 9), _edit(_add_image)(root)),
        ["train: 1 image (9.png) added"],
    ),
    "an image removed": (_edit(_remove_image), ["train: 1 image (2.png) removed"]),
    "an image replaced": (lambda root: _draw(root / "val" / "2.png", 8), ["val: other content of 1 image (2.png)"]),
    "two images exchanged": (
        lambda root: [_draw(root / "train" / name, seed) for name, seed in (("1.png", 2), ("2.png", 1))],
        ["train: other content of 2 images (first 1.png)"],
    ),
    "a byte of an image, its size and time as before": (
        _same_size_and_time,
        ["train: other content of 1 image (2.png)"],
    ),
    "classes exchanged in both": (
        _edit(_exchange_classes, "train", "val"),
        [
            f"{split}: the classes were cat, dog and are dog, cat, so that labels have another meaning, other "
            "annotations of 2 images (first 1.png), 3 objects then, 3 now"
            for split in ("train", "val")
        ],
    ),
    "a class added": (
        _edit(lambda c: c["categories"].append({"id": 3, "name": "owl"}), "train", "val"),
        [f"{split}: other classes (added owl)" for split in ("train", "val")],
    ),
    "a class renamed": (
        _edit(lambda c: c["categories"][0].update(name="lynx"), "train", "val"),
        [
            f"{split}: other classes (added lynx; without cat), other annotations of 1 image (1.png), 3 objects then, "
            "3 now"
            for split in ("train", "val")
        ],
    ),
}
SAME: dict[str, Change] = {
    "times": lambda root: [os.utime(file, (1, 1)) for file in root.rglob("*.*")],
    "the file written with spaces and other annotation ids": lambda root: (root / "train.json").write_text(
        json.dumps(
            CONTENT | {"annotations": [{**found, "id": 50 + found["id"]} for found in CONTENT["annotations"]]}, indent=4
        )
    ),
    "objects in another order": _edit(lambda c: c["annotations"].reverse()),
    "images in another order": _edit(lambda c: c["images"].reverse()),
    "another license": _edit(lambda c: c.update(licenses=[{"id": 1}])),
    "an image that is not listed": lambda root: _draw(root / "train" / "12.png", 12),
}


@pytest.fixture
def copied(original: Path, tmp_path: Path) -> Path:
    shutil.copytree(original, tmp_path / "copied")
    return tmp_path / "copied"


@pytest.mark.parametrize("name", CHANGES)
def test_what_changed_is_told(name: str, original: Path, copied: Path) -> None:
    change, told = CHANGES[name]
    change(copied)
    before, now = _look(original), _look(copied)
    assert differences(before, now) == told
    assert digest(before) != digest(now)


@pytest.mark.parametrize("name", SAME)
def test_what_is_the_same_is_no_change_wherever_it_lies(name: str, original: Path, copied: Path) -> None:
    SAME[name](copied)
    before, now = _look(original), _look(copied)
    assert differences(before, now) == []
    assert digest(before) == digest(now)
    assert in_another_order(before, now) == (["train"] if name == "images in another order" else [])


def test_what_was_written_down_is_read_back(original: Path) -> None:
    found = _look(original)
    back = from_text(to_text(found))
    assert back is not None
    assert to_text(back) == to_text(found)
    assert differences(back, found) == []
    assert back["train"].names == (b"1.png", b"2.png", b"3.png")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        '{"version": 1}',
        '{"version": 1, "splits": {"train": 5}}',
        '{"version": 1, "splits": []}',
        "[" * 9999,
    ],
)
def test_what_is_damaged_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_text(text)


def test_half_of_what_was_written_is_a_value_error_and_another_versions_is_nothing(original: Path) -> None:
    raw = json.loads(to_text(_look(original)))
    raw["splits"]["train"]["images"] = raw["splits"]["val"]["images"][:8]
    with pytest.raises(ValueError, match=r"."):
        from_text(json.dumps(raw))
    assert from_text(json.dumps(raw | {"version": 2})) is None


def test_of_a_large_file_first_middle_and_last_bytes_count(tmp_path: Path) -> None:
    file, content = tmp_path / "large", bytearray(200_000)
    file.write_bytes(content)
    before = checksums._checksum(file)
    for place in (0, 16_383, 61_300, 130_000, 199_999):
        content[place] = 1
        file.write_bytes(content)
        assert checksums._checksum(file) != before
        content[place] = 0


def test_drawn_images_follow_from_their_settings() -> None:
    few, more = (build_splits(ShapesData(format="shapes", num_train=n, num_val=2, size=64)) for n in (2, 3))
    assert differences(fingerprint(few), fingerprint(few)) == []
    assert differences(fingerprint(few), fingerprint(more)) == ["train: 1 image (train_000002.png) added"]


def test_on_a_store_an_image_counts_by_its_etag(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path / "cache"))
    with s3_server():
        place = store(f"s3://{BUCKET}/data")
        for file in original.rglob("*.*"):
            place.put(file, str(file.relative_to(original)))
        before = _look(place.uri)
        place.put(original / "train" / "1.png", "train/1.png")  # another time
        assert differences(before, _look(place.uri)) == []
        place.put(original / "train" / "1.png", "train/3.png")
        assert differences(before, _look(place.uri)) == ["train: other content of 1 image (3.png)"]
        assert differences(_look(original), before) == []  # looked at in another way
