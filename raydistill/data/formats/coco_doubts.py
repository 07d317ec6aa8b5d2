"""What about the annotations of a COCO file looks wrong though it can be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raydistill.data.box_kinds import DECLARED, doubt_of, doubt_of_areas, spread
from raydistill.data.formats.coco_file import CocoAnnotation, Id


def doubts_of(annotations: Sequence[CocoAnnotation], sizes: Mapping[Id, tuple[int, int]]) -> tuple[str, ...]:
    """Say what looks wrong, a sentence each.

    Args:
        annotations: all of a file.
        sizes: id of an image -> its width and height; annotations of others are not looked at.
    """
    there = [annotation for annotation in spread(annotations) if annotation["image_id"] in sizes]
    stated = [(area, one["bbox"]) for one in there if (area := one.get("area")) is not None]
    found = (
        doubt_of([one["bbox"] for one in there], [sizes[one["image_id"]] for one in there], DECLARED),
        doubt_of_areas([area for area, _ in stated], [box for _, box in stated]),
        _doubt_of_ignored(annotations),
    )
    return tuple(doubt for doubt in found if doubt)


def _doubt_of_ignored(annotations: Sequence[CocoAnnotation]) -> str:
    """Say that objects are marked in a way that nobody goes by."""
    ignored = sum(bool(one.get("ignore")) and not one.get("iscrowd") for one in annotations)
    if not ignored:
        return ""
    return (
        f"{ignored} of {len(annotations)} objects have ignore set, which has no effect, as in pycocotools: iscrowd 1 "
        "leaves an object out"
    )
