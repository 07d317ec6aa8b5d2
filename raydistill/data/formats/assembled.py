"""Images and objects that a reader has found, laid out as a dataset: what formats with a file per image share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from raydistill.config.data import FilesData
from raydistill.data.checks import Box, clip_box, raise_problems, warn_dropped, warn_skipped
from raydistill.data.counting import DROPPED
from raydistill.data.dataset import AnnotatedImage, AnnotatedObject, DetectionDataset, Records
from raydistill.data.image_folder import Header, ImageFolder, read_headers
from raydistill.data.images import decoding
from raydistill.data.notes import warn_negatives
from raydistill.storage.remote_path import Place


class FoundObject(NamedTuple):
    """One object, not yet made to fit into its image."""

    label: int  # 1 to K
    box: Box  # x, y, width, height in pixels
    area: float | None  # of the outline, in square pixels; None: that of the box
    name: str  # for messages


@dataclass
class Source:
    """A split that is put together: its images in their order, below ``root``, and what is wrong with it."""

    place: Place  # in messages
    root: Place
    images: Sequence[str]
    negatives: Sequence[str]  # images without a file of annotations
    problems: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)  # reason -> objects, beside boxes that are none

    def headers(self, data: FilesData) -> list[Header]:
        """Return what the files of the images say of themselves, in their order."""
        return read_headers([self.root / image for image in self.images], decoding(data))

    def dataset(
        self,
        data: FilesData,
        headers: Sequence[Header],
        classes: Sequence[str],
        objects_of: Callable[[int, Header], Sequence[FoundObject]],
    ) -> DetectionDataset:
        """Return the dataset.

        Args:
            data: the settings.
            headers: of the images.
            classes: in the order of their labels.
            objects_of: returns the objects of an image, by its place; it may add to ``problems``.

        Raises:
            UserError: naming everything that is wrong.
        """
        skipped: dict[str, str] = {}
        dropped: list[str] = []
        images: list[AnnotatedImage] = []
        for place, (file, header) in enumerate(zip(self.images, headers, strict=True)):
            if header.problem and data.on_bad_image == "skip":
                skipped[file] = header.problem
                continue
            self.problems += [header.problem] if header.problem else []
            objects = [] if header.problem else _inside(objects_of(place, header), header, dropped)
            images.append(AnnotatedImage(place + 1, file, header.width, header.height, objects))
        self.problems += self._negatives_in_excess()
        raise_problems(self.problems, f"{self.place}: the images and their annotations must be complete and sound")
        warn_skipped(self.place, list(skipped), list(skipped.values()), len(self.images))
        warn_dropped(self.place, dropped)
        warn_negatives(self.place, self.negatives, len(self.images))
        return DetectionDataset(
            classes=tuple(classes),
            category_ids=tuple(range(1, len(classes) + 1)),
            records=Records.build(images),
            read_image=ImageFolder(self.root, decoding(data)),
            left_out={**self.left_out, DROPPED: len(dropped)},
        )

    def _negatives_in_excess(self) -> list[str]:
        total, without = len(self.images), len(self.negatives)
        if 2 * without <= total:
            return []
        return [
            f"{self.place}: at least half of the images must have a file of annotations, which may be empty, got "
            f"{total - without} of {total} with one, and none for {self.negatives[0]}; put them where the others are"
        ]


def _inside(objects: Sequence[FoundObject], header: Header, dropped: list[str]) -> list[AnnotatedObject]:
    """Return the objects of which something lies in the image; the others are named in ``dropped``."""
    kept = []
    for found in objects:
        box = clip_box(found.box, header.width, header.height)
        if box is None:
            dropped.append(found.name)
        else:
            area = box[2] * box[3]
            kept.append(AnnotatedObject(found.label, box, min(found.area or area, area), False))
    return kept
