"""Data of the user's own: what is known of every image, and how one is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
from torch import Tensor

from raydistill.config.data import OwnData
from raydistill.config.own import find
from raydistill.data.box_kinds import doubt_of
from raydistill.data.checks import clip_box, raise_problems, warn_dropped
from raydistill.data.counting import DROPPED, IGNORED
from raydistill.data.dataset import AnnotatedImage, AnnotatedObject, DetectionDataset, Record, Records
from raydistill.data.given import pixels_of
from raydistill.data.image_folder import ImageFolder, read_headers
from raydistill.data.images import Decoding
from raydistill.errors import UserError


class _OfImage(TypedDict):
    file: str


class ImageOfDataset(_OfImage, total=False):
    """What is known of an image."""

    width: int  # in pixels; without them those of the file
    height: int
    boxes: Any  # [M, 4], x1, y1, x2, y2 in pixels
    labels: Sequence[Any]  # [M], 1 to K or names of classes
    ignored: Sequence[Any]  # [M], left out of training, neither hit nor miss in evaluation; default: none is


@dataclass(frozen=True)
class Dataset:
    """A split of data of one's own.

    >>> images = [{"file": "a.jpg", "width": 64, "height": 48, "boxes": [[1, 2, 30, 40]], "labels": ["cat"]}]
    >>> Dataset(classes=["cat", "dog"], images=images).classes
    ['cat', 'dog']
    """

    classes: Sequence[str]
    """Names of the K classes in the order of their labels 1 to K."""
    images: Sequence[ImageOfDataset]
    """Mappings with the keys of ``ImageOfDataset``, and others for ``read_image``."""
    read_image: Callable[[Any], Any] | None = None
    """Takes one of ``images``; returns a Pillow image, an array [H, W, 3] of uint8 or a tensor [3, H, W] of uint8 or of
    floats in [0, 1]. Without it ``file`` is an image file."""

    @staticmethod
    def of(dataset: Any, classes: Sequence[str]) -> Dataset:
        """Return a torch dataset whose items are ``(image, target)`` as torchvision's detectors take them.

        Every image is read once, for its size. Targets have ``boxes`` [M, 4] as x1, y1, x2, y2 and ``labels`` [M], 1 to
        K; ``iscrowd`` [M] where there is one.
        """
        images: list[ImageOfDataset] = []
        for index in range(len(dataset)):
            image, target = dataset[index]
            height, width = pixels_of(image, f"image {index}").shape[1:]
            found: ImageOfDataset = {"file": str(index), "width": width, "height": height}
            found |= {"boxes": target["boxes"], "labels": target["labels"], "ignored": target.get("iscrowd", ())}
            images.append(found)
        return Dataset(classes, images, _Items(dataset))


@dataclass(frozen=True)
class _Items:
    dataset: Any

    def __call__(self, image: ImageOfDataset) -> Any:
        return self.dataset[int(image["file"])][0]


@dataclass(frozen=True)
class _Reader:
    """Reads images as a ``Dataset`` does."""

    images: Mapping[str, ImageOfDataset]
    read: Callable[[Any], Any]

    def __call__(self, record: Record) -> Tensor:
        """Return the image of ``record``: uint8 [3, H, W], RGB."""
        image = pixels_of(self.read(self.images[record.file]), record.file)
        if image.shape[1:] != (record.height, record.width):
            raise UserError(
                f"{record.file}: must be of the size that data.dataset states, {record.width} x {record.height}, got "
                f"{image.shape[2]} x {image.shape[1]}"
            )
        return image


def read_own(data: OwnData, split: Literal["train", "val", "test"]) -> DetectionDataset:
    """Call the function that ``data`` names for a split, and lay out what it returns.

    Raises:
        UserError: naming everything that is wrong with it.
    """
    given = find(data.dataset, "data.dataset")(split, data.settings)
    if not isinstance(given, Dataset):
        raise UserError(
            f"data.dataset: must return a raydistill.Dataset, got a {type(given).__name__} of {data.dataset}; "
            "Dataset.of takes a torch dataset"
        )
    where = f"data.dataset, {split}"
    classes = tuple(given.classes)
    if not classes or len(set(classes)) < len(classes) or not all(isinstance(name, str) for name in classes):
        raise UserError(f"{where}: classes must be different texts, at least one, got {list(classes)}")
    labels = {name: label for label, name in enumerate(classes, 1)}
    problems: list[str] = []
    dropped: list[str] = []
    images = []
    for number, (image, size) in enumerate(zip(given.images, _sizes(given, where), strict=True), 1):
        objects = list(_objects(image, size, labels, problems, dropped))
        images.append(AnnotatedImage(number, str(image["file"]), *size, objects))
    by_file = {str(image["file"]): image for image in given.images}
    if len(by_file) < len(images):
        problems.append(f"file must name each image once, got {len(images)} images and {len(by_file)} names")
    raise_problems(problems, f"{where}: the images must be complete and sound")
    corners = [box for image in given.images for box in np.asarray(image.get("boxes", ())).reshape(-1, 4)]
    sizes = [(own.width, own.height) for own, i in zip(images, given.images, strict=True) for _ in i.get("boxes", ())]
    warn_dropped(Path(where), dropped)
    records = Records.build(images)
    return DetectionDataset(
        classes=classes,
        category_ids=tuple(labels.values()),
        records=records,
        read_image=ImageFolder(Path(), Decoding(pixel_range=data.pixel_range, alpha=data.alpha))
        if given.read_image is None
        else _Reader(by_file, given.read_image),
        left_out={IGNORED: int(records.ignored.sum()), DROPPED: len(dropped)},
        doubts=tuple(filter(None, [doubt_of(corners, sizes, "x1, y1, x2, y2")])),
    )


def _sizes(given: Dataset, where: str) -> list[tuple[int, int]]:
    """Return width and height of each image, from the files' headers where they are not stated."""
    nameless = [number for number, image in enumerate(given.images) if not str(image.get("file", ""))]
    if nameless:
        raise UserError(f"{where}: each image must have a file, or another text of its own, got none in {nameless[0]}")
    silent = [image for image in given.images if not (image.get("width") and image.get("height"))]
    if silent and given.read_image is not None:
        raise UserError(
            f"{where}: {silent[0]['file']} must have width and height, since data.dataset reads the images itself"
        )
    headers = {str(i["file"]): h for i, h in zip(silent, read_headers([Path(i["file"]) for i in silent]), strict=True)}
    raise_problems([header.problem for header in headers.values() if header.problem], f"{where}: images")
    sizes = []
    for image in given.images:
        header = headers.get(str(image["file"]))
        stated = (int(image.get("width") or 0), int(image.get("height") or 0))
        sizes.append(stated if header is None else (header.width, header.height))
    return sizes


