"""COCO files to score against each other without images: annotations, and detections in the results format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raydistill.data.formats.json_text import is_text, parse_json, shown
from raydistill.errors import UserError, one_error

_NAMED = ("id", "name")
_NAMED_AT_MOST = 10
_TOO_LARGE = 1e15  # no coordinate and no area; NaN and infinity fail the comparison too


def read_ground_truth(path: Path) -> dict[str, Any]:
    """Read COCO annotations as COCOeval needs them.

    ``ignore: null`` and a missing ``iscrowd`` count as 0, a missing ``area`` is width x height. Annotations are
    numbered anew from 1 on: COCOeval takes a match with annotation 0 for no match.
    """
    content = _read(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: must be a COCO annotations object, got {type(content).__name__}")
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise UserError(f"{path}: must hold a list '{key}', got {type(content.get(key)).__name__}")
        if not content[key] and key != "annotations":
            raise UserError(f"{path}: must hold at least one entry in '{key}', got none; export the file again")
    problems = [*_unnamed(content["images"], "images", ("id",)), *_unnamed(content["categories"], "categories", _NAMED)]
    problems += [*_repeated(content["images"], "images", "id")]
    problems += [line for key in _NAMED for line in _repeated(content["categories"], "categories", key)]
    _raise(problems, path)
    images = {image["id"] for image in content["images"]}
    categories = {category["id"] for category in content["categories"]}
    annotations = []
    for number, annotation in enumerate(content["annotations"], start=1):
        problem = _problem(annotation, images, categories)
        problem = problem or _annotation_problem(annotation)
        if problem:
            name = annotation.get("id", f"number {number}") if isinstance(annotation, dict) else f"number {number}"
            problems.append(f"annotation {name}: {problem}")
            continue
        _, _, width, height = annotation["bbox"]
        annotations.append(
            {
                **annotation,
                "id": number,
                "iscrowd": int(annotation.get("iscrowd") or 0),
                "area": annotation["area"] if annotation.get("area") is not None else width * height,
            }
        )
    _raise(problems, path)
    return {"info": {}, "images": content["images"], "annotations": annotations, "categories": content["categories"]}


def read_detections(path: Path, ground_truth: dict[str, Any]) -> list[dict[str, Any]]:
    """Read detections in COCO's results format, and check that they belong to ``ground_truth``."""
    content = _read(path)
    if not isinstance(content, list):
        raise UserError(f"{path}: must be a list of detections, got {type(content).__name__}")
    images = {image["id"] for image in ground_truth["images"]}
    categories = {category["id"] for category in ground_truth["categories"]}
    problems = []
    for number, detection in enumerate(content, start=1):
        problem = _problem(detection, images, categories)
        if not problem and not _is_number(detection.get("score")):
            problem = f"score must be a number, got {shown(detection.get('score'))}"
        if problem:
            problems.append(f"detection number {number}: {problem}")
    _raise(problems, path)
    return content


def _read(path: Path) -> Any:
    try:
        return parse_json(path.read_bytes())
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: must be JSON, got {error.msg} in line {error.lineno}; is it cut off?") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    except ValueError as error:  # of parse_json; or the path holds a NUL
        raise UserError(f"{path}: must be JSON that can be read, got {error}") from error


def _unnamed(entries: list[Any], kind: str, keys: tuple[str, ...]) -> list[str]:
    """Name the images or categories that lack what the others refer to them by."""
    return [
        f"{kind} number {number}: must be an object with {' and '.join(keys)}, got {shown(entry)}"
        for number, entry in enumerate(entries, start=1)
        if not isinstance(entry, dict) or not all(_is_id(entry.get(key)) for key in keys)
    ]


def _repeated(entries: list[Any], kind: str, key: str) -> Iterator[str]:
    """Name the images or categories that have the same ``key`` as an earlier one."""
    seen = set()
    for number, entry in enumerate(entries, start=1):
        value = entry.get(key) if isinstance(entry, dict) else None
        if _is_id(value) and value in seen:
            yield f"{kind} number {number}: {key} must be unique, got {shown(value)} again"
        seen.add(value if _is_id(value) else None)


def _is_id(value: Any) -> bool:
    return is_text(value) or (isinstance(value, int) and not isinstance(value, bool))


def _problem(item: Any, images: set[Any], categories: set[Any]) -> str:
    """Say what is wrong with an annotation or a detection, if anything is."""
    if not isinstance(item, dict):
        return f"must be an object, got {type(item).__name__}"
    for key, known in (("image_id", images), ("category_id", categories)):
        if not _is_id(item.get(key)) or item[key] not in known:
            return f"{key} must be one of the annotations', got {shown(item.get(key))}"
    box = item.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
        return f"bbox must be [x, y, width, height], got {shown(box)}"
    if min(box[2:]) < 0:
        return f"bbox must have no negative width or height, got {shown(box)}"
    return ""


def _annotation_problem(annotation: dict[str, Any]) -> str:
    """Say what is wrong with what only an annotation has, if anything is."""
    area, crowd = annotation.get("area"), annotation.get("iscrowd")
    if area is not None and not (_is_number(area) and area >= 0):
        return f"area must be a number from 0 on, got {shown(area)}"
    if crowd not in (None, 0, 1):
        return f"iscrowd must be 0 or 1, got {shown(crowd)}"
    return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _TOO_LARGE


def _raise(problems: list[str], path: Path) -> None:
    if problems:
        more = [f"and {len(problems) - _NAMED_AT_MOST} more"] if len(problems) > _NAMED_AT_MOST else []
        raise one_error(problems[:_NAMED_AT_MOST] + more, f"{path}: entries that cannot be used")
