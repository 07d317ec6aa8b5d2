"""From settings to datasets."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np

from raydistill.config import CocoData, OwnData, ShapesData, VocData
from raydistill.config.data import Pixels
from raydistill.config.sections import Data, Downloads
from raydistill.data.alike import spelling
from raydistill.data.checks import Categories, listed, refuse_other_categories, system_errors_in_words
from raydistill.data.counting import SPLIT_NAMES, log_left_out, refuse_nothing, sources_of
from raydistill.data.dataset import DetectionDataset
from raydistill.data.formats.coco import read_coco
from raydistill.data.formats.coco_repairs import alike_id
from raydistill.data.formats.shapes import make_shapes
from raydistill.data.formats.voc import read_voc
from raydistill.data.image_folder import ImageFolder
from raydistill.data.images import Decoding
from raydistill.data.notes import warn_near_names
from raydistill.data.own import read_own
from raydistill.data.pixel_checks import check_pixels
from raydistill.errors import UserError
from raydistill.storage.regular import size_text
from raydistill.storage.remote_path import Place, RemotePath, place_at

AS_USUAL = Downloads()
"""Where an object store's files are kept unless a setting says otherwise."""
_log = logging.getLogger(__name__)


class Splits(NamedTuple):
    """The splits of a run; all have the same classes."""

    train: DetectionDataset
    val: DetectionDataset
    test: DetectionDataset | None
    """Scored once, with the weights that are best on ``val``; None: there is none."""


def build_datasets(data: Data, downloads: Downloads = AS_USUAL) -> tuple[DetectionDataset, DetectionDataset]:
    """Build the training and the validation split that ``data`` describes; both have the same classes.

    Args:
        data: where images and annotations lie.
        downloads: where what lies on an object store is kept on this machine.

    Raises:
        UserError: naming what is wrong with the data.
    """
    if isinstance(data, ShapesData):
        return make_shapes(data, "train"), make_shapes(data, "val")
    if isinstance(data, OwnData):
        train = read_own(data, "train")
        return train.without_empty() if data.skip_images_without_objects else train, _own_split(data, "val", train)
    return _train_and_val(data, place_at(data.root, downloads.cache))


def build_splits(data: Data, downloads: Downloads = AS_USUAL) -> Splits:
    """Build all splits that ``data`` describes; arguments and errors as in ``build_datasets``."""
    if isinstance(data, ShapesData):
        splits = Splits(*build_datasets(data), make_shapes(data, "test") if data.num_test else None)
    elif isinstance(data, OwnData):
        train, val = build_datasets(data)
        splits = Splits(train, val, _own_split(data, "test", train) if data.test else None)
    else:
        root = place_at(data.root, downloads.cache)
        train, val = _train_and_val(data, root)
        splits = Splits(train, val, _test_split(data, root, train))
        warn_if_too_large([split for split in splits if split is not None], downloads)
    _count_objects(data, splits)
    for name, split in zip(SPLIT_NAMES, splits, strict=True):
        if split is not None:
            check_pixels(split, name)
    return splits


def _count_objects(data: Data, splits: Splits) -> None:
    """Say what is left out of each split and which classes have no object; refuse one of which nothing counts."""
    for name, (setting, source), split in zip(SPLIT_NAMES, sources_of(data), splits, strict=True):
        if split is None:
            continue
        for doubt in split.doubts:
            _log.warning("data: %s: %s (%s)", name, doubt, source)
        if not split.num_counted:
            refuse_nothing(setting, source, "train on" if name == "training" else "score", split.left_out)
        log_left_out(f"data: {name}", split.num_counted, split.left_out)
        if split.classes_without_objects:
            _log.info("data: %s: no object of %s", name, listed(split.classes_without_objects))


def _own_split(data: OwnData, name: Literal["val", "test"], train: DetectionDataset) -> DetectionDataset:
    """Read a split of the user's own to score on, whose classes must be those of the training split."""
    split = read_own(data, name)
    if split.classes != train.classes:
        raise UserError(
            f"data.dataset: every split must have the same classes in the same order, got {', '.join(train.classes)} "
            f"in train and {', '.join(split.classes)} in {name}"
        )
    return split


