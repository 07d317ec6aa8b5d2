"""COCO files to score against each other without images: annotations, and detections in the results format."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from raydistill.errors import UserError, one_error

_NAMED_AT_MOST = 10


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
    problems = _unnamed(content["images"], "images", ("id",)) + _unnamed(
        content["categories"], "categories", ("id", "name")
    )
    _raise(problems, path)
    images = {image["id"] for image in content["images"]}
    categories = {category["id"] for category in content["categories"]}
    annotations = []
    for number, annotation in enumerate(content["annotations"], start=1):
        problem = _problem(annotation, images, categories)
        if not problem and not _is_number(annotation.get("area") or 0):
            problem = f"area must be a number, got {annotation['area']!r}"
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
            problem = f"score must be a number, got {detection.get('score')!r}"
        if problem:
            problems.append(f"detection number {number}: {problem}")
    _raise(problems, path)
    return content


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: must be JSON, got {error.msg} in line {error.lineno}; is it cut off?") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error


def _unnamed(entries: list[Any], kind: str, keys: tuple[str, ...]) -> list[str]:
    """Name the images or categories that lack what the others refer to them by."""
    return [
        f"{kind} number {number}: must be an object with {' and '.join(keys)}, got {entry!r}"
        for number, entry in enumerate(entries, start=1)
        if not isinstance(entry, dict) or not all(isinstance(entry.get(key), int | str) for key in keys)
    ]


def _problem(item: Any, images: set[Any], categories: set[Any]) -> str:
    """Say what is wrong with an annotation or a detection, if anything is."""
    if not isinstance(item, dict):
        return f"must be an object, got {type(item).__name__}"
    for key, known in (("image_id", images), ("category_id", categories)):
        if not isinstance(item.get(key), int | str) or item[key] not in known:
            return f"{key} must be one of the annotations', got {item.get(key)!r}"
    box = item.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
        return f"bbox must be [x, y, width, height], got {box!r}"
    return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _raise(problems: list[str], path: Path) -> None:
    if problems:
        more = [f"and {len(problems) - _NAMED_AT_MOST} more"] if len(problems) > _NAMED_AT_MOST else []
        raise one_error(problems[:_NAMED_AT_MOST] + more, f"{path}: entries that cannot be used")
