"""COCO JSON to a dataset, with all that is wrong in the file and with its images told at once."""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from raydistill.config.data import OnBadImage
from raydistill.data.alike import FilesBelow, file_meant, files_near
from raydistill.data.checks import check_images_folder, clip_box, warn_sizes_taken, warn_skipped
from raydistill.data.counting import CROWDS, DROPPED
from raydistill.data.dataset import AnnotatedImage, AnnotatedObject, DetectionDataset, FileIds, Records
from raydistill.data.formats.coco_doubts import doubts_of
from raydistill.data.formats.coco_file import (
    CocoAnnotation,
    CocoFile,
    CocoImage,
    Id,
    described,
    in_order,
    read_coco_file,
)
from raydistill.data.formats.json_text import shown, without_collections
from raydistill.data.image_folder import Header, ImageFolder, read_headers
from raydistill.data.images import PLAIN, Decoding
from raydistill.data.notes import warn_near_names
from raydistill.storage.remote_path import Place

_MOST_NEAR = 20  # images that are not there whose names are compared with those that are, letter by letter


def read_coco(
    images: Place, annotations: Place, on_bad_image: OnBadImage = "error", how: Decoding = PLAIN
) -> DetectionDataset:
    """Read the COCO file ``annotations``, whose images lie in the folder ``images``.

    Labels are 1 to K in the order of the category ids. Crowds are left out of training and are neither hit nor
    miss in evaluation; ``ignore`` has no effect, as in pycocotools. Boxes are clipped to their image; those of which
    nothing is left are dropped with one warning. Segmentations are not used. With ``on_bad_image`` ``skip``, images
    that are missing or whose headers cannot be read are left out with their objects, with one warning.

    Raises:
        UserError: naming everything that is wrong with the annotations or with the images' headers.
    """
    return dataset_from(read_coco_file(annotations), images, on_bad_image, how)


def dataset_from(
    file: CocoFile, images: Place, on_bad_image: OnBadImage = "error", how: Decoding = PLAIN
) -> DetectionDataset:
    """Make the dataset of a COCO file that was read; arguments and errors as in `read_coco`."""
    check_images_folder(images, file.source)
    num_images = len(file.images)
    named = _with_file_names(file)
    headers = read_headers([images / image["file_name"] for image in named], how)
    taken = _take_near_files(FilesBelow(images), named, headers, how)
    skipped: dict[str, str] = {}  # file name -> why it cannot be read
    if on_bad_image == "skip":
        skipped = {i["file_name"]: header.problem for i, header in zip(named, headers, strict=True) if header.problem}
    kept = [(i, header) for i, header in zip(named, headers, strict=True) if i["file_name"] not in skipped]
    numbers = _numbers(image["id"] for image, _ in kept)
    annotated = {image["id"]: _image(file, image, numbers[image["id"]], header) for image, header in kept}
    category_numbers = _numbers(category["id"] for category in file.categories)
    labels = {category_id: label for label, category_id in enumerate(in_order(category_numbers), 1)}
    with without_collections():
        for annotation in file.annotations:
            if annotation["image_id"] in annotated:
                _add_object(file, annotated[annotation["image_id"]], annotation, labels)
    file.raise_problems()
    warn_skipped(file.source, list(skipped), list(skipped.values()), num_images)
    warn_sizes_taken(file.source, [image["file_name"] for image, _ in kept if not _states_size(image)], num_images)
    file.warn()
    warn_near_names(file.source, taken)
    names = {category["id"]: category["name"] for category in file.categories}
    used = {annotation["category_id"] for annotation in file.annotations}
    records = Records.build(annotated.values())
    return DetectionDataset(
        classes=tuple(names[category_id] for category_id in labels),
        category_ids=tuple(category_numbers[category_id] for category_id in labels),
        records=records,
        read_image=ImageFolder(images, how),
        file_ids=FileIds(_other_names(numbers), _other_names(category_numbers)),
        left_out={CROWDS: int(records.ignored.sum()), DROPPED: len(file.dropped)},
        doubts=doubts_of(file.annotations, {key: (image.width, image.height) for key, image in annotated.items()}),
        parents=frozenset(labels[number] for number in _parents(file) - used),
    )


