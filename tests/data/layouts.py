"""Small data sets in the exact form of the tools that write them, beside those of ``exports``: what lies where.

All show the pictures and objects of ``exports.SCENES``. A layout is written to a folder; it says what it must be
recognised as.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .exports import SCENES, SIZE, Thing, cvat_coco, cvat_voc, paint, roboflow_coco, xywh

CLASSES = ["cat", "dog"]
WIDTH, HEIGHT = SIZE
Scenes = Sequence[Sequence[Thing]]
Line = Callable[[Thing], str]


@dataclass(frozen=True)
class Layout:
    """What a tool writes, and what it is."""

    write: Callable[[Path], object]
    says: str
    """What of it is said."""
    settings: dict[str, Any]
    """What it stands for."""
    splits: tuple[str, ...] = ("train",)
    """Which splits it names."""
    classes: tuple[str, ...] = ("cat", "dog")


def coco(names: Sequence[str], scenes: Scenes, first_id: int = 1, shape: str = "bbox") -> dict[str, Any]:
    """Return a COCO file; ``shape`` is how its objects are given."""
    content: dict[str, Any] = {"images": [], "categories": [], "annotations": []}
    content["categories"] = [{"id": first_id + place, "name": name} for place, name in enumerate(CLASSES)]
    for number, (name, things) in enumerate(zip(names, scenes, strict=True)):
        content["images"].append({"width": WIDTH, "height": HEIGHT, "id": number, "file_name": name})
        for thing, corners in things:
            box = xywh(corners)
            found: dict[str, Any] = {"id": len(content["annotations"]), "image_id": number, "iscrowd": 0}
            found["category_id"] = first_id + CLASSES.index(thing)
            x, y, width, height = box
            if shape == "bbox":
                found |= {"bbox": box, "area": width * height, "segmentation": []}
            elif shape == "polygon":
                found["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
            elif shape == "rle":
                found["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": _runs(corners)}
            else:
                found |= {
                    "bbox": box,
                    "area": width * height,
                    "num_keypoints": 1,
                    "keypoints": [x + 1, y + 1, 2, 0, 0, 0],
                }
            content["annotations"].append(found)
    return content


def _runs(corners: tuple[int, int, int, int]) -> list[int]:
    """Return the lengths of the runs of a rectangle's mask, column after column, outside first."""
    left, top, right, bottom = corners
    mask = [left <= x <= right and top <= y <= bottom for x in range(WIDTH) for y in range(HEIGHT)]
    runs, inside = [0], False
    for pixel in mask:
        if pixel != inside:
            runs.append(0)
            inside = pixel
        runs[-1] += 1
    return runs


