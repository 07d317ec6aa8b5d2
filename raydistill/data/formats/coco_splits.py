"""The splits of COCO data: to score on, those with the categories of training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from raydistill.config.data import CocoData
from raydistill.data.alike import spelling
from raydistill.data.checks import Categories, refuse_other_categories
from raydistill.data.dataset import DetectionDataset
from raydistill.data.formats.base import SplitName
from raydistill.data.formats.coco import read_coco
from raydistill.data.formats.coco_repairs import alike_id
from raydistill.data.images import decoding
from raydistill.data.notes import warn_near_names
from raydistill.storage.remote_path import Place

_NAMES = {"train": "training", "val": "validation", "test": "test"}


def read_split(data: CocoData, root: Place, split: SplitName, train: DetectionDataset | None) -> DetectionDataset:
    """Read a split that ``data`` names; its categories must be those of the training split, where that is given.

    Raises:
        UserError: naming everything that is wrong with it.
    """
    images, annotations = getattr(data, f"{split}_images"), root / getattr(data, f"{split}_annotations")
    found = read_coco(root / images, annotations, data.on_bad_image, decoding(data))
    if train is None:
        return found
    found = _named_as(found, train, annotations)
    training = root / data.train_annotations
    refuse_other_categories(_categories(found), annotations, _NAMES[split], _categories(train), training)
    return found


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


def _categories(dataset: DetectionDataset) -> Categories:
    names = dataset.file_ids.categories
    return {
        (names.get(number, number), name) for number, name in zip(dataset.category_ids, dataset.classes, strict=True)
    }
