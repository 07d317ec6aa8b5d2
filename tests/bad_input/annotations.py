"""COCO annotations that are broken, through ``build_datasets`` and ``open_dataset``."""

# ruff: noqa: E501  (a row of a table is a line)
from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask

from raydistill.config import CocoData
from raydistill.data.build import build_datasets
from raydistill.data.dataset import DetectionDataset
from raydistill.data.discover import open_dataset
from tests.data.conftest import CocoFolder

from .cases import Case, right, warned

Run = Callable[[Path], Any]
INTACT = [("a.png", [[5.0, 6.0, 15.0, 18.0]]), ("b.png", [])]


def summary(dataset: DetectionDataset) -> list[tuple[str, list[list[float]]]]:
    return [(record.file, record.boxes.tolist()) for record in dataset.records]


def built(root: Path, **settings: Any) -> list[tuple[str, list[list[float]]]]:
    """Read the folder's one split as training and validation, and return what the two have in common."""
    paths = {"train_images": "val", "train_annotations": "annotations/val.json", **settings}
    train, val = build_datasets(CocoData(format="coco", root=str(root), **paths))
    assert summary(train) == summary(val)
    return summary(train)


def changed(change: Callable[[dict[str, Any]], Any], files: Sequence[str] = (), **settings: Any) -> Run:
    """Read a sound file after ``change`` was at its content; ``files`` lie beside its images, like the first."""

    def run(folder: Path) -> Any:
        coco = CocoFolder(folder)
        for name in files:
            (coco.images / name).parent.mkdir(exist_ok=True)
            (coco.images / name).write_bytes((coco.images / "a.png").read_bytes())
        change(coco.content)
        coco.write()
        return built(folder, **settings)

    return run


def written(text: str | bytes) -> Run:
    """Read a file that holds ``text`` instead."""

    def run(folder: Path) -> Any:
        coco = CocoFolder(folder)
        coco.annotations.write_bytes(text if isinstance(text, bytes) else text.encode())
        return built(folder)

    return run


def recoded(recode: Callable[[str], bytes]) -> Run:
    """Read a sound file that was written in another way."""

    def run(folder: Path) -> Any:
        coco = CocoFolder(folder)
        coco.annotations.write_bytes(recode(json.dumps(coco.content)))
        return built(folder)

    return run


def of(section: str, **values: Any) -> Run:
    """Change the first entry of a section."""
    return changed(lambda content: content[section][0].update(values))


def without(section: str, key: str) -> Run:
    return changed(lambda content: content[section][0].pop(key))


def renamed(section: str, key: str, old: int, new: Any) -> Run:
    """Give an image or a category another id, in its objects too."""

    def change(content: dict[str, Any]) -> None:
        for entries, name in ((content[section], "id"), (content["annotations"], key)):
            for entry in entries:
                entry[name] = new if entry[name] == old else entry[name]

    return changed(change)


def named(file: str, name: str) -> Run:
    """Call the first image's file otherwise than the annotations do."""
    return changed(lambda content: content["images"][0].update(file_name=name), files=(file,))


def boxed(*bbox: Any) -> Run:
    return of("annotations", bbox=list(bbox))


def again(section: str, **values: Any) -> Run:
    """List the first entry of a section twice, the second time with other values."""
    return changed(lambda content: content[section].append({**content[section][0], **values}))


def opened(path: str) -> Run:
    def run(folder: Path) -> Any:
        CocoFolder(folder / "data").write()
        return open_dataset(str(folder / path))

    return run


def _text_for(bbox: str) -> Run:
    """Read a file whose box is written as ``bbox``, which may be no number of Python's."""
    return recoded(lambda text: text.replace("[5, 6, 10, 12]", bbox).encode())