def _save(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def _paint(folder: Path, names: Sequence[str], scenes: Scenes = SCENES) -> None:
    for name, things in zip(names, scenes, strict=True):
        paint(folder / name, things)


def names_of(split: str, suffix: str = "jpg") -> list[str]:
    """Return the names of three pictures."""
    return [f"{split}_{number}.{suffix}" for number in range(3)]


# COCO


def roboflow_coco_splits(root: Path) -> None:
    """Roboflow's COCO with its three splits."""
    for split in ("train", "valid", "test"):
        roboflow_coco(root / "exported")
        (root / "exported" / "train").rename(root / split)
    (root / "exported" / "README.dataset.txt").rename(root / "README.dataset.txt")
    (root / "exported").rmdir()


def label_studio_coco(root: Path) -> None:
    """Label Studio's COCO: ``result.json``, categories from 0 on, images under a hash and their name."""
    names = [f"images/3b0c5d{number}a-IMG_{number}.jpg" for number in range(3)]
    _paint(root, names)
    content = coco(names, SCENES, first_id=0)
    content["info"] = {"year": 2024, "version": "1.0", "description": "", "contributor": "Label Studio", "url": ""}
    _save(root / "result.json", content)


def coco_itself(root: Path) -> None:
    """COCO 2017 as it is shipped, captions and key points too."""
    for split in ("train2017", "val2017"):
        names = [f"00000000{number:04d}.jpg" for number in range(3)]
        _paint(root / split, names)
        content = coco(names, SCENES)
        _save(root / "annotations" / f"instances_{split}.json", content)
        _save(root / "annotations" / f"person_keypoints_{split}.json", content)
        captions = {"images": content["images"], "annotations": [{"id": 1, "image_id": 0, "caption": "a cat"}]}
        _save(root / "annotations" / f"captions_{split}.json", {"info": {}, "licenses": [], **captions})


def fiftyone_coco(root: Path) -> None:
    """FiftyOne's ``COCODetectionDataset``: ``data/`` and ``labels.json``."""
    _paint(root / "data", names_of("a"))
    _save(root / "labels.json", coco(names_of("a"), SCENES))


def shaped_coco(shape: str) -> Callable[[Path], None]:
    """Return what writes a COCO file whose objects have that shape."""

    def write(root: Path) -> None:
        _paint(root / "images", names_of("a"))
        _save(root / "annotations" / "annotations.json", coco(names_of("a"), SCENES, shape=shape))

    return write


# YOLO


def _shares(thing: Thing) -> tuple[float, float, float, float]:
    x, y, width, height = xywh(thing[1])
    return (x + width / 2) / WIDTH, (y + height / 2) / HEIGHT, width / WIDTH, height / HEIGHT


def _line(thing: Thing, numbers: Sequence[float]) -> str:
    return f"{CLASSES.index(thing[0])} {' '.join(f'{number:.10f}' for number in numbers)}\n"


def box_line(thing: Thing) -> str:
    return _line(thing, _shares(thing))


def corners_line(thing: Thing) -> str:
    """Four corners, as an oriented box has them, and a polygon may."""
    x, y, width, height = _shares(thing)
    left, top, right, bottom = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    return _line(thing, (left, top, right, top, right, bottom, left, bottom))


def polygon_line(thing: Thing) -> str:
    """Five corners, or six of a dog."""
    x, y, width, height = _shares(thing)
    left, top, right, bottom = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    more = (left, y) if thing[0] == "dog" else ()
    return _line(thing, (left, top, x, top, right, top, right, bottom, left, bottom, *more))


def pose_line(thing: Thing) -> str:
    """A box and two key points with their visibility, one of which was not marked."""
    x, y, width, height = _shares(thing)
    return _line(thing, (x, y, width, height, x, y, 2, 0, 0, 0))


def labels(folder: Path, names: Sequence[str], line: Line = box_line, empty: bool = True) -> None:
    """Write the files of labels; with ``empty`` also where a picture has no object."""
    for name, things in zip(names, SCENES, strict=True):
        if things or empty:
            _save(folder / f"{Path(name).stem}.txt", "".join(map(line, things)))


def yolo_split(root: Path, split: str, line: Line = box_line) -> None:
    """``images/SPLIT`` and ``labels/SPLIT``."""
    names = names_of(split)
    _paint(root / "images" / split, names)
    labels(root / "labels" / split, names, line, empty=False)


def ultralytics(line: Line = box_line, more: str = "") -> Callable[[Path], None]:
    """Ultralytics' own form: a path that is relative to its data sets' folder, names by number, no empty files."""

    def write(root: Path) -> None:
        for split in ("train", "val"):
            yolo_split(root, split, line)
        _save(
            root / "pets.yaml",
            f"# Pets\npath: ../datasets/pets\ntrain: images/train  # 3 images\nval: images/val\ntest:  # opt\n{more}"
            "\nnames:\n  0: cat\n  1: dog\n",
        )

    return write


def roboflow_yolo(root: Path) -> None:
    """Roboflow's YOLOv8: paths that lead out of the folder, names as a list."""
    for split in ("train", "valid", "test"):
        names = [f"{split}-{number}_jpg.rf.{number:032x}.jpg" for number in range(3)]
        _paint(root / split / "images", names)
        labels(root / split / "labels", names)
    _save(
        root / "data.yaml",
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\nnames: ['cat', 'dog']\n\n"
        "roboflow:\n  workspace: pets\n  project: pets\n  version: 1\n  license: CC BY 4.0\n",
    )
    _save(root / "README.roboflow.txt", "pets\n")


def cvat_ultralytics(root: Path) -> None:
    """CVAT's "Ultralytics YOLO Detection 1.0": a list of the images."""
    yolo_split(root, "train")
    _save(root / "train.txt", "".join(f"data/images/train/{name}\n" for name in names_of("train")))
    _save(root / "data.yaml", "names:\n  0: cat\n  1: dog\npath: .\ntrain: train.txt\n")


def cvat_yolo(root: Path) -> None:
    """CVAT's "YOLO 1.1": Darknet's files, images and labels side by side."""
    names = names_of("frame", "PNG")
    _paint(root / "obj_train_data", names)
    labels(root / "obj_train_data", names)
    _save(root / "obj.names", "cat\ndog\n")
    _save(root / "obj.data", "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n")
    _save(root / "train.txt", "".join(f"data/obj_train_data/{name}\n" for name in names))


def label_studio_yolo(root: Path) -> None:
    """Label Studio's YOLO: ``images/``, ``labels/``, ``classes.txt`` without a line end, ``notes.json``."""
    _paint(root / "images", names_of("a"))
    labels(root / "labels", names_of("a"))
    _save(root / "classes.txt", "cat\ndog")
    categories = [{"id": place, "name": name} for place, name in enumerate(CLASSES)]
    _save(root / "notes.json", {"categories": categories, "info": {"year": 2024, "contributor": "Label Studio"}})


def labelimg_yolo(root: Path) -> None:
    """LabelImg's YOLO: everything in one folder, no file for a picture without objects."""
    _paint(root, names_of("IMG", "JPG"))
    labels(root, names_of("IMG"), empty=False)
    _save(root / "classes.txt", "cat\ndog\n")


def fiftyone_yolo(root: Path) -> None:
    """FiftyOne's ``YOLOv5Dataset``."""
    for split in ("train", "val"):
        yolo_split(root, split)
    _save(
        root / "dataset.yaml", "names:\n- cat\n- dog\npath: /home/me/pets\ntrain: ./images/train/\nval: ./images/val/\n"
    )


# PASCAL VOC


def xml(name: str, things: Sequence[Thing]) -> str:
    """Return VOC's XML of a picture, corners from 1 on."""
    objects = "".join(
        f"\t<object>\n\t\t<name>{thing}</name>\n\t\t<pose>Unspecified</pose>\n\t\t<truncated>0</truncated>\n"
        f"\t\t<difficult>0</difficult>\n\t\t<bndbox>\n\t\t\t<xmin>{left + 1}</xmin>\n\t\t\t<ymin>{top + 1}</ymin>\n"
        f"\t\t\t<xmax>{right + 1}</xmax>\n\t\t\t<ymax>{bottom + 1}</ymax>\n\t\t</bndbox>\n\t</object>\n"
        for thing, (left, top, right, bottom) in things
    )
    return (
        f"<annotation>\n\t<folder>pets</folder>\n\t<filename>{name}</filename>\n\t<path>/home/me/pets/{name}</path>\n"
        f"\t<size>\n\t\t<width>{WIDTH}</width>\n\t\t<height>{HEIGHT}</height>\n\t\t<depth>3</depth>\n\t</size>\n"
        f"\t<segmented>0</segmented>\n{objects}</annotation>\n"
    )


def _xmls(folder: Path, names: Sequence[str], empty: bool = True) -> None:
    for name, things in zip(names, SCENES, strict=True):
        if things or empty:
            _save(folder / f"{Path(name).stem}.xml", xml(name, things))


def labelimg_flat(root: Path) -> None:
    """LabelImg's default: images and XML side by side, none for a picture without objects."""
    _paint(root, names_of("IMG", "JPG"))
    _xmls(root, names_of("IMG", "JPG"), empty=False)
    _save(root / "predefined_classes.txt", "cat\ndog\n")


def roboflow_voc(root: Path) -> None:
    """Roboflow's "Pascal VOC": images and XML side by side in a folder per split."""
    for split in ("train", "valid", "test"):
        names = [f"{split}-{number}_jpg.rf.{number:032x}.jpg" for number in range(3)]
        _paint(root / split, names)
        _xmls(root / split, names)


def voc_without_lists(root: Path) -> None:
    """VOC's folders of images and annotations alone."""
    _paint(root / "JPEGImages", names_of("a"))
    _xmls(root / "Annotations", names_of("a"))


def label_studio_voc(root: Path) -> None:
    """Label Studio's "Pascal VOC XML"."""
    _paint(root / "images", names_of("a"))
    _xmls(root / "Annotations", names_of("a"))


# LabelMe


def labelme_file(name: str, things: Sequence[Thing], **more: Any) -> dict[str, Any]:
    """Return LabelMe's JSON: a cat as a rectangle from its lower right to its upper left, a dog as a polygon."""
    shapes = []
    for thing, (left, top, right, bottom) in things:
        ends: list[list[float]] = [[right + 1.0, bottom + 1.0], [left, top]]
        outline = [[left, top], [right + 1.0, top], [right + 1.0, bottom + 1.0], [left, bottom + 1.0]]
        kind = "rectangle" if thing == "cat" else "polygon"
        points = ends if thing == "cat" else outline
        about = {"label": thing, "points": points, "group_id": None, "description": "", "shape_type": kind}
        shapes.append({**about, "flags": {}, "mask": None})
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": name,
        "imageData": "iVBORw0KGgo" * 4000,
        "imageHeight": HEIGHT,
        "imageWidth": WIDTH,
        **more,
    }


