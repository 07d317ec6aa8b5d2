"""A PASCAL VOC folder to a dataset: ``ImageSets/Main`` lists, one XML per image in ``Annotations``, ``JPEGImages``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Literal

import numpy as np

from raydistill.config.data import OnBadImage
from raydistill.data.alike import near, same_spelling, spelling
from raydistill.data.box_kinds import doubt_of
from raydistill.data.checks import Box, clip_box, listed, raise_problems, warn_dropped, warn_skipped
from raydistill.data.counting import DIFFICULT, DROPPED
from raydistill.data.dataset import AnnotatedImage, AnnotatedObject, DetectionDataset, Records
from raydistill.data.fetching import read_each
from raydistill.data.formats.voc_folders import find_files
from raydistill.data.formats.voc_layout import VocSplit, negatives_in_excess
from raydistill.data.formats.voc_xml import VocContent, parse_annotation
from raydistill.data.image_folder import Header, ImageFolder, read_headers
from raydistill.data.images import PLAIN, Decoding
from raydistill.data.notes import warn_classes_alike, warn_near_names, warn_negatives
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
    """Read the images that ``ImageSets/Main/<split>.txt`` lists, or all of a folder; image ids are their places there.

    Args:
        root: the folder that holds ``JPEGImages``, ``Annotations`` and ``ImageSets/Main``, or folders of both.
        split: name of the list, or of a folder below ``root`` (``.``: that itself).
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
    files = find_files(root, split, on_bad_image)
    problems = files.problems
    parsed, negatives = _read_annotations(files)
    problems += negatives_in_excess(files, negatives)
    parsed, labels = _with_classes(parsed, classes, files.source)
    folder = files.folder
    headers = read_headers([folder / image.file for image in files.images], how)

    dropped: list[str] = []
    skipped: dict[str, str] = {}
    images: list[AnnotatedImage] = []
    for image_id, (image, content, header) in enumerate(zip(files.images, parsed, headers, strict=True), 1):
        annotation, file = image.annotation, image.file
        if header.problem and on_bad_image == "skip":
            skipped[file] = header.problem
            continue
        fault = header.problem or (header.mismatch(*content.size) if content.size else "")
        problems += [f"{annotation or files.source}: {fault}"] if fault else []
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
    warn_skipped(files.source, list(skipped), list(skipped.values()), len(files.images))
    warn_dropped(files.source, dropped)
    warn_near_names(files.source, files.taken)
    warn_negatives(files.source, negatives, len(files.images))
    records = Records.build(images)
    return DetectionDataset(
        classes=tuple(labels),
        category_ids=tuple(labels.values()),
        records=records,
        read_image=ImageFolder(folder, how),
        left_out={DIFFICULT: int(records.ignored.sum()), DROPPED: len(dropped)},
        doubts=_doubts(zip(parsed, headers, strict=True), coordinates),
    )


def _read_annotations(files: VocSplit) -> tuple[list[VocContent], list[str]]:
    """Return what the annotations say, and the files of the images that have none or an empty one.

    What is wrong with them goes to the problems of ``files``.
    """
    paths = [image.annotation for image in files.images if image.annotation is not None]
    contents = iter(read_each(parse_annotation, paths, "annotations"))
    parsed, negatives = [], []
    for image in files.images:
        content, faults = (None, []) if image.annotation is None else next(contents)
        files.problems += faults
        parsed.append(content or VocContent())
        if content is None:
            negatives.append(image.file)
    return parsed, negatives


def _with_classes(
    parsed: list[VocContent], classes: Sequence[str] | None, source: Place
) -> tuple[list[VocContent], dict[str, int]]:
    """Return the contents with names as the classes have them, and the labels of the classes."""
    there = sorted({found.name for content in parsed for found in content.objects})
    if classes is None:
        by_spelling: dict[str, str] = {}
        for name in there:
            by_spelling.setdefault(spelling(name), name)
        known = list(by_spelling.values())
        cases: dict[str, str] = {}
        for name in known:
            cases.setdefault(name.casefold(), name)
        twins = [f"{cases[name.casefold()]} and {name}" for name in known if cases[name.casefold()] != name]
        warn_classes_alike(source, twins)
    else:
        known = list(classes)
    same = same_spelling(there, known)
    warn_near_names(source, [f"class {name!a} read as {same[name]!a}" for name in same])
    labels = {name: label for label, name in enumerate(known, 1)}
    return [content.renamed(same) for content in parsed] if same else parsed, labels


def _doubts(annotated: Iterable[tuple[VocContent, Header]], coordinates: str) -> tuple[str, ...]:
    """Say what about the corners looks wrong."""
    known = [pair for pair in annotated if not pair[1].problem]
    rows = [(*found.corners, head.width, head.height) for content, head in known for found in content.objects]
    columns = np.array(rows, dtype=np.float64).reshape(-1, 6)
    doubt = doubt_of(columns[:, :4], columns[:, 4:], "x1, y1, x2, y2")
    if doubt:
        return (doubt,)
    at_zero = int(((columns[:, :2] >= 0) & (columns[:, :2] < 1)).any(1).sum())
    if coordinates == "one_based" and at_zero:
        return (
            f"{at_zero} of {len(columns)} objects have an xmin or ymin of 0, which the first pixel never has where it "
            "is called 1: coordinates=zero_based takes corners as they stand",
        )
    return ()


def _unknown_names(annotation: Place | None, content: VocContent, labels: dict[str, int]) -> list[str]:
    """Say which objects have a name that is no class."""

    def hint(name: str) -> str:
        alike = {other.casefold(): other for other in labels}
        found = alike.get(near(name.casefold(), alike), "")
        return f"; did you mean {found!a}?" if found else ""

    return [
        f"{annotation}, object {place}: name must be one of {listed(list(labels))}, got '{found.name}'; "
        f"correct it or data.classes{hint(found.name)}"
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
