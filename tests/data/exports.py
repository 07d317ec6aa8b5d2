"""Small data sets in the form in which labelling tools export them: the same two pictures and three objects in each.

A cat and a dog on the first picture, a cat on the second, each a coloured rectangle; a third picture shows nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from PIL import Image

SIZE = (96, 80)
CAT, DOG = (200, 60, 40), (40, 90, 200)
Thing = tuple[str, tuple[int, int, int, int]]
"""A class, and the first and last pixel of a rectangle: left, top, right, bottom, from 0 on."""
SCENES: list[list[Thing]] = [
    [("cat", (10, 20, 39, 49)), ("dog", (50, 8, 89, 71))],
    [("cat", (0, 0, 19, 79))],
    [],
]


def xywh(corners: tuple[int, int, int, int]) -> list[float]:
    left, top, right, bottom = corners
    return [float(left), float(top), float(right - left + 1), float(bottom - top + 1)]


def paint(path: Path, things: Sequence[Thing]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", SIZE, (230, 230, 220))
    for name, (left, top, right, bottom) in things:
        picture.paste(CAT if name == "cat" else DOG, (left, top, right + 1, bottom + 1))
    picture.save(path, {".jpg": "PNG"}.get(path.suffix.lower()))  # without loss, whatever it is called


def cvat_coco(root: Path) -> list[str]:
    """CVAT's "COCO 1.0": one file per subset, attributes, masks as runs, names with blanks in folders."""
    names = ["cam 1/Screenshot 2024-05-01 at 10.11.12.png", "cam 1/frame_000001.png", "cam 2/frame_000001.png"]
    content: dict[str, Any] = {
        "licenses": [{"name": "", "id": 0, "url": ""}],
        "info": {"contributor": "", "date_created": "", "description": "", "url": "", "version": "", "year": ""},
        "categories": [{"id": 1, "name": "cat", "supercategory": ""}, {"id": 2, "name": "dog", "supercategory": ""}],
        "images": [],
        "annotations": [],
    }
    for number, (name, things) in enumerate(zip(names, SCENES, strict=True), 1):
        paint(root / "images" / "default" / name, things)
        content["images"].append(
            {
                "id": number,
                "width": SIZE[0],
                "height": SIZE[1],
                "file_name": name,
                "license": 0,
                "flickr_url": "",
                "coco_url": "",
                "date_captured": 0,
            }
        )
        for thing, corners in things:
            box = xywh(corners)
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": number,
                    "segmentation": [],
                    "category_id": 1 if thing == "cat" else 2,
                    "area": box[2] * box[3],
                    "bbox": box,
                    "iscrowd": 0,
                    "attributes": {"occluded": False, "rotation": 0.0},
                }
            )
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_default.json").write_text(json.dumps(content))
    return names


def roboflow_coco(root: Path) -> list[str]:
    """Roboflow's COCO: the file among its images, a category 0 that has no objects, ids from 0 on, long names."""
    names = [f"{stem}_png.rf.{number:032x}.jpg" for number, stem in enumerate(("im-1", "im 2", "h%C3%BCnd"), 1)]
    content: dict[str, Any] = {
        "info": {"year": "2024", "version": "1", "description": "Exported from roboflow.com", "contributor": ""},
        "licenses": [{"id": 1, "url": "https://creativecommons.org/licenses/by/4.0/", "name": "CC BY 4.0"}],
        "categories": [
            {"id": 0, "name": "pets", "supercategory": "none"},
            {"id": 1, "name": "cat", "supercategory": "pets"},
            {"id": 2, "name": "dog", "supercategory": "pets"},
        ],
        "images": [],
        "annotations": [],
    }
    for number, (name, things) in enumerate(zip(names, SCENES, strict=True)):
        paint(root / "train" / name, things)
        entry = {"id": number, "license": 1, "file_name": name, "height": SIZE[1], "width": SIZE[0]}
        content["images"].append({**entry, "date_captured": "2024-05-01T10:11:12+00:00", "extra": {"name": "a.png"}})
        for thing, corners in things:
            box = xywh(corners)
            entry = {"id": len(content["annotations"]), "image_id": number, "category_id": 1 if thing == "cat" else 2}
            outline = {"bbox": box, "area": box[2] * box[3], "segmentation": [], "iscrowd": 0}
            content["annotations"].append({**entry, **outline})
    (root / "train" / "_annotations.coco.json").write_text(json.dumps(content))
    (root / "README.dataset.txt").write_text("# pets > 2024-05-01\nProvided by a Roboflow user\n")
    return names