def _objects(
    image: ImageOfDataset, size: tuple[int, int], labels: Mapping[str, int], problems: list[str], dropped: list[str]
) -> Iterator[AnnotatedObject]:
    """Yield the objects of an image; what is wrong with them goes to ``problems``, what is no box to ``dropped``."""
    try:
        boxes = np.asarray(image.get("boxes", ()), dtype=np.float64)
    except (ValueError, TypeError):  # rows of different lengths, or no numbers
        boxes = np.empty(1)
    if boxes.size and (boxes.ndim != 2 or boxes.shape[1] != 4):
        problems.append(f"{image['file']}: boxes must be rows of four numbers, x1, y1, x2, y2")
        return
    boxes = boxes.reshape(-1, 4)
    names = [name if isinstance(name, str) else int(name) for name in image.get("labels", ())]
    ignored = list(image.get("ignored", ())) or [False] * len(boxes)
    if not len(boxes) == len(names) == len(ignored):
        problems.append(
            f"{image['file']}: must have as many labels as boxes, got {len(names)} labels, {len(boxes)} boxes"
        )
        return
    for place, (corners, name, is_ignored) in enumerate(zip(boxes.tolist(), names, ignored, strict=True), 1):
        label = labels.get(name, 0) if isinstance(name, str) else name
        if not 1 <= label <= len(labels):
            problems.append(f"{image['file']} object {place}: label must be 1 to {len(labels)} or a class, got {name}")
        elif not np.isfinite(corners).all():
            problems.append(f"{image['file']} object {place}: the box must have finite corners, got {corners}")
        else:
            x1, y1, x2, y2 = corners
            box = clip_box((x1, y1, x2 - x1, y2 - y1), *size)
            if box is None:
                dropped.append(f"{image['file']} object {place}")
            else:
                yield AnnotatedObject(label, box, box[2] * box[3], bool(is_ignored))