OUTLINE = "objects without a box, which was taken from their outline, 1 in all: annotation 1"
RUNS = [5 * 30 + 6, *([12, 18] * 9), 12, 1200 - (14 * 30 + 18)]
"""A mask of ten columns from the fifth on, each of twelve pixels from the sixth on."""
_MASK = np.zeros((30, 40), np.uint8)
_MASK[6:18, 5:15] = 1
TEXT = mask.encode(np.asfortranarray(_MASK))["counts"].decode()
NO_OUTLINES: list[tuple[str, Any]] = [
    ("nothing", []),
    ("two corners", [[1, 2, 3, 4]]),
    ("an odd number", [[1, 2, 3, 4, 5, 6, 7]]),
    ("texts", [["1", "2", "3", "4", "5", "6"]]),
    ("infinity", [[1, 2, 3, 4, 5, float("inf")]]),
    ("a text", "polygon"),
    ("runs that do not fill the image", {"size": [30, 40], "counts": [5, 6]}),
    ("a text that is no mask", {"size": [30, 40], "counts": "zz\u00e9"}),
    ("an empty mask", {"size": [30, 40], "counts": [1200]}),
    ("a mask of no size", {"size": [0, 0], "counts": []}),
]
ALIKE = [
    ("its form of Unicode", "cafe\u0301.png", "caf\u00e9.png"),
    ("its form of Unicode the other way", "caf\u00e9.png", "cafe\u0301.png"),
    ("capitals", "IMG_1.png", "img_1.png"),
    ("capitals of its suffix", "img_1.PNG", "img_1.png"),
    ("percent signs", "im 1.png", "im%201.png"),
    ("percent signs the other way", "im%201.png", "im 1.png"),
    ("a blank at its end", "im1.png", "im1.png "),
    ("a blank before its suffix", "im1 .png", "im1.png"),
    ("a backslash", "sub/im1.png", "sub\\im1.png"),
    ("a backslash in the file's name", "sub\\im1.png", "sub/im1.png"),
    ("capitals of its folder", "Sub/im1.png", "sub/im1.png"),
    ("a narrow blank, as a Mac writes it", "at 1.00\u202fPM.png", "at 1.00 PM.png"),
    ("a letter that cannot be seen", "im\u200b1.png", "im1.png"),
]
"""What is different, the name of the file, the name in the annotations."""