def cvat_voc(root: Path) -> list[str]:
    """CVAT's "PASCAL VOC 1.1": names with blanks and folders in the list, corners with fractions, class lists."""
    stems = ["Screenshot 2024-05-01 at 10.11.12", "cam 1/frame 1", "cam 1/frame 0"]
    names = [f"{stem}.png" for stem in stems]
    for name, things in zip(names, SCENES, strict=True):
        paint(root / "JPEGImages" / name, things)
        objects = "".join(
            f"  <object>\n    <name>{thing}</name>\n    <truncated>0</truncated>\n    <occluded>0</occluded>\n"
            "    <difficult>0</difficult>\n    <bndbox>\n"
            + "".join(f"      <{key}>{value:.2f}</{key}>\n" for key, value in _corners(corners).items())
            + "    </bndbox>\n    <attributes>\n      <attribute>\n        <name>rotation</name>\n"
            "        <value>0.0</value>\n      </attribute>\n    </attributes>\n  </object>\n"
            for thing, corners in things
        )
        _write(
            root / "Annotations" / f"{Path(name).with_suffix('.xml')}",
            f"<annotation>\n  <folder></folder>\n  <filename>{name}</filename>\n  <source>\n"
            "    <database>Unknown</database>\n    <annotation>Unknown</annotation>\n    <image>Unknown</image>\n"
            f"  </source>\n  <size>\n    <width>{SIZE[0]}</width>\n    <height>{SIZE[1]}</height>\n"
            f"    <depth></depth>\n  </size>\n  <segmented>0</segmented>\n{objects}</annotation>\n",
        )
    main = root / "ImageSets" / "Main"
    _write(main / "default.txt", "".join(f"{stem}\n" for stem in stems))
    for label in ("cat", "dog"):
        present = [any(thing == label for thing, _ in things) for things in SCENES]
        lines = (f"{stem} {1 if there else -1:d}\n" for stem, there in zip(stems, present, strict=True))
        _write(main / f"{label}_default.txt", "".join(lines))
    _write(root / "labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:128,0,0::\ndog:0,128,0::\n")
    return names


def labelimg_voc(root: Path) -> list[str]:
    """LabelImg's files, as a camera and Windows name them; no file for a picture without objects.

    LabelImg writes no lists: this one is what ``dir -name > train.txt`` of PowerShell makes, UTF-16 with suffixes.
    """
    names = ["IMG_0001.JPG", "IMG 0002.JPG", "IMG_0003.BMP"]
    for name, things in zip(names, SCENES, strict=True):
        paint(root / "JPEGImages" / name, things)
        if not things:
            continue
        objects = "".join(
            f"\t<object>\n\t\t<name>{thing}</name>\n\t\t<pose>Unspecified</pose>\n\t\t<truncated>0</truncated>\n"
            "\t\t<difficult>0</difficult>\n\t\t<bndbox>\n"
            + "".join(f"\t\t\t<{key}>{value}</{key}>\n" for key, value in _corners(corners).items())
            + "\t\t</bndbox>\n\t</object>\n"
            for thing, corners in things
        )
        path = escape(rf"C:\Users\Jos\xe9\data & more\JPEGImages\{name}")
        _write(
            root / "Annotations" / f"{Path(name).with_suffix('.xml')}",
            f"<annotation>\n\t<folder>JPEGImages</folder>\n\t<filename>{name}</filename>\n\t<path>{path}</path>\n"
            "\t<source>\n\t\t<database>Unknown</database>\n\t</source>\n\t<size>\n"
            f"\t\t<width>{SIZE[0]}</width>\n\t\t<height>{SIZE[1]}</height>\n\t\t<depth>3</depth>\n\t</size>\n"
            f"\t<segmented>0</segmented>\n{objects}</annotation>\n",
        )
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_bytes("".join(f"{name}\r\n" for name in names).encode("utf-16"))
    return names


EXPORTS: dict[str, tuple[Callable[[Path], list[str]], dict[str, Any]]] = {
    "CVAT's COCO": (
        cvat_coco,
        {
            "format": "coco",
            **{f"{split}_images": "images/default" for split in ("train", "val")},
            **{f"{split}_annotations": "annotations/instances_default.json" for split in ("train", "val")},
        },
    ),
    "Roboflow's COCO": (
        roboflow_coco,
        {
            "format": "coco",
            **{f"{split}_images": "train" for split in ("train", "val")},
            **{f"{split}_annotations": "train/_annotations.coco.json" for split in ("train", "val")},
        },
    ),
    "CVAT's VOC": (cvat_voc, {"format": "voc", "train_split": "default", "val_split": "default"}),
    "LabelImg's VOC": (labelimg_voc, {"format": "voc", "train_split": "train", "val_split": "train"}),
}
"""What writes an export to a folder and returns the names of its images, and the settings that read it."""


def _corners(corners: tuple[int, int, int, int]) -> dict[str, int]:
    """Return the corners as VOC counts them, from 1 on."""
    return dict(zip(("xmin", "ymin", "xmax", "ymax"), (corner + 1 for corner in corners), strict=True))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