def labelme(root: Path) -> None:
    """LabelMe's: a JSON file beside each image that was opened, the image in it as text."""
    for name, things in zip(names_of("a"), SCENES, strict=True):
        paint(root / name, things)
        if things:
            _save(root / f"{Path(name).stem}.json", labelme_file(name, things))


def labelme_splits(root: Path) -> None:
    """The same in a folder per split."""
    for split in ("train", "val"):
        labelme(root / split)


def _coco_settings(**splits: tuple[str, str]) -> dict[str, Any]:
    settings: dict[str, Any] = {"format": "coco"}
    for split, (images, file) in splits.items():
        settings |= {f"{split}_images": images, f"{split}_annotations": file}
    return settings if "val" in splits else {**settings, "val_images": None, "val_annotations": None}


def _yolo_settings(train: str, val: str | None = None, **more: Any) -> dict[str, Any]:
    return {"format": "yolo", "train": train, "val": val, **more, "classes": ("cat", "dog")}


ROBOFLOW = "_annotations.coco.json"
LAYOUTS: dict[str, Layout] = {
    "Roboflow's COCO": Layout(
        roboflow_coco_splits,
        "COCO, as Roboflow exports it: 3 training, 3 validation, 3 test images, 2 classes (cat, dog)",
        _coco_settings(
            train=("train", f"train/{ROBOFLOW}"), val=("valid", f"valid/{ROBOFLOW}"), test=("test", f"test/{ROBOFLOW}")
        ),
        ("train", "val", "test"),
    ),
    "CVAT's COCO": Layout(
        cvat_coco,
        "COCO, as CVAT exports it: 3 training images, 2 classes (cat, dog), no validation split",
        _coco_settings(train=("images/default", "annotations/instances_default.json")),
    ),
    "Label Studio's COCO": Layout(
        label_studio_coco, "COCO, as Label Studio exports it: 3 training", _coco_settings(train=(".", "result.json"))
    ),
    "COCO itself": Layout(
        coco_itself,
        "COCO: 3 training, 3 validation images, 2 classes (cat, dog), 2 files left aside",
        _coco_settings(
            train=("train2017", "annotations/instances_train2017.json"),
            val=("val2017", "annotations/instances_val2017.json"),
        ),
        ("train", "val"),
    ),
    "FiftyOne's COCO": Layout(
        fiftyone_coco, "COCO, as FiftyOne exports it: 3 training", _coco_settings(train=("data", "labels.json"))
    ),
    **{
        f"COCO with {shape}": Layout(
            shaped_coco(shape), "COCO: 3 training", _coco_settings(train=("images", "annotations/annotations.json"))
        )
        for shape in ("polygon", "rle", "keypoints")
    },
    "Ultralytics' YOLO": Layout(
        ultralytics(),
        "YOLO (pets.yaml): 3 training, 3 validation images, 2 classes (cat, dog)",
        _yolo_settings("images/train", "images/val"),
        ("train", "val"),
    ),
    "Ultralytics' polygons": Layout(
        ultralytics(polygon_line), "YOLO (pets.yaml): 3", _yolo_settings("images/train", "images/val"), ("train", "val")
    ),
    "Ultralytics' poses": Layout(
        ultralytics(pose_line, "kpt_shape: [2, 3]\nflip_idx: [0, 1]\n"),
        "YOLO (pets.yaml): 3",
        _yolo_settings("images/train", "images/val", lines="poses"),
        ("train", "val"),
    ),
    "Roboflow's YOLO": Layout(
        roboflow_yolo,
        "YOLO (data.yaml): 3 training, 3 validation, 3 test images, 2 classes (cat, dog)",
        _yolo_settings("train/images", "valid/images", test="test/images"),
        ("train", "val", "test"),
    ),
    "CVAT's Ultralytics YOLO": Layout(cvat_ultralytics, "YOLO (data.yaml): 3 training", _yolo_settings("train.txt")),
    "CVAT's YOLO": Layout(cvat_yolo, "YOLO (obj.data): 3 training", _yolo_settings("train.txt")),
    "Label Studio's YOLO": Layout(label_studio_yolo, "YOLO, text files of labels: 3 training", _yolo_settings(".")),
    "LabelImg's YOLO": Layout(labelimg_yolo, "YOLO, text files of labels: 3 training", _yolo_settings(".")),
    "FiftyOne's YOLO": Layout(
        fiftyone_yolo, "YOLO (dataset.yaml): 3", _yolo_settings("images/train", "images/val"), ("train", "val")
    ),
    "CVAT's VOC": Layout(
        cvat_voc, "PASCAL VOC with lists", {"format": "voc", "train_split": "default", "val_split": None}
    ),
    "LabelImg's folder": Layout(
        labelimg_flat,
        "PASCAL VOC, XML files beside their images: 3 training images",
        {"format": "voc", "train_split": ".", "val_split": None},
    ),
    "Roboflow's VOC": Layout(
        roboflow_voc,
        "PASCAL VOC, XML files beside their images: 3 training, 3 validation, 3 test images",
        {"format": "voc", "train_split": "train", "val_split": "valid", "test_split": "test"},
        ("train", "val", "test"),
    ),
    "VOC without lists": Layout(
        voc_without_lists,
        "PASCAL VOC without lists: 3 training images",
        {"format": "voc", "train_split": ".", "val_split": None},
    ),
    "Label Studio's VOC": Layout(
        label_studio_voc,
        "PASCAL VOC without lists: 3 training images",
        {"format": "voc", "train_split": ".", "val_split": None},
    ),
    "LabelMe's": Layout(
        labelme, "LabelMe, a JSON file per image: 3 training", {"format": "labelme", "train": ".", "val": None}
    ),
    "LabelMe's in folders": Layout(
        labelme_splits, "LabelMe", {"format": "labelme", "train": "train", "val": "val"}, ("train", "val")
    ),
}
"""What writes a layout, and what it must be recognised as."""