def _train_and_val(data: CocoData | VocData, root: Place) -> tuple[DetectionDataset, DetectionDataset]:
    with system_errors_in_words():
        train, val = _coco_splits(data, root) if isinstance(data, CocoData) else _voc_splits(data, root)
    if data.skip_images_without_objects:
        train = train.without_empty()
    return replace(train, replaces_unreadable=data.on_bad_image == "skip"), val


def _test_split(data: CocoData | VocData, root: Place, train: DetectionDataset) -> DetectionDataset | None:
    with system_errors_in_words():
        if isinstance(data, VocData):
            return None if data.test_split is None else _voc_split(data, root, data.test_split, train.classes)
        if data.test_images is None or data.test_annotations is None:
            return None
        return _coco_split(data, root, "test", data.test_images, data.test_annotations, train)


def _coco_splits(data: CocoData, root: Place) -> tuple[DetectionDataset, DetectionDataset]:
    train = read_coco(root / data.train_images, root / data.train_annotations, data.on_bad_image, _decoding(data))
    return train, _coco_split(data, root, "validation", data.val_images, data.val_annotations, train)


def _coco_split(
    data: CocoData, root: Place, name: str, images: str, annotations: str, train: DetectionDataset
) -> DetectionDataset:
    """Read a split to score on, whose categories must be those of the training split."""
    split = read_coco(root / images, root / annotations, data.on_bad_image, _decoding(data))
    here, training = root / annotations, root / data.train_annotations
    split = _named_as(split, train, here)
    refuse_other_categories(_categories(split), here, name, _categories(train), training)
    return split


def _named_as(split: DetectionDataset, train: DetectionDataset, source: Place) -> DetectionDataset:
    """Return a split with the categories of the training split, where they differ in nothing but how they are written.

    Ids may be text for numbers, names may have other forms of Unicode or other blanks.
    """
    ours, theirs = _categories_alike(split), _categories_alike(train)
    if _categories(split) == _categories(train) or sorted(ours, key=str) != sorted(theirs, key=str):
        return split
    labels = {category: label for label, category in enumerate(theirs, 1)}
    if len(labels) < len(theirs):  # two that look alike
        return split
    order = np.array([0, *(labels[category] for category in ours)])  # their label of each of ours
    warn_near_names(source, [f"category {category} of training" for category in train.classes])
    return replace(
        split,
        classes=train.classes,
        category_ids=train.category_ids,
        records=replace(split.records, labels=order[split.records.labels]),
        file_ids=replace(split.file_ids, categories=train.file_ids.categories),
    )


def _categories_alike(dataset: DetectionDataset) -> list[tuple[int | str, str]]:
    """Return what categories have in common that are only written differently, in the order of the labels."""
    names = dataset.file_ids.categories
    numbered = zip(dataset.category_ids, dataset.classes, strict=True)
    return [(alike_id(names.get(number, number)), spelling(name)) for number, name in numbered]


def _voc_splits(data: VocData, root: Place) -> tuple[DetectionDataset, DetectionDataset]:
    train = _voc_split(data, root, data.train_split, data.classes)
    return train, _voc_split(data, root, data.val_split, train.classes)


def _voc_split(data: VocData, root: Place, split: str, classes: Sequence[str] | None) -> DetectionDataset:
    return read_voc(root, split, classes, data.difficult, data.coordinates, data.on_bad_image, _decoding(data))


def _decoding(data: CocoData | VocData) -> Decoding:
    return Decoding.of(Pixels.of(data))


def warn_if_too_large(splits: Sequence[DetectionDataset], downloads: Downloads) -> None:
    """Warn where the images come from an object store and are more than a machine keeps."""
    num_bytes = sum(
        (split.read_image.folder / split.records.file(index)).stat().st_size
        for split in splits
        if isinstance(split.read_image, ImageFolder) and isinstance(split.read_image.folder, RemotePath)
        for index in range(len(split.records))
    )
    if num_bytes > downloads.cache.max_bytes:
        _log.warning(
            "data: the images have %s and downloads.max_gb=%g keeps less: they are fetched again and again; raise it, "
            "or name a folder on a larger disk in downloads.folder",
            size_text(num_bytes),
            downloads.max_gb,
        )


def _categories(dataset: DetectionDataset) -> Categories:
    names = dataset.file_ids.categories
    return {
        (names.get(number, number), name) for number, name in zip(dataset.category_ids, dataset.classes, strict=True)
    }
