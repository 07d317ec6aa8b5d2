"""PASCAL VOC folders that are broken, through ``build_datasets``."""

# ruff: noqa: E501  (a row of a table is a line)
from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from raydistill.config import VocData
from raydistill.data.build import build_datasets
from raydistill.data.discover import open_dataset
from tests.data.formats.test_voc import SIZE, thing, write_image

from .annotations import summary
from .cases import Case, right, warned

Run = Callable[[Path], Any]
CAT = thing("cat", (5, 5, 9, 9))
LIST = "ImageSets/Main/train.txt"
NAMES = [
    ("blanks", "Screenshot 2024-01-02 at 10.11.12", "Screenshot 2024-01-02 at 10.11.12"),
    ("a number behind a blank", "scan 1", "scan 1"),
    ("a -1 behind a blank", "scan -1", "scan -1"),
    ("two dots", "a.b.c", "a.b.c"),
    ("its suffix", "c", "c.jpg"),
    ("its suffix in capitals", "c", "c.JPG"),
    ("the suffix of an annotation", "c", "c.xml"),
    ("its folder", "c", "JPEGImages/c.jpg"),
    ("its path", "c", "/home/me/VOC2012/JPEGImages/c.jpg"),
    ("a dot before", "c", "./c"),
    ("the folders of Windows", "c", "C:\\data\\JPEGImages\\c.jpg"),
    ("a folder behind a backslash", "aug/c", "aug\\c"),
    ("a sharp", "#1", "#1"),
]
"""What is odd, the name of the files, the line of the list."""
ALIKE = [
    ("its form of Unicode", "cafe\u0301", "caf\u00e9"),
    ("its form of Unicode the other way", "caf\u00e9", "cafe\u0301"),
    ("capitals", "IMG_1", "img_1"),
    ("percent signs", "im 1", "im%201"),
    ("percent signs the other way", "im%201", "im 1"),
    ("a narrow blank, as a Mac writes it", "at 1.00\u202fPM", "at 1.00 PM"),
    ("a blank at the end", "im1 ", "im1"),
    ("a letter that cannot be seen", "im\u200b1", "im1"),
    ("the capitals of its folder", "Aug/im1", "aug/im1"),
]
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


def after(change: Callable[[Path], Any], name: str = "", lines: str = "", **settings: Any) -> Run:
    """Read a folder after ``change``, with ``name`` in the place of the first of its list, or another list."""

    def run(folder: Path) -> Any:
        change(made(folder))
        if name or lines:
            (folder / LIST).write_text(lines or f"{name}\nb\n")
        return read(folder, **settings)

    return run


def listing(folder: Path, make: Callable[[Path], Any]) -> None:
    """Put something else in the place of the list."""
    (folder / LIST).unlink()
    make(folder / LIST)


def renamed(folder: Path, name: str, old: str = "a") -> None:
    """Give an image and its annotation another name."""
    for place, suffix in (("JPEGImages", ".jpg"), ("Annotations", ".xml")):
        to = folder / place / f"{name}{suffix}"
        to.parent.mkdir(exist_ok=True)
        (folder / place / f"{old}{suffix}").rename(to)


def saved(folder: Path, suffix: str) -> None:
    """Save the first image in the format of another suffix."""
    path = folder / "JPEGImages" / "a.jpg"
    with Image.open(path) as image:
        image.save(path.with_suffix(suffix))
    if suffix != ".jpg":
        path.unlink()


def touch(folder: Path, name: str) -> None:
    (folder / "JPEGImages" / name).touch()


def touch_xml(folder: Path, name: str) -> None:
    renamed(folder, "a 1") if (folder / "Annotations" / "a.xml").exists() else None
    (folder / "Annotations" / "a 1.xml").unlink(missing_ok=True)
    (folder / "Annotations" / f"{name}.xml").write_text("<annotation/>")


def of(file: str) -> Any:
    """Return what is read where the first image has another name."""
    return [(file, INTACT[0][1]), INTACT[1]]


def _opened(folder: Path) -> Any:
    (folder / "JPEGImages").mkdir()
    return open_dataset(str(folder))


LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><annotation>&b;</annotation>'
BOX = "<bndbox><xmin>{}</xmin><ymin>5</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"

