"""A split of a dataset in memory: annotations in columns, images read on demand.

Annotations lie in a few numpy arrays instead of in an object per image: COCO's 118,000 images take some 50 MB, a loader
process that is forked shares them, and one that is spawned receives them quickly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raydistill.structures import Target


@dataclass(frozen=True)
class Record:
    """One image and the objects to train on: without crowds and ignored objects."""

    image_id: int
    file: str  # as the annotations name it
    width: int
    height: int
    boxes: Tensor  # [M, 4] float32, xyxy in pixels of the image
    labels: Tensor  # [M] int64, 1 to K


class AnnotatedObject(NamedTuple):
    """One object as a reader of annotations found it."""

    label: int  # 1 to K
    box: tuple[float, float, float, float]  # x, y, width, height in pixels, inside the image
    area: float  # in square pixels, of the outline where that is known
    ignored: bool  # a crowd, or too difficult: left out of training, neither hit nor miss in evaluation


class AnnotatedImage(NamedTuple):
    """One image as a reader of annotations found it."""

    image_id: int
    file: str
    width: int
    height: int
    objects: list[AnnotatedObject]


@dataclass(frozen=True)
class Records:
    """The images of a split and their objects, in columns: I images, A objects, image after image.

    Behaves as a sequence of `Record`.
    """

    image_ids: NDArray[np.int64]  # [I]
    names: bytes  # the file names one after the other
    name_ends: NDArray[np.int64]  # [I + 1], where each name ends in names; starts with 0
    sizes: NDArray[np.int32]  # [I, 2], width and height
    object_ends: NDArray[np.int64]  # [I + 1], where the objects of each image end; starts with 0
    labels: NDArray[np.int64]  # [A]
    boxes: NDArray[np.float64]  # [A, 4], x, y, width, height
    areas: NDArray[np.float64]  # [A]
    ignored: NDArray[np.bool_]  # [A]

    @staticmethod
    def build(images: Iterable[AnnotatedImage]) -> Records:
        """Lay ``images`` out in columns."""
        listed = list(images)
        names = [image.file.encode("utf-8", "surrogateescape") for image in listed]
        objects = [found for image in listed for found in image.objects]
        return Records(
            image_ids=np.array([image.image_id for image in listed], dtype=np.int64),
            names=b"".join(names),
            name_ends=_ends(len(name) for name in names),
            sizes=np.array([(image.width, image.height) for image in listed], dtype=np.int32).reshape(-1, 2),
            object_ends=_ends(len(image.objects) for image in listed),
            labels=np.array([found.label for found in objects], dtype=np.int64),
            boxes=np.array([found.box for found in objects], dtype=np.float64).reshape(-1, 4),
            areas=np.array([found.area for found in objects], dtype=np.float64),
            ignored=np.array([found.ignored for found in objects], dtype=np.bool_),
        )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.image_ids)

    def __getitem__(self, index: int) -> Record:
        """Return the image at ``index`` with its training objects."""
        index = range(len(self))[index]
        objects = self._objects_of(index)
        kept = ~self.ignored[objects]
        xywh = self.boxes[objects][kept]
        xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1).astype(np.float32)
        return Record(
            image_id=int(self.image_ids[index]),
            file=self.file(index),
            width=int(self.sizes[index, 0]),
            height=int(self.sizes[index, 1]),
            boxes=torch.from_numpy(xyxy),
            labels=torch.from_numpy(self.labels[objects][kept]),
        )

    def __iter__(self) -> Iterator[Record]:
        """Go through the images in order."""
        return (self[index] for index in range(len(self)))

    @property
    def num_objects(self) -> NDArray[np.int64]:
        """Number of training objects of each image, [I]."""
        kept = np.concatenate([[0], np.cumsum(~self.ignored)])
        return np.diff(kept[self.object_ends]).astype(np.int64)

    def annotated(self, index: int) -> AnnotatedImage:
        """Return the image at ``index`` with all of its objects, ignored ones too."""
        objects = self._objects_of(index)
        columns = (self.labels, self.boxes, self.areas, self.ignored)
        rows = zip(*(column[objects].tolist() for column in columns), strict=True)
        return AnnotatedImage(
            image_id=int(self.image_ids[index]),
            file=self.file(index),
            width=int(self.sizes[index, 0]),
            height=int(self.sizes[index, 1]),
            objects=[AnnotatedObject(label, tuple(box), area, ignored) for label, box, area, ignored in rows],
        )

    def file(self, index: int) -> str:
        """Return the file name of the image at ``index``, as the annotations have it."""
        return self.names[self.name_ends[index] : self.name_ends[index + 1]].decode("utf-8", "surrogateescape")

    def _objects_of(self, index: int) -> slice:
        return slice(int(self.object_ends[index]), int(self.object_ends[index + 1]))


@dataclass(frozen=True)
class FileIds:
    """What the annotations call images and categories that had to be numbered: by text, or beyond 64 bits."""

    images: Mapping[int, int | str] = field(default_factory=dict)  # our number -> id in the file; empty: the same
    categories: Mapping[int, int | str] = field(default_factory=dict)

    def restored(self, detections: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return detections in COCO's results format with the ids of the file."""
        if not self.images and not self.categories:
            return detections
        return [
            {
                **found,
                "image_id": self.images.get(found["image_id"], found["image_id"]),
                "category_id": self.categories.get(found["category_id"], found["category_id"]),
            }
            for found in detections
        ]


