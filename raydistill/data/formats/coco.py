"""COCO JSON to a dataset, with all that is wrong in the file told at once."""

from __future__ import annotations

import json
import os
import posixpath
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raydistill.config.data import OnBadImage
from raydistill.data.checks import Box, clip_box, listed, raise_problems, warn_dropped, warn_skipped
from raydistill.data.dataset import AnnotatedImage, AnnotatedObject, DetectionDataset, Records
from raydistill.data.formats.json_text import is_text, parse_json, shown
from raydistill.data.image_folder import ImageFolder, read_headers
from raydistill.errors import UserError
from raydistill.storage.remote_path import Place

_SECTIONS = ("images", "annotations", "categories")
_TOO_LARGE = 1e15  # no coordinate and no area; NaN and infinity fail the comparison too


def read_coco(images: Place, annotations: Place, on_bad_image: OnBadImage = "error") -> DetectionDataset:
    """Read the COCO file ``annotations``, whose images lie in the folder ``images``.

    Labels are 1 to K in the order of the category ids. Crowds are left out of training and are neither hit nor
    miss in evaluation; ``ignore`` has no effect, as in pycocotools. Boxes are clipped to their image; those of which
    nothing is left are dropped with one warning. Segmentations are not used. With ``on_bad_image`` ``skip``, images
    that are missing or whose headers cannot be read are left out with their objects, with one warning.

    Raises:
        UserError: naming everything that is wrong with the annotations or with the images' headers.
    """
    return dataset_from(load_annotations(annotations), images, annotations, on_bad_image)


def load_annotations(path: Place) -> dict[str, Any]:
    """Parse a COCO file and check that it has its three lists.

    Raises:
        UserError: where the file is missing, no JSON, or not in COCO form.
    """
    try:
        raw = parse_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise UserError(
            f"{path}: the annotations file must exist; JSON files near it: {listed(_json_files_near(path))}"
        ) from None
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {error.lineno}, column {error.colno}: must be complete JSON, got: {error.msg}; "
            "copy or export the file again"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: must be UTF-8 text, got other bytes from {error.start} on; export it again"
        ) from error
    except ValueError as error:  # of parse_json; or the path holds a NUL
        raise UserError(f"{path}: must be JSON that can be read, got {error}; correct the file or its path") from error
    except OSError as error:
        raise UserError(f"{path}: must be readable, got: {error.strerror}; check the file's permissions") from error
    missing = [key for key in _SECTIONS if not isinstance(raw, dict) or not isinstance(raw.get(key), list)]
    if missing:
        raise UserError(
            f"{path}: must be a COCO file with the lists images, annotations and categories, got none of "
            f"{', '.join(missing)}; export the data in COCO detection format"
        )
    return dict(raw)


def dataset_from(
    raw: dict[str, Any], images: Place, annotations: Place, on_bad_image: OnBadImage = "error"
) -> DetectionDataset:
    """Make the dataset of a parsed COCO file; arguments and errors as in `read_coco`."""
    if not images.is_dir():
        raise UserError(f"{images}: the folder of the images of {annotations} must exist; correct the path")
    reading = _Reading(annotations, on_bad_image)
    reading.read_categories(raw["categories"])
    reading.read_images(raw["images"], images)
    reading.read_objects(raw["annotations"])
    raise_problems(reading.problems, f"{annotations}: the annotations must be sound and fit their images")
    warn_skipped(annotations, list(reading.skipped), list(reading.skipped.values()), len(raw["images"]))
    warn_dropped(annotations, reading.dropped)
    return DetectionDataset(
        classes=tuple(reading.categories[category_id] for category_id in reading.labels),
        category_ids=tuple(reading.labels),
        records=Records.build(reading.images.values()),
        read_image=ImageFolder(images),
    )