FILES = [
    Case("no folder", lambda folder: read(folder / "gone"), "must be a PASCAL VOC folder with JPEGImages, Annotations"),
    Case("no ImageSets", _opened, "must be a folder with COCO, YOLO, PASCAL VOC or LabelMe data, got an empty one"),
    Case("no list of the split", after(lambda f: None, val_split="dev"), r"dev\.txt: the list .* splits there: train"),
    Case("a split with a NUL", after(lambda f: None, val_split="a\0"), "the list of the split must exist"),
    Case("an endless split", after(lambda f: None, val_split="x" * 5000), "must be readable, got: .*too long"),
    Case("an empty list", names(b""), "must list at least one image, got none; add the names"),
    Case("blank lines only", names(b"\r\n  \n"), "must list at least one image"),
    Case("a name twice", names(b"a\nb\na\n"), "must list each image once, got a more often; remove the repeats"),
    Case("a name twice, once with its suffix", names(b"a\nb\na.jpg\n"), "must list each image once, got a more often"),
    Case("a list that is a FIFO", after(lambda f: listing(f, os.mkfifo)), "must be readable, got: a named pipe .FIFO. where a"),
    Case("a list that is a device", after(lambda f: listing(f, lambda path: path.symlink_to("/dev/zero"))), "a device where a regular"),
    Case("a list that is a folder", after(lambda f: listing(f, Path.mkdir)), "must be readable, got: Is a directory"),
    Case("a list of 300 MB", after(lambda f: os.truncate(f / LIST, 3 * 10**8)), "got: 300 MB, more than the 256 MB that such"),
    Case("a class list of -1 only", names(b"a -1\nb -1\n"), r"must list at least one image, got none: 2 lines with -1"),
    Case("a split in capitals", after(lambda f: None, val_split="TRAIN"), r"splits there: train; did you mean train\?"),
    Case("half of an UTF-16 letter", names("a\nb".encode("utf-16") + b"\0"), "must be text, got broken utf-16"),
    Case("a name that is nearly there", after(lambda f: renamed(f, "Screenshot 12"), name="Screenshot 13"), r"'Screenshot 13' must have its image .*Screenshot 13\.jpg .*\(Screenshot 12\.jpg is there\)"),
    Case("two images that look alike", after(lambda f: [touch(f, name) for name in ("A 1.jpg", "a 1.JPG")], name="A%201"), r"must have its image .*\(A 1\.jpg, a 1\.JPG is there\)"),
    Case("two annotations that look alike", after(lambda f: [touch_xml(f, name) for name in ("A 1", "a  1")], name="a 1"), "must have one annotation, got none of this name and A 1.xml, a  1.xml"),
    Case("a path of a folder that has no such file", after(lambda f: (f / "JPEGImages" / "aug").mkdir(), name="aug/a"), "'aug/a' must have its image"),
    Case("two of three without annotation", after(lambda f: [(f / "Annotations" / f"{name}.xml").unlink() for name in "ab"]), "at least half of the images must have their annotation, .* got 0 of 2 with one; without are a.jpg, b.jpg"),
    Case("a name without files", names(b"a\nc\n"), r"'c' must have its annotation .*c\.xml, got none; add or unlist it"),
    Case("an endless name", names(b"a\n" + b"x" * 5000), "must be readable, got: .*too long; correct the path"),
    Case("a list that is an image", names(b"\x89PNG\xff\xfe"), "must have its annotation"),
    Case("no image", after(lambda f: (f / "JPEGImages" / "a.jpg").unlink()), "'a' must have its image .* got none"),
    Case("an empty image", after(lambda f: (f / "JPEGImages" / "a.jpg").write_bytes(b"")), "no known image format"),
    *(right(f"a list in {encoding}", names("a\r\nb\r\n".encode(encoding)), INTACT) for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig")),
    *(right(f"a name with {what}", after(lambda f, name=name: renamed(f, name), name=line), of(f"{name}.jpg")) for what, name, line in NAMES),
    *(right(f"an image called {suffix}", after(lambda f, suffix=suffix: saved(f, suffix)), of(f"a{suffix}")) for suffix in (".JPG", ".JPEG", ".PNG", ".bmp", ".tif", ".TIFF", ".webp", ".gif")),
    right("comments", names(b"# exported\na\nb\n"), INTACT),
    right("old line ends of a Mac", names(b"a\rb\r"), INTACT),
    right("a class list with a name of two words", after(lambda f: renamed(f, "a 1"), lines="a 1  1\nb -1"), of("a 1.jpg")[:1]),
    right("names in quotes with flags", after(lambda f: renamed(f, "a 1"), lines='"a 1" 1\n"b" -1'), of("a 1.jpg")[:1]),
    right("a list of all images that ends with numbers", after(lambda f: [renamed(f, "s 1"), renamed(f, "s 0", "b")], lines="s 1\ns 0"), [("s 1.jpg", INTACT[0][1]), ("s 0.jpg", [])]),
    right("an annotation named after the whole file", after(lambda f: (f / "Annotations" / "a.xml").rename(f / "Annotations" / "a.jpg.xml")), INTACT),
    right("an annotation with a suffix in capitals", after(lambda f: (f / "Annotations" / "a.xml").rename(f / "Annotations" / "a.XML")), INTACT),
    *(warned(f"a name that differs in {what}", after(lambda f, name=name: renamed(f, name), name=line), r"train\.txt: \d names? read as another that looks alike", of(f"{name}.jpg")) for what, name, line in ALIKE),
    warned("a path of another machine", names(b"/home/me/data/a.jpg\nb\n"), "1 name read as another .*: a for /home/me/data/a.jpg", INTACT),
    warned("no annotation", after(lambda f: (f / "Annotations" / "b.xml").unlink()), r"1 of 2 images without an annotation or with an empty one, .*: b\.jpg", INTACT),
    warned("an empty annotation", after(lambda f: (f / "Annotations" / "b.xml").write_bytes(b"")), r"1 of 2 images without an annotation or with an empty one, .*: b\.jpg", INTACT),
    warned("an annotation of blanks", after(lambda f: (f / "Annotations" / "b.xml").write_text(" \n")), "1 of 2 images without an annotation", INTACT),
    right("Windows line ends and blanks", names(b"a  \r\n\r\nb\t\r\n"), INTACT),
    right("a byte order mark before the names", names(b"\xef\xbb\xbfa\nb\n"), INTACT),
    warned("no image, skipped", after(lambda f: (f / "JPEGImages" / "a.jpg").unlink(), on_bad_image="skip"), r"left out 1 of 2 images .*: a\.jpg$", INTACT[1:]),
    Case("no image at all, skipped", after(lambda f: [p.unlink() for p in (f / "JPEGImages").iterdir()], on_bad_image="skip"), "must list an image that can be read .* got none of 2; the first: .*must exist"),
]  # fmt: skip
CONTENT = [
    Case("an annotation file that is a FIFO", after(lambda f: [(f / "Annotations" / "a.xml").unlink(), os.mkfifo(f / "Annotations" / "a.xml")]), r"a\.xml: must be plain XML, got a named pipe .FIFO. where a regular file"),
    Case("an annotation that is a link to nowhere", after(lambda f: [(f / "Annotations" / "a.xml").unlink(), (f / "Annotations" / "a.xml").symlink_to("gone")]), r"a\.xml: must be plain XML, got No such file"),
    Case("an image that is a FIFO", after(lambda f: [(f / "JPEGImages" / "a.jpg").unlink(), os.mkfifo(f / "JPEGImages" / "a.jpg")]), r"a\.jpg: must be a complete image, got: a named pipe"),
    Case("an annotation of 40 MB", after(lambda f: os.truncate(f / "Annotations" / "a.xml", 4 * 10**7)), r"a\.xml: must be plain XML, got 40 MB, more than the 32 MB that such"),
    Case("a declaration only", xml('<?xml version="1.0"?>'), r"a\.xml: must be well-formed XML, got: no element found"),
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
    *(right(f"a difficult of {word!r}", inside(SIZE + CAT.replace("<difficult>0", f"<difficult>{word}")), INTACT) for word in ("Unspecified", "False", "", " no ", "0.0")),
    *(right(f"a difficult of {word!r}, ignored", inside(SIZE + CAT.replace("<difficult>0", f"<difficult>{word}")), [("a.jpg", []), INTACT[1]]) for word in ("True", "yes", "1.0")),
    warned("a class in two forms of Unicode", inside(SIZE + thing("caf\u00e9", (5, 5, 9, 9)) + thing("cafe\u0301", (5, 5, 9, 9))), r"1 name read as another that looks alike: class 'caf\\xe9' read as 'cafe\\u0301'", [("a.jpg", INTACT[0][1] * 2), INTACT[1]]),
    warned("a class of data.classes in another form", inside(SIZE + thing("cafe\u0301", (5, 5, 9, 9)), classes=("caf\u00e9",)), "class 'cafe.u0301' read as 'caf.xe9'", INTACT),
    warned("classes that differ in a capital", inside(SIZE + CAT + CAT.replace("cat", "Cat")), "1 pair of classes that differ in capital letters only, kept apart: Cat and cat", [("a.jpg", INTACT[0][1] * 2), INTACT[1]]),
    Case("a class of data.classes with a capital", inside(SIZE + CAT.replace("cat", "Cat"), classes=("cat", "dog")), r"name must be one of cat, dog, got 'Cat'; correct it or data.classes; did you mean 'cat'\?"),
    right("no size", inside(CAT), INTACT),
    right("a size of 0", inside("<size><width>0</width><height>0</height></size>" + CAT), INTACT),
    right("a size that is a text", inside("<size><width>?</width><height>?</height></size>" + CAT), INTACT),
    right("UTF-16", xml(f"<annotation>{SIZE}{CAT}</annotation>".encode("utf-16")), INTACT),
    right("corners outside", inside(thing("cat", (-3, 5, 900, 9))), [("a.jpg", [[0, 4, 40, 9]]), INTACT[1]]),
    warned("corners exchanged", inside(thing("cat", (9, 9, 5, 5))), r"dropped 1 box .*a\.xml object 1", [("a.jpg", []), INTACT[1]]),
    warned("a box beside the image", inside(thing("cat", (1e308, 5, 1.5e308, 9))), "dropped 1 box", [("a.jpg", []), INTACT[1]]),
]  # fmt: skip
CASES = FILES + CONTENT
