"""A PASCAL VOC folder to a dataset: ``ImageSets/Main`` lists, one XML per image in ``Annotations``, ``JPEGImages``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Literal

from raydistill.config.data import OnBadImage
from raydistill.data.checks import Box, clip_box, listed, raise_problems, warn_dropped, warn_skipped
from raydistill.data.counting import DIFFICULT, DROPPED
from raydistill.data.dataset import AnnotatedImage, AnnotatedObject, DetectionDataset, Records
from raydistill.data.fetching import read_each
from raydistill.data.formats.voc_layout import find_files, list_of, read_list
from raydistill.data.formats.voc_xml import VocContent, parse_annotation
from raydistill.data.image_folder import Header, ImageFolder, read_headers
from raydistill.data.images import PLAIN, Decoding
from raydistill.errors import UserError
from raydistill.storage.remote_path import Place


def read_voc(
    root: Place,
    split: str,
    classes: Sequence[str] | None = None,
    difficult: Literal["ignore", "include"] = "ignore",
    coordinates: Literal["one_based", "zero_based"] = "one_based",
    on_bad_image: OnBadImage = "error",
    how: Decoding = PLAIN,
) -> DetectionDataset:
    """Read the images that ``ImageSets/Main/<split>.txt`` lists; image ids are the places in that list, from 1 on.

    Args:
        root: the folder that holds ``JPEGImages``, ``Annotations`` and ``ImageSets/Main``.
        split: name of the list.
        classes: names in the order of their labels; None takes those found in the split, by name.
        difficult: ``ignore`` leaves objects marked difficult out of training and makes them neither hit nor miss in
            evaluation; ``include`` treats them like any other.
        coordinates: ``one_based`` where pixel 1 is the first and xmax, ymax belong to the box; ``zero_based`` where
            the corners are taken as they stand.
        on_bad_image: ``skip`` leaves out images that are missing or whose headers cannot be read, with one warning;
            the classes and the other images' ids are the same without them.
        how: image files are read.

    Raises:
        UserError: naming everything that is wrong with the folder, the list, the XML files or the images' headers.
    """
    problems: list[str] = []
    source = list_of(root, split)
    pairs = find_files(root, read_list(root, split), source, on_bad_image, problems)
    parsed = []
    for content, faults in read_each(parse_annotation, [annotation for annotation, _ in pairs], "annotations"):
        parsed.append(content)
        problems += faults
    names = sorted({found.name for objects in parsed for found in objects.objects}) if classes is None else classes
    labels = {name: label for label, name in enumerate(names, 1)}
    folder = root / "JPEGImages"
    headers = read_headers([folder / file for _, file in pairs], how)

    dropped: list[str] = []
    skipped: dict[str, str] = {}
    images: list[AnnotatedImage] = []
    for image_id, ((annotation, file), content, header) in enumerate(zip(pairs, parsed, headers, strict=True), 1):
        if header.problem and on_bad_image == "skip":
            skipped[file] = header.problem
            continue
        fault = header.problem or (header.mismatch(*content.size) if content.size else "")
        problems += [f"{annotation}: {fault}"] if fault else []
        problems += _unknown_names(annotation, content, labels)
        objects = []
        for place, found in enumerate(content.objects, 1):
            box = _pixel_box(found.corners, coordinates, header)
            if box is None:
                corners = ", ".join(f"{corner:g}" for corner in found.corners)
                dropped.append(f"{PurePosixPath(file).with_suffix('.xml')} object {place} [{corners}]")
                continue
            ignored = found.difficult and difficult == "ignore"
            objects.append(AnnotatedObject(labels.get(found.name, 0), box, box[2] * box[3], ignored))
        images.append(AnnotatedImage(image_id, file, header.width, header.height, objects))
    raise_problems(problems, f"{root}: the split '{split}' must be complete and sound")
    if not labels:
        raise UserError(f"{root}: the split '{split}' must have objects to take the classes from; set data.classes")
    warn_skipped(source, list(skipped), list(skipped.values()), len(pairs))
    warn_dropped(source, dropped)
    records = Records.build(images)
    return DetectionDataset(
        classes=tuple(labels),
        category_ids=tuple(labels.values()),
        records=records,
        read_image=ImageFolder(folder, how),
        left_out={DIFFICULT: int(records.ignored.sum()), DROPPED: len(dropped)},
    )


def _unknown_names(annotation: Place, content: VocContent, labels: dict[str, int]) -> list[str]:
    """Say which objects have a name that is no class."""
    return [
        f"{annotation}, object {place}: name must be one of {listed(list(labels))}, got '{found.name}'; "
        "correct it or data.classes"
        for place, found in enumerate(content.objects, 1)
        if found.name not in labels
    ]


def _pixel_box(corners: Box, coordinates: str, header: Header) -> Box | None:
    """Turn corners as the file has them into x, y, width, height inside the image; None where no box is left."""
    xmin, ymin, xmax, ymax = corners
    if xmax <= xmin or ymax <= ymin:
        return None
    first = 1 if coordinates == "one_based" else 0
    x, y = xmin - first, ymin - first
    return clip_box((x, y, xmax - x, ymax - y), header.width, header.height)
