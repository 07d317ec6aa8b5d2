"""A split of LabelMe data to a dataset: boxes around its shapes."""

from __future__ import annotations

import math
import posixpath
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raydistill.config.data import LabelMeData
from raydistill.data.alike import spelling
from raydistill.data.checks import Box, listed
from raydistill.data.counting import POINTS
from raydistill.data.dataset import DetectionDataset
from raydistill.data.fetching import read_each
from raydistill.data.formats.assembled import FoundObject, Source
from raydistill.data.formats.base import Folder, SplitName
from raydistill.data.formats.coco_repairs import outline
from raydistill.data.formats.json_text import is_text, parse_json, shown
from raydistill.data.image_folder import Header
from raydistill.errors import UserError
from raydistill.storage.regular import JSON_BYTES, read_bytes
from raydistill.storage.remote_path import Place

_POINTLESS = ("point", "line", "linestrip", "points")
"""Shapes that are no objects with an extent: left out."""


@dataclass(frozen=True)
class _Shape:
    name: str
    box: Box
    area: float | None
    group: object
    number: int


@dataclass(frozen=True)
class _Content:
    size: tuple[int, int] | None = None
    shapes: tuple[_Shape, ...] = ()
    problems: tuple[str, ...] = ()
    num_pointless: int = 0  # shapes that are points or lines


def read_split(data: LabelMeData, root: Place, split: SplitName, train: DetectionDataset | None) -> DetectionDataset:
    """Read a split that ``data`` names: a box around each shape, or around all shapes of one group and name.

    Raises:
        UserError: naming everything that is wrong with it.
    """
    entries = data.named(split) or ()
    images: list[str] = []
    files: dict[str, Place] = {}
    for entry in [entries] if isinstance(entries, str) else entries:
        if not (root / entry).is_dir():
            raise UserError(
                f"{root / entry}: must be a folder of images and JSON files, there is none; correct data.{split}"
            )
        below, annotations = _files_of(Folder.of(root / entry))
        images += [_joined(entry, image) for image in below]
        files |= {_joined(entry, image): root / entry / name for image, name in annotations.items()}
    place = root / entries if isinstance(entries, str) else root
    if not images:
        raise UserError(f"{place}: must hold images, got none; correct data.{split}")
    annotated = [image for image in images if image in files]
    read = dict(zip(annotated, read_each(_parse, [files[image] for image in annotated], "annotations"), strict=True))
    source = Source(place, root, images, [image for image in images if image not in files])
    source.left_out = {POINTS: sum(content.num_pointless for content in read.values())}
    classes = data.classes if train is None else train.classes
    labels = _labels(classes, list(read.values()))

    def objects_of(number: int, header: Header) -> list[FoundObject]:
        image = images[number]
        content = read.get(image, _Content())
        file = files.get(image, place)
        fault = header.mismatch(*content.size) if content.size else ""
        source.problems += [f"{file}: {problem}" for problem in (*content.problems, *([fault] if fault else []))]
        return _objects(content, labels, str(file), source.problems)

    return source.dataset(data, source.headers(data), list(labels), objects_of)


def _files_of(folder: Folder) -> tuple[list[str], dict[str, str]]:
    """Return the images of a folder, and the JSON file of each that has one: beside it, or of its name elsewhere."""
    by_path = {posixpath.splitext(name)[0]: name for name in folder.files if name.lower().endswith(".json")}
    by_stem: defaultdict[str, list[str]] = defaultdict(list)
    for stem, name in by_path.items():
        by_stem[posixpath.basename(stem)].append(name)
    found = {}
    for image in folder.images:
        stem = posixpath.splitext(image)[0]
        elsewhere: Sequence[str] = by_stem.get(posixpath.basename(stem), ())
        if stem in by_path:
            found[image] = by_path[stem]
        elif len(elsewhere) == 1:
            found[image] = elsewhere[0]
    return list(folder.images), found


def _joined(folder: str, name: str) -> str:
    return posixpath.normpath(posixpath.join(folder, name))


def _labels(classes: Sequence[str] | None, contents: Sequence[_Content]) -> dict[str, int]:
    names = sorted({shape.name for content in contents for shape in content.shapes}) if classes is None else classes
    return {name: label for label, name in enumerate(names, 1)}