def _parents(file: CocoFile) -> set[Id]:
    """Return the categories of number 0 that others name as what they are kinds of: Roboflow writes such a one."""
    above = {category.get("supercategory") for category in file.categories if category["id"] != 0}
    return {category["id"] for category in file.categories if category["id"] == 0 and category["name"] in above}


def _take_near_files(below: FilesBelow, named: list[CocoImage], headers: list[Header], how: Decoding) -> list[str]:
    """Give images that are not there the file that their name surely means, and its header.

    Returns:
        Which file for which name; where none is sure, the header's problem says which may be meant.
    """
    missing = [place for place, header in enumerate(headers) if header.missing]
    first = set(missing[:_MOST_NEAR])
    known = {posixpath.normpath(image["file_name"]) for image in named} if missing else set()
    found: dict[int, str] = {}
    for place in missing:
        sure = file_meant(below, named[place]["file_name"], known)
        if sure:
            found[place] = sure
        elif place in first:
            hint = files_near(below, named[place]["file_name"])
            headers[place] = replace(headers[place], problem=headers[place].problem + hint)
    counts = Counter(found.values())
    found = {place: file for place, file in found.items() if counts[file] == 1}
    taken = [f"{file} for {named[place]['file_name']!a}" for place, file in found.items()]
    for (place, file), header in zip(
        found.items(), read_headers([below.folder / file for file in found.values()], how), strict=True
    ):
        named[place]["file_name"], headers[place] = file, header
    return taken


def _with_file_names(file: CocoFile) -> list[CocoImage]:
    """Return the images whose file can be looked for; what keeps the others from it goes to the file's problems."""
    found: list[CocoImage] = []
    names: set[str] = set()
    for image in file.images:
        name: Any = image.get("file_name")
        fault = _file_name_fault(name) if "file_name" in image else "file_name must be given, got none; add it"
        if not fault and posixpath.normpath(name) in names:
            fault = f"file_name must be unique, got {shown(name)} again; list the image once"
        if fault:
            file.problems.append(f"image {shown(image['id'])}: {fault}")
        else:
            found.append(image)
            names.add(posixpath.normpath(name))
    return found


def _file_name_fault(name: object) -> str:
    try:
        if isinstance(name, str) and name and "\0" not in name and os.fsencode(name):
            return ""
    except UnicodeEncodeError:  # half of a character
        pass
    return f"file_name must be the name of a file, got {shown(name)}; correct it"


def _states_size(image: CocoImage) -> bool:
    return image.get("width") is not None and image.get("height") is not None


def _image(file: CocoFile, image: CocoImage, number: int, header: Header) -> AnnotatedImage:
    """Return an image without objects, of the size that the file states, else of its header's."""
    width, height = image.get("width") or header.width, image.get("height") or header.height
    fault = header.problem or header.mismatch(width, height)
    if fault:
        file.problems.append(f"image {shown(image['id'])} ({image['file_name']}): {fault}")
    return AnnotatedImage(number, image["file_name"], width, height, [])


def _add_object(file: CocoFile, image: AnnotatedImage, annotation: CocoAnnotation, labels: dict[Id, int]) -> None:
    x, y, width, height = annotation["bbox"]
    box = clip_box((x, y, width, height), image.width, image.height)
    if box is None:
        file.dropped.append(described(annotation, image.file))
        return
    area = annotation.get("area")
    image.objects.append(
        AnnotatedObject(
            label=labels.get(annotation["category_id"], 0),  # 0: of a faulty category
            box=box,
            area=box[2] * box[3] if area is None else area,
            ignored=bool(annotation.get("iscrowd")),
        )
    )


def _numbers(ids: Iterable[Id]) -> dict[Id, int]:
    """Return a 64-bit number for each id: itself where all are such, else its place in their order, from 1 on."""
    listed = list(ids)
    if all(isinstance(value, int) and abs(value) < 2**63 for value in listed):
        return {value: int(value) for value in listed}
    return {value: number for number, value in enumerate(in_order(listed), 1)}


def _other_names(numbers: dict[Id, int]) -> dict[int, Id]:
    """Return what the file calls each number; nothing where it has the numbers themselves."""
    return {number: name for name, number in numbers.items()} if any(k != v for k, v in numbers.items()) else {}
