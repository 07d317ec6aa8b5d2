"""Files to be scored that are broken, through ``read_ground_truth`` and ``read_detections``."""

# ruff: noqa: E501  (a row of a table is a line)
from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raydistill.data.formats.coco_results import read_detections, read_ground_truth

from .cases import Case, right, warned

Run = Callable[[Path], Any]
BOX = {"image_id": 3, "category_id": 7, "bbox": [10, 10, 20, 30]}


def truth(change: Callable[[dict[str, Any]], Any] = lambda content: None) -> dict[str, Any]:
    content: dict[str, Any] = {
        "images": [{"id": 3}, {"id": 8}],
        "categories": [{"id": 7, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [{"id": 1, **BOX}],
    }
    change(content)
    return content


def annotated(change: Callable[[dict[str, Any]], Any] | str | bytes) -> Run:
    """Read annotations after ``change``, or a file that holds a text instead."""

    def run(folder: Path) -> Any:
        raw = json.dumps(truth(change)) if callable(change) else change
        path = folder / "truth.json"
        path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
        return len(read_ground_truth(path)["annotations"])

    return run


def of(section: str, **values: Any) -> Run:
    return annotated(lambda content: content[section][0].update(values))


def more(**values: Any) -> Run:
    """Add an annotation to the one that is sound."""
    return annotated(lambda content: content["annotations"].append({"id": 2, **BOX, **values}))


def detected(**values: Any) -> Run:
    return listed([{**BOX, "score": 0.5, **values}])


def listed(detections: Any) -> Run:
    def run(folder: Path) -> Any:
        (folder / "found.json").write_text(json.dumps(detections))
        (folder / "truth.json").write_text(json.dumps(truth()))
        return len(read_detections(folder / "found.json", read_ground_truth(folder / "truth.json")))

    return run


def fifo(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.json")
    return folder / "pipe.json"


def sparse(folder: Path, size: int) -> Path:
    (folder / "big.json").touch()
    os.truncate(folder / "big.json", size)
    return folder / "big.json"


CASES = [
    Case("annotations that are not there", lambda folder: read_ground_truth(folder / "x.json"), r"x\.json: the annotations file must exist"),
    Case("a folder", lambda folder: read_ground_truth(folder), "the annotations file must exist"),
    Case("a name with a NUL", lambda _: read_ground_truth(Path("a\0b")), "must be JSON that can be read, got .*null"),
    Case("an endless name", lambda _: read_ground_truth(Path("x" * 5000)), "must be readable, got: .*too long"),
    Case("annotations cut off", annotated('{"images": ['), r"truth\.json, line 1, column 13: must be complete JSON"),
    Case("annotations that are no text", annotated(b"\x89PNG\xff"), "must be UTF-8 text"),
    Case("annotations nested deeply", annotated("[" * 100_000), "can be read, got lists and objects nested too deeply"),
    Case("a key twice", annotated('{"images": [], "images": []}'), "can be read, got the key 'images' twice"),
    Case("a list as annotations", annotated("[]"), "must be a COCO file with the lists .* got a list; export"),
    Case("no annotations list", annotated(lambda c: c.pop("annotations")), "must be a COCO file with the lists .* got none of annotations"),
    Case("no images", annotated(lambda c: c.update(images=[])), "images: must list at least one image, got none; add"),
    Case("no categories", annotated(lambda c: c.update(categories=[])), "categories: must name at least one class, got none"),
    Case("an image without id", annotated(lambda c: c["images"].append({})), "image number 3: id must be given, got none"),
    Case("a true image id", of("images", id=True), "image number 1: id must be a whole number or a text"),
    warned("an image id in floating point", of("images", id=3.0), "ids written as fractions, read as whole numbers, 1 in all: image 3", 1),
    warned("a detection's image id in floating point", detected(image_id=3.0), "ids written as fractions, .*: detection number 1", 1),
    warned("a detection's ids as text", detected(image_id="3", category_id="7"), "ids written as text for a number .*, 2 in all: image_id '3' of detection", 1),
    Case("a detection's id as another text", detected(image_id="3.0"), "image_id must be one of the annotations', got '3.0'"),
    Case("detections in a FIFO", lambda folder: read_detections(fifo(folder), {"images": [], "categories": []}), "must be readable, got: a named pipe"),
    Case("annotations from a device", lambda folder: read_ground_truth(Path("/dev/zero")), "/dev/zero: must be readable, got: a device where a"),
    Case("annotations of 9 GB", lambda folder: read_ground_truth(sparse(folder, 9 * 10**9)), r"got: 9\.0 GB, more than the 8\.0 GB that"),
    Case("5 GB of nothing", lambda folder: read_ground_truth(sparse(folder, 5 * 10**9)), "must be complete JSON"),
    Case("an image twice", annotated(lambda c: c["images"].append({"id": 3})), "image 3: id must be unique, got 3 again"),
    Case("a category id twice", annotated(lambda c: c["categories"].append({"id": 7, "name": "x"})), "id must be unique"),
    Case("a category name twice", of("categories", name="dog"), "category 2: name must be unique, got 'dog'"),
    Case("a category without name", of("categories", name=None), "category 7: name must be a text that can be printed, got None"),
    Case("a category of half a letter", of("categories", name="\ud800"), "category 7: name must be a text that can be printed"),
    Case("an unlisted image", of("annotations", image_id=99), "annotation 1: image_id must be that of an image, got 99"),
    Case("an image id as list", of("annotations", image_id=[3]), "annotation 1: image_id must be a whole number or a text"),
    Case("a bbox of 3", of("annotations", bbox=[1, 2, 3]), r"annotation 1: bbox must be \[x, y, width, height\]"),
    Case("a bbox of 401 digits", of("annotations", bbox=[10**400, 0, 1, 1]), "annotation 1: bbox must be"),
    warned("a negative width", more(bbox=[5, 5, -3, 4]), r"dropped 1 box .* annotation 2 of image 3 \[5, 5, -3, 4\]", 1),
    warned("no width", more(bbox=[5, 5, 0, 4]), "dropped 1 box without width or height", 1),
    warned("no annotation id", annotated(lambda c: c["annotations"][0].pop("id")), "1 annotation without an id of its own", 1),
    Case("a crowd that is a text", of("annotations", iscrowd="no"), "annotation 1: iscrowd must be 0 or 1, got 'no'"),
    Case("a crowd that is a list", of("annotations", iscrowd=[1]), r"annotation 1: iscrowd must be 0 or 1, got \[1\]"),
    Case("a negative area", of("annotations", area=-1), "annotation 1: area must be a number from 0 on, got -1"),
    Case("a false area", of("annotations", area=False), "annotation 1: area must be a number from 0 on, got False"),
    Case("an object as detections", listed({}), "must be a list of detections, got a dict"),
    Case("a detection that is a number", listed([5]), "detection number 1: must be an object with image_id"),
    Case("a detection elsewhere", detected(image_id=99), "detection number 1: image_id must be one of the annotations'"),
    Case("a detection of nothing", detected(category_id="cat"), "category_id must be one of the annotations', got 'cat'"),
    Case("a negative height", detected(bbox=[5, 5, 3, -4]), "bbox must have no negative width or height"),
    Case("a score as text", detected(score="0.5"), "score must be a number, got '0.5'"),
    Case("a true score", detected(score=True), "score must be a number, got True"),
    Case("a score of NaN", detected(score=float("nan")), "score must be a number, got nan"),
    Case("a score of 401 digits", detected(score=10**400), "score must be a number"),
    right("no detections", listed([]), 0),
    right("a byte order mark", annotated(json.dumps(truth()).encode("utf-8-sig")), 1),
    right("ids that are texts", annotated(lambda c: [e.update({k: "3"}) for e, k in ((c["images"][0], "id"), (c["annotations"][0], "image_id"))]), 1),
]  # fmt: skip
