"""From a path on the command line to a data set: where its annotations and images are."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Literal

from raydistill.config.data import AutoData
from raydistill.config.sections import Downloads
from raydistill.data.build import AS_USUAL, warn_if_too_large
from raydistill.data.checks import listed, system_errors_in_words
from raydistill.data.counting import log_left_out, warn_nothing
from raydistill.data.dataset import DetectionDataset
from raydistill.data.formats.base import SPLITS, format_of, split_named
from raydistill.data.formats.coco import dataset_from
from raydistill.data.formats.coco_file import CocoFile, read_coco_file
from raydistill.data.formats.coco_layout import find_images, in_order, words_of
from raydistill.data.formats.voc import read_voc
from raydistill.data.images import PLAIN, Decoding
from raydistill.data.recognise import recognise_in
from raydistill.data.splits import read_files
from raydistill.errors import UserError
from raydistill.storage.remote_path import Place, place_at

_log = logging.getLogger(__name__)


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
        path: a COCO annotations file, or a folder of any form that ``recognise`` knows; here or on an object store,
            like ``images``.
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
    if place.is_dir() and (place / "ImageSets").is_dir():
        if images is not None:
            raise UserError(f"--images: must be left out for a PASCAL VOC folder ({place}), got {images}; remove it")
        return read_voc(place, split or "val", classes, difficult, coordinates, how=how)
    if place.is_dir() and not _are_of_splits([*(place / "annotations").glob("*.json")]):
        if images is not None:
            raise UserError(f"--images: must be left out for a folder ({place}), got {images}; remove it")
        given = {"difficult": difficult, "coordinates": coordinates}
        return _recognised_split(place, split or "val", classes, given, how)
    if place.is_dir():
        annotations = _find_annotations(place, split or "val")
    elif split is not None:
        raise UserError(f"--split: must be left out for a single annotations file ({place}), got {split}; remove it")
    else:
        annotations = place
    file = read_coco_file(annotations)
    return _without_parents(dataset_from(file, images or _images_of(file), how=how), classes)


def _are_of_splits(files: Sequence[Place]) -> bool:
    """Return whether COCO's files are of splits: several, or one that is called like one."""
    return len(files) > 1 or any(split_named(file.stem) for file in files)


def _recognised_split(
    place: Place, split: str, classes: Sequence[str] | None, given: Mapping[str, str], how: Decoding
) -> DetectionDataset:
    """Read a split of data that are recognised; without a validation split, the share that training would set aside."""
    decoded = {"max_megapixels": how.most_pixels / 1e6, "pixel_range": how.pixel_range, "alpha": how.alpha}
    auto = AutoData.model_validate({"format": "auto", "root": str(place), **decoded})
    try:
        found = recognise_in(auto, place)
    except UserError as error:
        raise UserError(f"{place}: {str(error).removeprefix('data.root: ')}") from error
    fields = type(found.data).model_fields
    update: dict[str, object] = {key: value for key, value in given.items() if key in fields}
    if classes is not None and "classes" in fields and getattr(found.data, "classes", None) is None:
        update["classes"] = tuple(classes)
    data, root = found.data.model_copy(update=update), found.place
    _log.info("%s; stands for %s", found, found.overrides)
    names = [name for name in SPLITS if data.named(name) is not None or name == "val"]
    if split not in names:
        raise UserError(f"--split: must be one of {', '.join(names)} for {place}, got {split}; name another one")
    if data.named(split) is None or split == "train":
        splits = read_files(data, root)
        return splits.val if split == "val" else splits.train
    read = format_of(data).read
    train = None if "classes" in fields else read(data, root, "train", None)
    return _without_parents(read(data, root, SPLITS[SPLITS.index(split)], train), classes)


def _without_parents(dataset: DetectionDataset, classes: Sequence[str] | None) -> DetectionDataset:
    """Return data without the categories that are no classes, unless a net that is to be scored knows them."""
    for label in sorted(dataset.parents, reverse=True):
        if classes is not None and dataset.classes[label - 1] not in classes:
            dataset = dataset.without_class(label)
    return dataset


def _find_annotations(root: Place, split: str) -> Place:
    """Find the annotations of ``split`` below ``root``: ``val.json`` before ``instances_val2017.json``."""
    files = in_order(root / "annotations", "*.json")
    fitting = [
        [file for file in files if file.stem == split],
        [file for file in files if re.fullmatch(rf"instances_{re.escape(split)}\d*", file.stem)],
        [file for file in files if split in words_of(file.stem)],
    ]
    found = next((group for group in fitting if group), [])
    if len(found) != 1:
        raise UserError(
            f"{root / 'annotations'}: one file must belong to the split '{split}', got "
            f"{listed([file.name for file in found])}; name the split or the file; "
            f"files there: {listed([file.name for file in files])}"
        )
    return found[0]


def _images_of(file: CocoFile) -> Place:
    """Return the folder near the file that holds its first and its last image."""
    annotations = file.source
    names = [image["file_name"] for image in file.images if isinstance(image.get("file_name"), str)]
    if not names:
        file.raise_problems()
        raise UserError(f"{annotations}: images must list at least one image with its file_name, got none; add them")
    found = find_images(annotations, names)
    if found is None:
        raise UserError(
            f"{annotations}: its images must lie near it, got no {names[0]} in {annotations.parent.parent} or its "
            "folders; name the folder of the images with --images"
        )
    return found