FORM = [
    Case("no file", opened("gone.json"), r"gone\.json: the annotations file must exist; JSON files near it"),
    Case(
        "a folder instead of a file",
        opened("."),
        "must have a file of the training split, got annotations/val.json only",
    ),
    Case("an empty file", written(""), r"val\.json, line 1, column 1: must be complete JSON"),
    Case("cut off", written('{"images": [{"id": 1'), r"line 1, column \d+: must be complete JSON, got: .*; copy or"),
    Case("two objects", written("{} {}"), "must be complete JSON, got: Extra data"),
    Case("a Python literal", written("{'images': []}"), "must be complete JSON"),
    Case("XML", written("<annotation/>"), "must be complete JSON"),
    Case("gzip", recoded(lambda text: gzip.compress(text.encode())), "must be UTF-8 text, got other bytes from"),
    Case("Latin-1", recoded(lambda text: text.replace("dog", "h\xfcnd").encode("latin-1")), "must be UTF-8 text"),
    Case("an image", written(b"\x89PNG\r\n\x1a\n\0\0"), "must be UTF-8 text"),
    Case("nested 100,000 deep", written("[" * 100_000), "must be JSON that can be read, got lists and objects nested"),
    Case("a number of 5000 digits", _text_for(f"[{'9' * 5000}, 0, 1, 1]"), "can be read, got Exceeds the limit"),
    Case("a key twice", written('{"images": [], "images": []}'), "can be read, got the key 'images' twice"),
    Case("a list", written("[]"), "must be a COCO file with the lists .* got a list; export"),
    Case("null", written("null"), "must be a COCO file with the lists"),
    Case("no categories", changed(lambda c: c.pop("categories")), "got none of categories; export the data in COCO"),
    Case("images an object", changed(lambda c: c.update(images={"3": {}})), "got none of images; export"),
    right("a byte order mark", recoded(lambda text: text.encode("utf-8-sig")), INTACT),
    right("UTF-16", recoded(lambda text: text.encode("utf-16")), INTACT),
    right("other keys beside", changed(lambda c: c.update(info=None, licenses=[{}], videos=5)), INTACT),
]
IMAGES = [
    Case("no images", changed(lambda c: c.update(images=[], annotations=[])), "images: must list at least one image"),
    Case("an image that is null", changed(lambda c: c["images"].append(None)), "image number 3: must be an object"),
    Case("no image id", without("images", "id"), "image number 1: id must be given, got none; add it"),
    Case("no file name", without("images", "file_name"), "image 3: file_name must be given"),
    Case("an image id with a fraction", of("images", id=3.5), "id must be a whole number or a text .* got 3.5"),
    Case("an image id that is a list", of("images", id=[3]), r"id must be a whole number or a text .* got \[3\]"),
    Case("an image id twice", again("images", file_name="b.png"), "image 3: id must be unique, got 3 again; renumber"),
    Case("an image listed twice", again("images", id=4), "file_name must be unique, got 'a.png' again; list the image"),
    Case("an image listed twice by other paths", again("images", id=4, file_name="./x/../a.png"), "must be unique"),
    Case("a true width", of("images", width=True), "width must be a whole number of pixels, got True"),
    Case("a negative height", of("images", height=-30), "height must be a whole number of pixels, got -30"),
    Case("another size", of("images", width=41), "size must be that of the image, 40 x 30, got 41 x 30; correct"),
    Case("sides exchanged", of("images", width=30, height=40), "size must be that of the image, 40 x 30, got 30 x 40"),
    Case("an empty file name", of("images", file_name=""), "file_name must be the name of a file, got ''"),
    Case("a file name with a NUL", of("images", file_name="a\0.png"), "file_name must be the name of a file"),
    Case("a file name with half a letter", of("images", file_name="a\ud800"), "file_name must be the name of a file"),
    Case("a file name of 300 letters", of("images", file_name="a" * 300), "must be a complete image, got: .*too long"),
    Case("a file name that is a folder", of("images", file_name="."), "must be a complete image, got: .*directory"),
    Case("a file name that is a number", of("images", file_name=3), "file_name must be the name of a file, got 3"),
    Case(
        "a file that is not there",
        of("images", file_name="c.png"),
        r"image 3 \(c\.png\): .*c\.png: the image file must",
    ),
    Case(
        "no folder of images", changed(lambda c: None, val_images="photos"), "the folder of the images of .* must exist"
    ),
    Case(
        "an endless folder name", changed(lambda c: None, val_images="x" * 5000), "x: must be readable, got: .*too long"
    ),
    Case(
        "a NUL in a path", changed(lambda c: None, val_annotations="a\0b"), "must be JSON that can be read, got .*null"
    ),
    right("image ids as texts", renamed("images", "image_id", 3, "left"), INTACT),
    right("an image id beyond 64 bits", renamed("images", "image_id", 3, 2**70), INTACT),
    warned("no height", without("images", "height"), "1 of 2 images without width or height", INTACT),
    right(
        "a path out of the folder", of("images", file_name="../val/a.png"), [("../val/a.png", INTACT[0][1]), INTACT[1]]
    ),
]
CATEGORIES = [
    Case("an empty list of categories", changed(lambda c: c.update(categories=[])), "categories: must name at least one"),
    Case("a category without name", without("categories", "name"), "category 9: name must be given"),
    Case("a blank category", of("categories", name=" "), "category 9: name must be a text that can be printed, got ' '"),
    Case("a category with half a letter", of("categories", name="d\ud800"), "name must be a text that can be printed"),
    Case("a category with a line break", of("categories", name="a\nb"), "name must be a text that can be printed"),
    Case("a true category", of("categories", name=True), "name must be a text that can be printed, got True"),
    right("a category that is a number", of("categories", name=5), INTACT),
    right("category ids as texts", renamed("categories", "category_id", 9, "D"), INTACT),
    Case("a category id twice", again("categories", name="x"), "category 9: id must be unique, got 9 again; renumber"),
    Case("a category name twice", again("categories", id=1), "name must be unique, got 'dog' again; rename or merge"),
    right("category 0", changed(lambda c: [e.update({k: 0}) for e, k in ((c["categories"][0], "id"), (c["annotations"][0], "category_id"))]), INTACT),
]  # fmt: skip
OBJECTS = [
    Case(
        "an annotation that is a text",
        changed(lambda c: c["annotations"].append("x")),
        "annotation number 2: must be an object with image_id",
    ),
    Case("a true annotation id", of("annotations", id=True), "annotation number 1: id must be a whole number or a"),
    Case("no bbox", without("annotations", "bbox"), "annotation 1: bbox must be given, got none"),
    Case("no category id", without("annotations", "category_id"), "annotation 1: category_id must be given"),
    Case("an image that is not listed", of("annotations", image_id=99), "image_id must be that of an image, got 99"),
    Case("a category that is not listed", of("annotations", category_id=1), "category_id must be one of 2 cat, 9 dog"),
    Case(
        "a true category id",
        of("annotations", category_id=True),
        "category_id must be a whole number or a text .* got True",
    ),
    Case("a bbox of 3", boxed(1, 2, 3), r"bbox must be \[x, y, width, height\] in finite numbers, got \[1, 2, 3\]"),
    Case("a bbox of 5", boxed(1, 2, 3, 4, 5), "bbox must be .* in finite numbers"),
    Case("an empty bbox", boxed(), r"bbox must be .* in finite numbers, got \[\]"),
    Case("a bbox in texts", boxed("1", "2", "3", "4"), "bbox must be .* in finite numbers"),
    Case("a bbox as text", of("annotations", bbox="1,2,3,4"), "bbox must be .* in finite numbers"),
    Case("a bbox as object", of("annotations", bbox={"x": 1}), "bbox must be .* in finite numbers"),
    Case("a true in a bbox", boxed(True, 2, 3, 4), "bbox must be .* in finite numbers"),
    Case("a null in a bbox", boxed(None, 2, 3, 4), "bbox must be .* in finite numbers"),
    Case("NaN in a bbox", _text_for("[NaN, 0, 1, 1]"), "bbox must be .* got \\[nan, 0, 1, 1\\]"),
    Case("infinity in a bbox", _text_for("[0, 0, Infinity, 1]"), "bbox must be .* in finite numbers"),
    Case("1e400 in a bbox", _text_for("[0, 0, 1e400, 1]"), "bbox must be .* in finite numbers"),
    Case("401 digits in a bbox", _text_for(f"[0, 0, {10**400}, 1]"), "bbox must be .* in finite numbers"),
    Case("a deep bbox", _text_for("[" * 900 + "]" * 900), "bbox must be .* in finite numbers"),
    Case("a crowd of 2", of("annotations", iscrowd=2), "iscrowd must be 0 or 1, got 2"),
    Case("a crowd that is a list", of("annotations", iscrowd=[]), r"iscrowd must be 0 or 1, got \[\]"),
    Case("a negative area", of("annotations", area=-5), "area must be a number from 0 on, got -5; correct it"),
    Case("a true area", of("annotations", area=True), "area must be a number from 0 on, got True"),
    warned("no annotation id", without("annotations", "id"), "1 annotation without an id of its own", INTACT),
    warned(
        "an annotation id twice for two objects",
        again("annotations", bbox=[1, 1, 4, 4]),
        "1 annotation without an id of its own, each read as an object: annotation 1",
        [("a.png", [INTACT[0][1][0], [1, 1, 5, 5]]), INTACT[1]],
    ),
    warned(
        "a box without width", boxed(5, 5, 0, 9), r"dropped 1 box .*annotation 1 of a\.png", [("a.png", []), INTACT[1]]
    ),
    warned("a negative height of a box", boxed(5, 5, 9, -9), "dropped 1 box", [("a.png", []), INTACT[1]]),
    warned("a box outside of its image", boxed(500, 500, 9, 9), "dropped 1 box", [("a.png", []), INTACT[1]]),
    warned("a box far outside", boxed(9e14, -9e14, 1e-300, 9e14), "dropped 1 box", [("a.png", []), INTACT[1]]),
    right("a box that sticks out", boxed(-5, 20, 100, 100), [("a.png", [[0, 20, 40, 30]]), INTACT[1]]),
    right("no annotations", changed(lambda c: c.update(annotations=[])), [("a.png", []), ("b.png", [])]),
]
IDS = "ids written as fractions, read as whole numbers, 1 in all"
REFERENCE = "ids written as text for a number or the other way, read as the one that is listed, 1 in all: "
AS_WRITTEN = [
    warned("an image id in floating point", of("images", id=3.0), f"{IDS}: image 3", INTACT),
    warned("a category id in floating point", of("categories", id=9.0), f"{IDS}: category 9", INTACT),
    warned("an annotation id in floating point", of("annotations", id=1.0), f"{IDS}: annotation 1", INTACT),
    warned("references in floating point", of("annotations", image_id=3.0, category_id=9.0), f"{IDS}: annotation 1", INTACT),
    warned("an image id as text for one only", of("images", id="3"), f"{REFERENCE}image_id 3 of annotation 1", INTACT),
    warned("an image's id as text in its objects", of("annotations", image_id="3"), f"{REFERENCE}image_id '3' of ann", INTACT),
    warned("a category id as text for one only", of("categories", id="9"), f"{REFERENCE}category_id 9 of annotation 1", INTACT),
    warned("a category's id as text in its objects", of("annotations", category_id="9"), f"{REFERENCE}category_id '9'", INTACT),
    Case("a text that is a number with a zero before it", of("annotations", image_id="03"), "image_id must be that of an"),
    Case("a text for two ids", changed(lambda c: [c["images"].append({**c["images"][1], "id": "7", "file_name": "../val/b.png"}), c["annotations"][0].update(image_id="07")]), "image_id must be that of an image, got '07'"),
    *(warned(f"a width of {value!r}", of("images", width=value), "sizes that are no whole numbers of pixels, read as such|1 of 2 images without", INTACT) for value in ("40", 40.0)),
    *(Case(f"a width of {value!r}", of("images", width=value), "width must be a whole number of pixels, got") for value in (-7, "forty", 40.5, float("inf"), [40], "9" * 30)),
    warned("no sizes anywhere", changed(lambda c: [image.pop(key) for image in c["images"] for key in ("width", "height")]), "2 of 2 images without width or height, taken from the image files", INTACT),
    warned("a polygon without a box", of("annotations", bbox=None, segmentation=[[5, 6, 15, 6, 15, 18, 5, 18]]), OUTLINE, INTACT),
    warned("a polygon and no key for the box", changed(lambda c: [c["annotations"][0].pop("bbox"), c["annotations"][0].update(segmentation=[[5, 6, 15, 6, 15, 18]])]), OUTLINE, INTACT),
    warned("a polygon and an empty box", of("annotations", bbox=[], segmentation=[[5, 6, 15, 6, 15, 18]]), OUTLINE, INTACT),
    warned("a polygon and a box of zeros", of("annotations", bbox=[0, 0, 0, 0], segmentation=[[5, 6, 15, 6, 15, 18]]), OUTLINE, INTACT),
    warned("a polygon in one list", of("annotations", bbox=None, segmentation=[5, 6, 15, 6, 15, 18]), OUTLINE, INTACT),
    warned("two polygons", of("annotations", bbox=None, segmentation=[[5, 6, 7, 6, 7, 8], [12, 12, 15, 12, 15, 18]]), OUTLINE, INTACT),
    warned("a mask in runs", of("annotations", bbox=None, segmentation={"size": [30, 40], "counts": RUNS}), OUTLINE, INTACT),
    warned("a mask as text", of("annotations", bbox=None, segmentation={"size": [30, 40], "counts": TEXT}), OUTLINE, INTACT),
    *(Case(f"an outline of {what}, no box", of("annotations", bbox=None, segmentation=value), "annotation 1: bbox must be") for what, value in NO_OUTLINES),
    warned("an annotation id twice", again("annotations"), "annotations listed again with the same id and box, read once, 1 in all: annotation 1", INTACT),
    warned("annotation ids of null", of("annotations", id=None), "1 annotation without an id of its own", INTACT),
    *(warned(f"a file name that differs in {what}", named(file, name), r"1 name read as another that looks alike: ", [(file, INTACT[0][1]), INTACT[1]]) for what, file, name in ALIKE),
    Case("a file name that two files look like", changed(lambda c: c["images"][0].update(file_name="C.PNG"), files=("c.png", "c.Png")), r"image 3 \(C.PNG\): .* must exist; .*; did you mean c\.Png or c\.png\?"),
    Case("a file name with a wrong folder", of("images", file_name="data/images/a.png"), r"must exist; .*; did you mean a\.png\?"),
    Case("a file name with a wrong folder of Windows", of("images", file_name="C:\\data\\a.png"), r"must exist; .*; did you mean a\.png\?"),
    Case("a file name with a slip", changed(lambda c: c["images"][0].update(file_name="Screenshot_21.png"), files=("Screenshot_12.png",)), r"did you mean Screenshot_12\.png\?"),
    Case("two file names for one file", changed(lambda c: [c["images"][0].update(file_name="C.png"), c["images"][1].update(file_name="c.PNG", width=40, height=30)], files=("c.png",)), r"image 7 .* must exist"),
]  # fmt: skip
CASES = FORM + IMAGES + CATEGORIES + OBJECTS + AS_WRITTEN