def _objects(content: _Content, labels: Mapping[str, int], file: str, problems: list[str]) -> list[FoundObject]:
    """Return the objects of an image: shapes of one name and group are one."""
    grouped: dict[object, list[_Shape]] = {}
    for shape in content.shapes:
        key = (shape.name, shape.group) if shape.group is not None else shape.number
        grouped.setdefault(key, []).append(shape)
    objects = []
    for shapes in grouped.values():
        where = f"{file}, shape {shapes[0].number}"
        if shapes[0].name not in labels:
            problems.append(
                f"{where}: label must be one of {listed(list(labels))}, got {shapes[0].name!r}; correct it or "
                "data.classes"
            )
            continue
        left, top = (min(shape.box[side] for shape in shapes) for side in (0, 1))
        right, bottom = (max(shape.box[side] + shape.box[side + 2] for shape in shapes) for side in (0, 1))
        areas = [shape.box[2] * shape.box[3] if shape.area is None else shape.area for shape in shapes]
        box = (left, top, right - left, bottom - top)
        objects.append(FoundObject(labels[shapes[0].name], box, sum(areas), where))
    return objects


def _parse(place: Place) -> _Content:
    """Return what a file says of its image; of what is wrong a sentence each."""
    try:
        raw = parse_json(read_bytes(place, JSON_BYTES))
    except (OSError, ValueError) as error:
        return _Content(problems=(f"must be LabelMe's JSON, got: {error}; correct or save it again",))
    if not isinstance(raw, dict) or not isinstance(raw.get("shapes"), list):
        return _Content(problems=("must be LabelMe's JSON with a list of shapes, got none; remove or correct it",))
    width, height = raw.get("imageWidth"), raw.get("imageHeight")
    known = isinstance(width, int) and isinstance(height, int) and min(width, height) > 0
    stated = (int(width or 0), int(height or 0)) if known else None
    shapes: list[_Shape] = []
    problems: list[str] = []
    for number, entry in enumerate(raw["shapes"], 1):
        shape = _shape(entry, number)
        if isinstance(shape, str):
            problems.append(f"shape {number}: {shape}")
        elif shape is not None:
            shapes.append(shape)
    return _Content(stated, tuple(shapes), tuple(problems), len(raw["shapes"]) - len(shapes) - len(problems))


def _shape(entry: Any, number: int) -> _Shape | str | None:
    """Return a shape with the box around it; what is wrong with it, or None where it has no extent by its kind."""
    if not isinstance(entry, dict):
        return f"must be an object with label and points, got {shown(entry)}; correct it"
    name, kind = entry.get("label"), entry.get("shape_type") or "polygon"
    if not isinstance(name, str) or not is_text(name):
        return f"label must be a text that can be printed, got {shown(name)}; correct it"
    if kind in _POINTLESS:
        return None
    points = entry.get("points")
    if not isinstance(points, list) or not all(map(_is_point, points)):
        return f"points must be pairs of numbers, got {shown(points)}; correct it"
    found = _extent(kind, points)
    if isinstance(found, str):
        return found
    return _Shape(" ".join(spelling(name).split()), *found, entry.get("group_id"), number)


def _extent(kind: str, points: Sequence[Sequence[float]]) -> tuple[Box, float | None] | str:
    if kind == "circle" and len(points) == 2:
        (x, y), (rim_x, rim_y) = points
        radius = math.hypot(rim_x - x, rim_y - y)
        return (x - radius, y - radius, 2 * radius, 2 * radius), math.pi * radius**2
    if kind in ("rectangle", "mask") and len(points) in (2, 4):
        xs, ys = [point[0] for point in points], [point[1] for point in points]
        return (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)), None
    if kind in ("polygon", "rotation") and (made := outline([[value for point in points for value in point]])):
        (x, y, width, height), area = made
        return (x, y, width, height), area
    return f"must be a rectangle, circle or polygon with its points, got {kind} of {len(points)}; correct it"


def _is_point(point: Any) -> bool:
    numbers = isinstance(point, list) and len(point) == 2
    return numbers and all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in point)
