"""PASCAL VOC folders that are broken, through ``build_datasets``."""

# ruff: noqa: E501  (a row of a table is a line)
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from raydistill.config import VocData
from raydistill.data.build import build_datasets
from raydistill.data.discover import open_dataset
from tests.data.formats.test_voc import SIZE, thing, write_image

from .annotations import summary
from .cases import Case, right, warned

Run = Callable[[Path], Any]
CAT = thing("cat", (5, 5, 9, 9))
INTACT = [("a.jpg", [[4.0, 4.0, 9.0, 9.0]]), ("b.jpg", [])]


def made(folder: Path) -> Path:
    write_image(folder, "a", SIZE + CAT)
    write_image(folder, "b", SIZE)
    return folder


def read(folder: Path, **settings: Any) -> Any:
    train, _ = build_datasets(VocData(format="voc", root=str(folder), **{"val_split": "train", **settings}))
    return summary(train)


def xml(content: str | bytes, **settings: Any) -> Run:
    """Read a folder whose first annotation is ``content``."""

    def run(folder: Path) -> Any:
        raw = content if isinstance(content, bytes) else content.encode()
        (made(folder) / "Annotations" / "a.xml").write_bytes(raw)
        return read(folder, **settings)

    return run


def inside(content: str, **settings: Any) -> Run:
    return xml(f"<annotation>{content}</annotation>", **settings)


def names(content: bytes, **settings: Any) -> Run:
    """Read a folder whose list is ``content``."""

    def run(folder: Path) -> Any:
        (made(folder) / "ImageSets" / "Main" / "train.txt").write_bytes(content)
        return read(folder, **settings)

    return run


def after(change: Callable[[Path], Any], **settings: Any) -> Run:
    def run(folder: Path) -> Any:
        change(made(folder))
        return read(folder, **settings)

    return run


def _opened(folder: Path) -> Any:
    (folder / "JPEGImages").mkdir()
    return open_dataset(str(folder))


LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><annotation>&b;</annotation>'
BOX = "<bndbox><xmin>{}</xmin><ymin>5</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"