@dataclass
class _Reading:
    """A COCO file while it is read: what was found so far, and what is wrong with it."""

    source: Place
    on_bad_image: OnBadImage
    problems: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)  # file name -> why it cannot be read
    categories: dict[int, str] = field(default_factory=dict)  # category id -> name
    labels: dict[int, int] = field(default_factory=dict)  # category id -> label, ascending
    images: dict[int, AnnotatedImage] = field(default_factory=dict)  # image id -> image
    image_ids: set[int] = field(default_factory=set)  # of faulty images too

    def read_categories(self, entries: list[Any]) -> None:
        names = set()
        for place, entry in enumerate(entries):
            faults = _faults(entry, {"id": _is_id, "name": is_text})
            if not faults and entry["id"] in self.categories:
                faults = [f"id must be unique, got {entry['id']} again; renumber the categories"]
            elif not faults and entry["name"] in names:
                faults = [f"name must be unique, got '{entry['name']}' again; rename or merge the categories"]
            if faults:
                self._fault("category", entry, place, faults)
            else:
                self.categories[entry["id"]] = entry["name"]
                names.add(entry["name"])
        if not entries:
            self.problems.append(f"{self.source}: categories must name at least one class, got none; add them")
        self.labels = {category_id: label for label, category_id in enumerate(sorted(self.categories), 1)}

    def read_images(self, entries: list[Any], folder: Place) -> None:
        sound: list[dict[str, Any]] = []
        names: set[str] = set()
        for place, entry in enumerate(entries):
            faults = _faults(entry, {"id": _is_id, "file_name": _is_file, "width": _is_side, "height": _is_side})
            if isinstance(entry, dict) and _is_id(entry.get("id")):
                if entry["id"] in self.image_ids:
                    faults.append(f"id must be unique, got {entry['id']} again; renumber the images")
                self.image_ids.add(entry["id"])
            if not faults and posixpath.normpath(entry["file_name"]) in names:
                faults.append(f"file_name must be unique, got {shown(entry['file_name'])} again; list the image once")
            if faults:
                self._fault("image", entry, place, faults)
            else:
                sound.append(entry)
                names.add(posixpath.normpath(entry["file_name"]))
        headers = read_headers([folder / entry["file_name"] for entry in sound])
        for entry, header in zip(sound, headers, strict=True):
            image_id, name, width, height = (entry[key] for key in ("id", "file_name", "width", "height"))
            if header.problem and self.on_bad_image == "skip":
                self.skipped[name] = header.problem
                continue
            fault = header.problem or header.mismatch(width, height)
            if fault:
                self.problems.append(f"{self.source}, image {image_id} ({name}): {fault}")
            self.images[image_id] = AnnotatedImage(image_id, name, width, height, [])
        if not entries:
            self.problems.append(f"{self.source}: images must list at least one image, got none; add them")

    def read_objects(self, entries: list[Any]) -> None:
        seen: set[int] = set()
        for place, entry in enumerate(entries):
            faults = self._object_faults(entry)
            if isinstance(entry, dict) and _is_id(entry.get("id")):
                if entry["id"] in seen:
                    faults.append(f"id must be unique, got {entry['id']} again; renumber the annotations")
                seen.add(entry["id"])
            if faults:
                self._fault("annotation", entry, place, faults)
            elif entry["image_id"] in self.images:
                self._add_object(entry)

    def _object_faults(self, entry: Any) -> list[str]:
        checks = {"id": _is_id, "image_id": _is_id, "category_id": _is_id, "bbox": _is_box}
        faults = _faults(entry, checks)
        if not isinstance(entry, dict):
            return faults
        if _is_id(entry.get("image_id")) and entry["image_id"] not in self.image_ids:
            faults.append(f"image_id must be that of an image, got {entry['image_id']}; add the image or remove this")
        if _is_id(entry.get("category_id")) and entry["category_id"] not in self.categories:
            known = listed([f"{number} {name}" for number, name in sorted(self.categories.items())])
            faults.append(f"category_id must be one of {known}, got {entry['category_id']}; correct or add it")
        if entry.get("iscrowd") not in (None, 0, 1):
            faults.append(f"iscrowd must be 0 or 1, got {shown(entry['iscrowd'])}; correct it")
        if entry.get("area") is not None and not (_is_number(entry["area"]) and entry["area"] >= 0):
            faults.append(f"area must be a number from 0 on, got {shown(entry['area'])}; correct or remove it")
        return faults

    def _add_object(self, entry: dict[str, Any]) -> None:
        image = self.images[entry["image_id"]]
        x, y, width, height = (float(value) for value in entry["bbox"])
        box: Box | None = clip_box((x, y, width, height), image.width, image.height)
        if box is None:
            self.dropped.append(f"annotation {entry['id']} of {image.file} {entry['bbox']}")
            return
        area = entry.get("area")
        image.objects.append(
            AnnotatedObject(
                label=self.labels[entry["category_id"]],
                box=box,
                area=box[2] * box[3] if area is None else float(area),
                ignored=bool(entry.get("iscrowd")),
            )
        )

    def _fault(self, kind: str, entry: Any, place: int, faults: list[str]) -> None:
        named = isinstance(entry, dict) and _is_id(entry.get("id"))
        name = f"{kind} {entry['id']}" if named else f"{kind} at place {place} of the list"
        self.problems += [f"{self.source}, {name}: {fault}" for fault in faults]


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _is_side(value: Any) -> bool:
    return _is_id(value) and 0 < value < 2**31


def _is_file(value: Any) -> bool:
    if not isinstance(value, str) or not value or "\0" in value:
        return False
    try:
        return bool(os.fsencode(value))
    except UnicodeEncodeError:  # half of a character
        return False


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _TOO_LARGE


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(_is_number(number) for number in value)


_MEANING = {
    _is_id: "a whole number",
    _is_side: "a whole number of pixels",
    is_text: "a text that can be printed",
    _is_file: "the name of a file",
    _is_box: "[x, y, width, height] in finite numbers",
}


def _faults(entry: Any, checks: dict[str, Any]) -> list[str]:
    """Say what of ``checks`` (key -> predicate) does not hold for ``entry``."""
    if not isinstance(entry, dict):
        return [f"must be an object with {', '.join(checks)}, got {shown(entry)}; correct it"]
    faults = []
    for key, holds in checks.items():
        if key not in entry:
            faults.append(f"{key} must be given, got none; add it")
        elif not holds(entry[key]):
            faults.append(f"{key} must be {_MEANING[holds]}, got {shown(entry[key])}; correct it")
    return faults


def _json_files_near(path: Place) -> list[str]:
    """Name the JSON files in the nearest folder above ``path`` that exists and in its subfolders."""
    folder: Place = next((parent for parent in path.parents if parent.is_dir()), Path())
    return sorted(str(found) for pattern in ("*.json", "*/*.json") for found in folder.glob(pattern))
