"""A PASCAL VOC folder to a dataset: ``ImageSets/Main`` lists, one XML per image in ``Annotations``, ``JPEGImages``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree
from xml.parsers import expat

from raydistill.data.checks import (
    Box,
    Header,
    ImageFolder,
    clip_box,
    listed,
    raise_problems,
    read_headers,
    warn_dropped,
)
from raydistill.data.dataset import AnnotatedImage, AnnotatedObject, DetectionDataset, Records
from raydistill.errors import UserError

_SUFFIXES = (".jpg", ".jpeg", ".png")


def read_voc(
    root: Path,
    split: str,
    classes: Sequence[str] | None = None,
    difficult: Literal["ignore", "include"] = "ignore",
    coordinates: Literal["one_based", "zero_based"] = "one_based",
) -> DetectionDataset:
    """Read the images that ``ImageSets/Main/<split>.txt`` lists; image ids are 1, 2, ... in the order of that list.

    Args:
        root: the folder that holds ``JPEGImages``, ``Annotations`` and ``ImageSets/Main``.
        split: name of the list.
        classes: names in the order of their labels; None takes those found in the split, by name.
        difficult: ``ignore`` leaves objects marked difficult out of training and makes them neither hit nor miss in
            evaluation; ``include`` treats them like any other.
        coordinates: ``one_based`` where pixel 1 is the first and xmax, ymax belong to the box; ``zero_based`` where
            the corners are taken as they stand.

    Raises:
        UserError: naming everything that is wrong with the folder, the list, the XML files or the images' headers.
    """
    problems: list[str] = []
    stems = _read_list(root, split)
    pairs = _find_files(root, stems, root / "ImageSets" / "Main" / f"{split}.txt", problems)
    parsed = [_parse(annotation, problems) for annotation, _ in pairs]
    names = sorted({found.name for objects in parsed for found in objects.objects}) if classes is None else classes
    labels = {name: label for label, name in enumerate(names, 1)}
    headers = read_headers([image for _, image in pairs])

    dropped: list[str] = []
    images: list[AnnotatedImage] = []
    for (annotation, path), content, header in zip(pairs, parsed, headers, strict=True):
        fault = header.problem or (header.mismatch(*content.size) if content.size else "")
        if fault:
            problems.append(f"{annotation}: {fault}")
        problems += _unknown_names(annotation, content, labels)
        objects = []
        for place, found in enumerate(content.objects, 1):
            box = _pixel_box(found.corners, coordinates, header)
            if box is not None:
                ignored = found.difficult and difficult == "ignore"
                objects.append(AnnotatedObject(labels.get(found.name, 0), box, box[2] * box[3], ignored))
            else:
                dropped.append(f"{annotation.name} object {place} [{', '.join(f'{c:g}' for c in found.corners)}]")
        images.append(AnnotatedImage(len(images) + 1, path.name, header.width, header.height, objects))
    raise_problems(problems, f"{root}: the split '{split}' must be complete and sound")
    if not labels:
        raise UserError(f"{root}: the split '{split}' must have objects to take the classes from; set data.classes")
    warn_dropped(root / "ImageSets" / "Main" / f"{split}.txt", dropped)
    return DetectionDataset(
        classes=tuple(labels),
        category_ids=tuple(labels.values()),
        records=Records.build(images),
        read_image=ImageFolder(str(root / "JPEGImages")),
    )


@dataclass(frozen=True)
class _Object:
    name: str
    corners: Box  # xmin, ymin, xmax, ymax as the file has them
    difficult: bool


@dataclass(frozen=True)
class _Content:
    """What one XML file says."""

    size: tuple[int, int] | None = None  # width, height; None where it does not say
    objects: tuple[_Object, ...] = ()


def _read_list(root: Path, split: str) -> list[str]:
    """Names of the images of a split: the first column; lines of class lists with -1 (class absent) are left out."""
    missing = [name for name in ("JPEGImages", "Annotations", "ImageSets/Main") if not (root / name).is_dir()]
    if missing:
        raise UserError(
            f"{root}: must be a PASCAL VOC folder with JPEGImages, Annotations and ImageSets/Main, "
            f"got none of {', '.join(missing)}; correct the path or add the folders"
        )
    path = root / "ImageSets" / "Main" / f"{split}.txt"
    if not path.is_file():
        splits = listed(sorted(found.stem for found in path.parent.glob("*.txt")))
        raise UserError(f"{path}: the list of the split must exist; splits there: {splits}")
    lines = [line.split() for line in path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()]
    stems = [columns[0] for columns in lines if columns and columns[1:] != ["-1"]]
    if not stems:
        raise UserError(f"{path}: must list at least one image, got none; add the names of the images")
    repeated = sorted({stem for stem in stems if stems.count(stem) > 1}) if len(set(stems)) < len(stems) else []
    if repeated:
        raise UserError(f"{path}: must list each image once, got {listed(repeated)} more often; remove the repeats")
    return stems


def _find_files(root: Path, stems: list[str], source: Path, problems: list[str]) -> list[tuple[Path, Path]]:
    """Find (annotation, image) of each name, without those where one is missing."""
    pairs = []
    for stem in stems:
        annotation = root / "Annotations" / f"{stem}.xml"
        candidates = [root / "JPEGImages" / f"{stem}{suffix}" for suffix in _SUFFIXES]
        image = next((path for path in candidates if path.is_file()), None)
        if not annotation.is_file():
            problems.append(f"{source}: '{stem}' must have its annotation {annotation}, got none; add or unlist it")
        if image is None:
            problems.append(
                f"{source}: '{stem}' must have its image {candidates[0]} (or .jpeg, .png), got none; add or unlist it"
            )
        elif annotation.is_file():
            pairs.append((annotation, image))
    return pairs


def _parse(path: Path, problems: list[str]) -> _Content:
    try:
        raw = path.read_bytes()
        _refuse_doctype(raw)
        root = ElementTree.fromstring(raw)
    except (ElementTree.ParseError, expat.ExpatError) as error:
        problems.append(f"{path}: must be well-formed XML, got: {error}; correct or export it again")
        return _Content()
    except (_DoctypeError, LookupError, ValueError, OSError) as error:
        problems.append(f"{path}: must be plain XML, got {error}; correct or export it again")
        return _Content()
    objects = []
    for place, element in enumerate(root.findall("object"), 1):
        found = _parse_object(element, f"{path}, object {place}", problems)
        if found is not None:
            objects.append(found)
    size = _number(root, "size/width"), _number(root, "size/height")
    # Some tools write 0 where they do not know the size.
    stated = None if size[0] is None or size[1] is None or 0 in size else (int(size[0]), int(size[1]))
    return _Content(stated, tuple(objects))


def _parse_object(element: ElementTree.Element, where: str, problems: list[str]) -> _Object | None:
    name = (element.findtext("name") or "").strip()
    corners = [_number(element, f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
    difficult = (element.findtext("difficult") or "0").strip()
    known = [corner for corner in corners if corner is not None]
    if not name:
        problems.append(f"{where}: must have a name, got none; add it")
    if len(known) < 4:
        problems.append(f"{where}: bndbox must hold the numbers xmin, ymin, xmax, ymax, got {corners}; correct it")
    if difficult not in ("0", "1"):
        problems.append(f"{where}: difficult must be 0 or 1, got '{difficult}'; correct it")
    if not name or len(known) < 4:
        return None
    return _Object(name, (known[0], known[1], known[2], known[3]), difficult == "1")


def _unknown_names(annotation: Path, content: _Content, labels: dict[str, int]) -> list[str]:
    """Say which objects have a name that is no class."""
    return [
        f"{annotation}, object {place}: name must be one of {listed(list(labels))}, got '{found.name}'; "
        "correct it or data.classes"
        for place, found in enumerate(content.objects, 1)
        if found.name not in labels
    ]


def _number(element: ElementTree.Element, path: str) -> float | None:
    try:
        value = float(element.findtext(path) or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _pixel_box(corners: Box, coordinates: str, header: Header) -> Box | None:
    """Turn corners as the file has them into x, y, width, height inside the image; None where no box is left."""
    xmin, ymin, xmax, ymax = corners
    if xmax <= xmin or ymax <= ymin:
        return None
    first = 1 if coordinates == "one_based" else 0
    x, y = xmin - first, ymin - first
    return clip_box((x, y, xmax - x, ymax - y), header.width, header.height)


class _DoctypeError(Exception):
    """The XML declares a document type, through which a small file can grow without bound."""


def _refuse_doctype(raw: bytes) -> None:
    def refuse(name: str, *_identifiers: object) -> None:
        raise _DoctypeError(f"a document type declaration ({name}), which annotations do not need")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.Parse(raw, True)
