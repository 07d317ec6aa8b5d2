"""COCO files to score against each other without images: annotations, and detections in the results format."""

from __future__ import annotations

import logging
import math
from typing import Any

from typing_extensions import TypedDict

from raydistill.data.box_kinds import doubt_of_detections
from raydistill.data.checks import raise_problems
from raydistill.data.counting import CROWDS, DROPPED, log_left_out, warn_nothing
from raydistill.data.formats.coco_doubts import doubts_of
from raydistill.data.formats.coco_file import Box, Entries, Id, Number, read_coco_file
from raydistill.data.formats.coco_repairs import Meant, Repairs
from raydistill.data.formats.json_text import read_json, shown, without_collections
from raydistill.data.notes import warn_read_as
from raydistill.errors import UserError
from raydistill.storage.remote_path import Place


class CocoDetection(TypedDict):
    """An object that was found."""

    image_id: Id
    category_id: Id
    bbox: Box
    score: Number


_log = logging.getLogger(__name__)
_LOOKED_AT = 500  # detections with the highest scores, to see whether their boxes fit
_DETECTIONS = Entries("detection", CocoDetection, "image_id, category_id, bbox and score")


@without_collections()
def read_ground_truth(path: Place) -> dict[str, Any]:
    """Read COCO annotations as COCOeval needs them: what `read_coco_file` takes, warnings and errors included.

    ``iscrowd: null`` and a missing one count as 0, a missing ``area`` is width x height. Annotations are numbered anew
    from 1 on: COCOeval takes a match with annotation 0 for no match.
    """
    file = read_coco_file(path)
    file.raise_problems()
    file.warn()
    crowds = sum(bool(annotation.get("iscrowd")) for annotation in file.annotations)
    left_out, num_counted = {CROWDS: crowds, DROPPED: len(file.dropped)}, len(file.annotations) - crowds
    if num_counted:
        log_left_out(str(path), num_counted, left_out)
    else:
        warn_nothing(str(path), left_out)
    sizes = {i["id"]: (w, h) for i in file.images if (w := i.get("width")) and (h := i.get("height"))}
    for doubt in doubts_of(file.annotations, sizes):
        _log.warning("%s: %s", path, doubt)
    annotations = []
    for number, annotation in enumerate(file.annotations, start=1):
        _, _, width, height = annotation["bbox"]
        area = annotation.get("area")
        annotations.append(
            {
                **annotation,
                "id": number,
                "iscrowd": int(annotation.get("iscrowd") or 0),
                "area": width * height if area is None else area,
            }
        )
    return {"info": {}, "images": file.images, "annotations": annotations, "categories": file.categories}


@without_collections()
def read_detections(path: Place, ground_truth: dict[str, Any]) -> list[dict[str, Any]]:
    """Read detections in COCO's results format, and check that they belong to ``ground_truth``."""
    content = read_json(path, "detections")
    if not isinstance(content, list):
        raise UserError(f"{path}: must be a list of detections, got a {type(content).__name__}; name a results file")
    known = {
        "image_id": {image["id"] for image in ground_truth["images"]},
        "category_id": {category["id"] for category in ground_truth["categories"]},
    }

    repairs: Repairs = {}
    meant = Meant(known, repairs)

    def faults(entry: Any) -> list[str]:
        meant.replace(entry, "detection")
        found = [
            f"{key} must be one of the annotations', got {shown(entry[key])}; score against the annotations of its data"
            for key, ids in known.items()
            if key in entry and entry[key] not in ids
        ]
        if "bbox" in entry and min(entry["bbox"][2:]) < 0:
            found.append(f"bbox must have no negative width or height, got {shown(entry['bbox'])}; correct it")
        return found

    problems: list[str] = []
    detections: list[Any] = [detection for _, detection in _DETECTIONS.sound(content, problems, faults, repairs)]
    raise_problems(problems, f"{path}: the detections must be sound")
    for what, names in repairs.items():
        warn_read_as(path, what, names)
    if doubt := _doubt(detections, ground_truth):
        _log.warning("%s: %s; convert the boxes", path, doubt)
    return detections


def _doubt(detections: list[Any], ground_truth: dict[str, Any]) -> str:
    """Say that the best of the detections fit far better as boxes of another kind."""
    best = sorted(detections, key=lambda found: -found["score"])[:_LOOKED_AT]
    sizes = {
        image["id"]: (image.get("width") or math.nan, image.get("height") or math.nan)
        for image in ground_truth["images"]
    }
    objects: dict[Any, list[Any]] = {}
    for annotation in ground_truth["annotations"]:
        objects.setdefault(annotation["image_id"], []).append(annotation["bbox"])
    images = [found["image_id"] for found in best]
    return doubt_of_detections([found["bbox"] for found in best], [sizes[image] for image in images], images, objects)
