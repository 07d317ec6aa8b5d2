"""Objects and detections in columns: what the workers exchange, and what is scored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Detections = list[dict[str, Any]]
"""COCO's results format: image_id, category_id, bbox [x, y, width, height], score."""


@dataclass(frozen=True)
class Objects:
    """What is to be found, in columns."""

    image_ids: NDArray[np.int64]  # [A]
    category_ids: NDArray[np.int64]  # [A]
    boxes: NDArray[np.float64]  # [A, 4], x, y, width, height
    areas: NDArray[np.float64]  # [A]
    ignored: NDArray[np.bool_]  # [A], neither hit nor miss: COCO's iscrowd

    def rows(self, which: NDArray[np.int64]) -> Objects:
        """Return the objects at ``which`` [B], in that order."""
        return Objects(
            self.image_ids[which], self.category_ids[which], self.boxes[which], self.areas[which], self.ignored[which]
        )


@dataclass(frozen=True)
class Found:
    """What was found, in columns: 56 bytes a detection, where a dictionary takes some 420."""

    image_ids: NDArray[np.int64]  # [N]
    category_ids: NDArray[np.int64]  # [N]
    boxes: NDArray[np.float64]  # [N, 4], x, y, width, height
    scores: NDArray[np.float64]  # [N]

    def __len__(self) -> int:
        """Return the number of detections."""
        return len(self.scores)

    def rows(self, which: NDArray[Any]) -> Found:
        """Return the detections at ``which``, indices [B] or a mask [N] bool."""
        return Found(*(column[which] for column in self._columns))

    @staticmethod
    def joined(parts: Sequence[Found]) -> Found:
        """Return the detections of all ``parts``, one after the other."""
        nothing = Found(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0))
        columns = zip(*(part._columns for part in (nothing, *parts)), strict=True)
        return Found(*(np.concatenate(column) for column in columns))

    def as_coco(self) -> Detections:
        """Return the detections in COCO's results format."""
        return [
            {"image_id": image, "category_id": category, "bbox": box, "score": confidence}
            for image, category, box, confidence in zip(*(column.tolist() for column in self._columns), strict=True)
        ]

    @property
    def _columns(self) -> tuple[NDArray[Any], ...]:
        return self.image_ids, self.category_ids, self.boxes, self.scores


def from_coco(ground_truth: dict[str, Any], detections: Detections) -> tuple[Objects, Found, list[str]]:
    """Return COCO annotations and detections in columns, and the names of the classes, by category.

    Images and categories are numbered anew from 0 on, in the order of their ids, integers before
    strings. As in COCOeval, what has an unlisted category is left out, and so are objects of unlisted images.

    Raises:
        ValueError: for a detection on an image that ``ground_truth`` does not list.
    """
    images = _numbers(image["id"] for image in ground_truth["images"])
    categories = _numbers(category["id"] for category in ground_truth["categories"])
    objects = [
        item for item in ground_truth["annotations"] if item["image_id"] in images and item["category_id"] in categories
    ]
    found = [item for item in detections if item["category_id"] in categories]
    if not all(item["image_id"] in images for item in found):
        raise ValueError("detections must lie on images that the ground truth lists")
    names = {categories[category["id"]]: str(category["name"]) for category in ground_truth["categories"]}
    return (
        Objects(
            *_columns(objects, images, categories),
            areas=np.array([item["area"] for item in objects], np.float64),
            ignored=np.array([bool(item.get("iscrowd", 0)) for item in objects], np.bool_),
        ),
        Found(*_columns(found, images, categories), scores=np.array([item["score"] for item in found], np.float64)),
        [names[number] for number in range(len(categories))],
    )


def rows_of(column: NDArray[np.int64], category_ids: Sequence[int]) -> list[NDArray[np.int64]]:
    """Return the rows of each category, in the order in which they come."""
    order = np.argsort(column, kind="stable")
    in_order = column[order]
    starts = np.searchsorted(in_order, category_ids, side="left")
    ends = np.searchsorted(in_order, category_ids, side="right")
    return [order[start:end] for start, end in zip(starts, ends, strict=True)]


def _numbers(ids: Iterable[Any]) -> dict[Any, int]:
    """Number ids from 0 on, in their order: COCOeval goes through images in it, which settles equal scores."""
    in_order = sorted(set(ids), key=lambda name: (isinstance(name, str), name))
    return {name: number for number, name in enumerate(in_order)}


def _columns(items: list[dict[str, Any]], images: dict[Any, int], categories: dict[Any, int]) -> tuple[Any, Any, Any]:
    return (
        np.array([images[item["image_id"]] for item in items], np.int64),
        np.array([categories[item["category_id"]] for item in items], np.int64),
        np.array([item["bbox"] for item in items], np.float64).reshape(-1, 4),
    )
