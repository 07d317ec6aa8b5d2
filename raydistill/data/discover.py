"""From a path on the command line to a data set: where its annotations and images are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from raydistill.config.sections import Downloads
from raydistill.data.alike import FilesBelow
from raydistill.data.build import AS_USUAL, warn_if_too_large
from raydistill.data.checks import listed, system_errors_in_words
from raydistill.data.counting import log_left_out, warn_nothing
from raydistill.data.dataset import DetectionDataset
from raydistill.data.formats.coco import dataset_from
from raydistill.data.formats.coco_file import CocoFile, read_coco_file
from raydistill.data.formats.voc import read_voc
from raydistill.data.images import PLAIN, Decoding
from raydistill.errors import UserError
from raydistill.storage.remote_path import Place, place_at


def open_dataset(
    path: str,
    split: str | None = None,
    images: str | None = None,
    classes: Sequence[str] | None = None,
    difficult: Literal["ignore", "include"] = "ignore",
    coordinates: Literal["one_based", "zero_based"] = "one_based",
    downloads: Downloads = AS_USUAL,
    how: Decoding = PLAIN,
) -> DetectionDataset:
    """Open the data that a user names on the command line, for evaluation.

    Args:
        path: a COCO annotations file, a folder with ``annotations/*.json``, or a PASCAL VOC folder; here or on an
            object store, like ``images``.
        split: which of the folder's splits; None is ``val``.
        images: the folder of a COCO file's images; None looks for the first image near the file.
        classes: of a PASCAL VOC folder, in the order of their labels; None takes those found in the split, by name.
            A split that lacks a class would shift the labels: give the classes that the model was trained on.
        difficult: of a PASCAL VOC folder, as ``data.difficult``.
        coordinates: of a PASCAL VOC folder, as ``data.coordinates``.
        downloads: where what lies on an object store is kept on this machine.
        how: image files are read.

    Raises:
        UserError: naming what is wrong with the path or the data.
    """
    with system_errors_in_words():
        folder = None if images is None else place_at(images, downloads.cache)
        dataset = _open(place_at(path, downloads.cache), split, folder, classes, difficult, coordinates, how)
    warn_if_too_large([dataset], downloads)
    if dataset.num_counted:
        log_left_out(path, dataset.num_counted, dataset.left_out)
    else:
        warn_nothing(path, dataset.left_out)
    return dataset


def _open(
    place: Place,
    split: str | None,
    images: Place | None,
    classes: Sequence[str] | None,
    difficult: Literal["ignore", "include"],
    coordinates: Literal["one_based", "zero_based"],
    how: Decoding,
) -> DetectionDataset:
    if place.is_dir() and any((place / name).is_dir() for name in ("ImageSets", "JPEGImages")):
        if images is not None:
            raise UserError(f"--images: must be left out for a PASCAL VOC folder ({place}), got {images}; remove it")
        return read_voc(place, split or "val", classes, difficult, coordinates, how=how)
    if place.is_dir():
        annotations = _find_annotations(place, split or "val")
    elif split is not None:
        raise UserError(f"--split: must be left out for a single annotations file ({place}), got {split}; remove it")
    else:
        annotations = place
    file = read_coco_file(annotations)
    return dataset_from(file, images if images is not None else _find_images(file), how=how)


def _find_annotations(root: Place, split: str) -> Place:
    """Find the annotations of ``split`` below ``root``: ``val.json`` before ``instances_val2017.json``."""
    files = _sorted(root / "annotations", "*.json")
    if not files:
        raise UserError(
            f"{root}: must be a COCO annotations file, a folder with annotations/*.json or a PASCAL VOC folder "
            "(ImageSets, JPEGImages, Annotations), got none of these; correct the path"
        )
    fitting = [
        [file for file in files if file.stem == split],
        [file for file in files if re.fullmatch(rf"instances_{re.escape(split)}\d*", file.stem)],
        [file for file in files if split in _words(file.stem)],
    ]
    found = next((group for group in fitting if group), [])
    if len(found) != 1:
        raise UserError(
            f"{root / 'annotations'}: one file must belong to the split '{split}', got "
            f"{listed([file.name for file in found])}; name the split or the file; "
            f"files there: {listed([file.name for file in files])}"
        )
    return found[0]


def _find_images(file: CocoFile) -> Place:
    """Find the folder near the file that holds its first and its last image."""
    annotations = file.source
    names = [image["file_name"] for image in file.images if isinstance(image.get("file_name"), str)]
    if not names:
        file.raise_problems()
        raise UserError(f"{annotations}: images must list at least one image with its file_name, got none; add them")
    near = [annotations.parent, annotations.parent.parent]
    folders = [*near, *(found for base in near for found in _sorted(base, "*/"))]
    folders += [found for base in near for found in _sorted(base, "images/*/")]
    # Splits often use the same file names: a folder that is named like the file goes first.
    words = _words(annotations.stem)
    folders.sort(key=lambda folder: not (folder.name in annotations.stem.split("_") or words & _words(folder.name)))
    for folder in folders:
        if all((folder / name).is_file() for name in (names[0], names[-1])):
            return folder
    for folder in folders:  # written by another system, perhaps
        below = FilesBelow(folder)
        if all(below.alike(name) for name in (names[0], names[-1])):
            return folder
    raise UserError(
        f"{annotations}: its images must lie near it, got no {names[0]} in {near[1]} or its folders; "
        "name the folder of the images with --images"
    )


def _sorted(folder: Place, pattern: str) -> list[Place]:
    """Return what fits ``pattern`` below ``folder``, by name."""
    found: list[Place] = [*folder.glob(pattern)]
    return sorted(found, key=str)


def _words(name: str) -> set[str]:
    """Words of a file name without digits, so that val, instances_val2017 and val2017 have one in common."""
    return set(re.findall(r"[a-z]+", name.lower())) - {"instances", "annotations", "images", "coco"}