@dataclass(frozen=True)
class DetectionDataset:
    """One split: its classes, its images with their objects, and how to read an image."""

    classes: tuple[str, ...]
    category_ids: tuple[int, ...]  # of label 1, 2, ..., as the annotations number them
    records: Records
    read_image: Callable[[Record], Tensor]  # uint8 [3, H, W], RGB
    replaces_unreadable: bool = False  # in training; see data.on_bad_image
    file_ids: FileIds = FileIds()
    left_out: Mapping[str, int] = field(default_factory=dict)  # reason -> objects that do not count, see `counting`
    doubts: tuple[str, ...] = ()  # what about the annotations looks wrong though it can be read, in words
    parents: frozenset[int] = frozenset()  # labels without objects that are no classes but what others are kinds of

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.records)

    def load(self, index: int) -> tuple[Tensor, Target]:
        """Read image ``index``: uint8 [3, H, W], and its training objects with boxes [M, 4], labels [M], image_id.

        Boxes are in pixels of that image: where the reader gives a smaller one than the record says, they shrink too.
        """
        record = self.records[index]
        image = self.read_image(record)
        boxes = _scaled(record.boxes, (record.width, record.height), (image.shape[2], image.shape[1]))
        return image, Target(boxes=boxes, labels=record.labels, image_id=record.image_id)

    @property
    def num_counted(self) -> int:
        """Number of objects that are trained on and scored."""
        return int(self.records.num_objects.sum())

    @property
    def classes_without_objects(self) -> tuple[str, ...]:
        """The classes of which no object counts."""
        there = set(self.records.labels[~self.records.ignored].tolist())
        return tuple(name for label, name in enumerate(self.classes, start=1) if label not in there)

    def without_empty(self) -> DetectionDataset:
        """Return the dataset without the images that have no object to train on."""
        kept = np.flatnonzero(self.records.num_objects > 0)
        return self if len(kept) == len(self) else self.with_images(kept.tolist())

    def with_images(self, places: Iterable[int]) -> DetectionDataset:
        """Return the dataset with these of its images only; what it says of the others, in its counts, stays."""
        return replace(self, records=Records.build(self.records.annotated(place) for place in places))

    def without_class(self, label: int) -> DetectionDataset:
        """Return the dataset without a class that has no object."""
        labels = self.records.labels
        return replace(
            self,
            classes=tuple(name for place, name in enumerate(self.classes, 1) if place != label),
            category_ids=tuple(number for place, number in enumerate(self.category_ids, 1) if place != label),
            records=replace(self.records, labels=labels - (labels > label)),
            parents=frozenset(parent - (parent > label) for parent in self.parents if parent != label),
        )

    @property
    def ground_truth(self) -> dict[str, Any]:
        """All images and objects as a COCO dictionary for pycocotools, made anew at each access.

        Ignored objects have ``iscrowd`` 1, which is what COCOeval goes by. Annotations are numbered from 1 on:
        COCOeval takes a match with annotation 0 for no match.
        """
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index in range(len(self)):
            image = self.records.annotated(index)
            images.append({"id": image.image_id, "file_name": image.file, "width": image.width, "height": image.height})
            for found in image.objects:
                annotation = {
                    "id": len(annotations) + 1,
                    "image_id": image.image_id,
                    "category_id": self.category_ids[found.label - 1],
                    "bbox": list(found.box),
                    "area": found.area,
                    "iscrowd": int(found.ignored),
                    "ignore": int(found.ignored),
                }
                annotations.append(annotation)
        named = zip(self.category_ids, self.classes, strict=True)
        categories = [{"id": category_id, "name": name} for category_id, name in named]
        return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def _scaled(boxes: Tensor, size: tuple[int, int], new_size: tuple[int, int]) -> Tensor:
    """Scale ``boxes`` [M, 4] from an image of ``size`` (width, height) to one of another, as torchvision does."""
    if size == new_size:
        return boxes
    ratios = torch.tensor(new_size, dtype=torch.float32) / torch.tensor(size, dtype=torch.float32)
    return boxes * ratios.repeat(2)


def _ends(lengths: Iterable[int]) -> NDArray[np.int64]:
    return np.array(list(accumulate(lengths, initial=0)), dtype=np.int64)