FILES = [
    Case("no folder", lambda folder: read(folder / "gone"), "must be a PASCAL VOC folder with JPEGImages, Annotations"),
    Case("no ImageSets", _opened, "got none of Annotations, ImageSets/Main; correct the path or add the folders"),
    Case("no list of the split", after(lambda f: None, val_split="dev"), r"dev\.txt: the list .* splits there: train"),
    Case("a split with a NUL", after(lambda f: None, val_split="a\0"), "the list of the split must exist"),
    Case("an endless split", after(lambda f: None, val_split="x" * 5000), "must be readable, got: .*too long"),
    Case("an empty list", names(b""), "must list at least one image, got none; add the names"),
    Case("blank lines only", names(b"\r\n  \n"), "must list at least one image"),
    Case("a name twice", names(b"a\nb\na\n"), "must list each image once, got a more often; remove the repeats"),
    Case("a name without files", names(b"a\nc\n"), r"'c' must have its annotation .*c\.xml, got none; add or unlist it"),
    Case("an endless name", names(b"a\n" + b"x" * 5000), "must be readable, got: .*too long; correct the path"),
    Case("a list that is an image", names(b"\x89PNG\xff\xfe"), "must have its annotation"),
    Case("no image", after(lambda f: (f / "JPEGImages" / "a.jpg").unlink()), "'a' must have its image .* got none"),
    Case("an empty image", after(lambda f: (f / "JPEGImages" / "a.jpg").write_bytes(b"")), "no known image format"),
    right("Windows line ends and blanks", names(b"a  \r\n\r\nb\t\r\n"), INTACT),
    right("a byte order mark before the names", names(b"\xef\xbb\xbfa\nb\n"), INTACT),
    warned("no image, skipped", after(lambda f: (f / "JPEGImages" / "a.jpg").unlink(), on_bad_image="skip"), r"left out 1 of 2 images .*: a\.jpg$", INTACT[1:]),
    Case("no image at all, skipped", after(lambda f: [p.unlink() for p in (f / "JPEGImages").iterdir()], on_bad_image="skip"), "must list an image that can be read .* got none of 2; the first: .*must exist"),
]  # fmt: skip
CONTENT = [
    Case("an empty annotation file", xml(""), r"a\.xml: must be well-formed XML, got: no element found"),
    Case("cut off", xml("<annotation><object><name>cat"), "must be well-formed XML"),
    Case("tags that cross", xml("<annotation><a><b></a></b></annotation>"), "must be well-formed XML, got: mismatched tag"),
    Case("JSON instead", xml("{}"), "must be well-formed XML"),
    Case("an image instead", xml(b"\xff\xd8\xff\xe0"), "must be well-formed XML"),
    Case("a NUL", xml("<annotation>\0</annotation>"), "must be well-formed XML"),
    Case("an encoding nobody knows", xml('<?xml version="1.0" encoding="klingon"?><annotation/>'), "must be .*XML, got"),
    Case("an entity that grows", xml(LAUGHS), r"must be plain XML, got a document type declaration \(x\)"),
    Case("an external entity", xml('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>'), "document type declaration"),
    Case("another root", xml(f"<annotations>{CAT}</annotations>"), "must be an <annotation>, got <annotations>; export"),
    Case("a namespace", xml(f'<annotation xmlns="x">{SIZE}{CAT}</annotation>'), "must be an <annotation>, got <{x}"),
    Case("no name", inside(CAT.replace("<name>cat</name>", "")), "object 1: must have a name, got none; add it"),
    Case("a blank name", inside(CAT.replace("cat", " ")), "object 1: must have a name"),
    Case("a name in another tag", inside(CAT.replace("cat", "<b>cat</b>")), "object 1: must have a name"),
    Case("no box", inside("<object><name>cat</name></object>"), "bndbox must hold the numbers xmin, ymin, xmax, ymax"),
    Case("two boxes in an object", inside(CAT.replace("</object>", f"{BOX.format(5)}</object>")), "must have one bndbox"),
    Case("a corner that is a text", inside(CAT.replace("<xmin>5", "<xmin>five")), r"got \[None, 5.0, 9.0, 9.0\]; correct"),
    Case("a corner with an underscore", inside(CAT.replace("<xmin>5", "<xmin>0_5")), "bndbox must hold the numbers"),
    Case("a corner that is NaN", inside(CAT.replace("<xmin>5", "<xmin>nan")), "bndbox must hold the numbers"),
    Case("a corner beyond all numbers", inside(CAT.replace("<xmax>9", "<xmax>1e999")), "bndbox must hold the numbers"),
    Case("a difficult of 2", inside(thing("cat", (5, 5, 9, 9), 2)), "difficult must be 0 or 1, got '2'"),
    Case("several broken objects", inside(thing("", (1, 1, 9, 9)) + CAT.replace("<ymax>9", "<ymax>")), r"\(2 problems\)"),
    Case("a name that is no class", inside(SIZE + CAT, classes=("dog",)), "name must be one of dog, got 'cat'; correct"),
    Case("no objects in the whole split", inside(SIZE), "must have objects to take the classes from; set data.classes"),
    Case("another size", inside(SIZE.replace("40", "44") + CAT), "size must be that of the image, 40 x 30, got 44 x 30"),
    Case("a negative size", inside(SIZE.replace("40", "-40") + CAT), "size must be that of the image"),
    right("no size", inside(CAT), INTACT),
    right("a size of 0", inside("<size><width>0</width><height>0</height></size>" + CAT), INTACT),
    right("a size that is a text", inside("<size><width>?</width><height>?</height></size>" + CAT), INTACT),
    right("UTF-16", xml(f"<annotation>{SIZE}{CAT}</annotation>".encode("utf-16")), INTACT),
    right("corners outside", inside(thing("cat", (-3, 5, 900, 9))), [("a.jpg", [[0, 4, 40, 9]]), INTACT[1]]),
    warned("corners exchanged", inside(thing("cat", (9, 9, 5, 5))), r"dropped 1 box .*a\.xml object 1", [("a.jpg", []), INTACT[1]]),
    warned("a box beside the image", inside(thing("cat", (1e308, 5, 1.5e308, 9))), "dropped 1 box", [("a.jpg", []), INTACT[1]]),
]  # fmt: skip
CASES = FILES + CONTENT
