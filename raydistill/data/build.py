"""From settings, or from a path on the command line, to datasets."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from raydistill.config import CocoData, ShapesData, VocData
from raydistill.config.sections import Data, Downloads
from raydistill.data.checks import ImageFolder, listed
from raydistill.data.coco import dataset_from, load_annotations, read_coco
from raydistill.data.dataset import DetectionDataset
from raydistill.data.fetching import size_text
from raydistill.data.shapes import make_shapes
from raydistill.data.voc import read_voc
from raydistill.errors import UserError
from raydistill.remote_path import Place, RemotePath, place_at

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
    return _train_and_val(data, place_at(data.root, downloads.cache))


def build_splits(data: Data, downloads: Downloads = AS_USUAL) -> Splits:
    """Build all splits that ``data`` describes; arguments and errors as in ``build_datasets``."""
    if isinstance(data, ShapesData):
        return Splits(*build_datasets(data), make_shapes(data, "test") if data.num_test else None)
    root = place_at(data.root, downloads.cache)
    train, val = _train_and_val(data, root)
    splits = Splits(train, val, _test_split(data, root, train))
    _warn_if_too_large([split for split in splits if split is not None], downloads)
    return splits


def open_dataset(
    path: str,
    split: str | None = None,
    images: str | None = None,
    classes: Sequence[str] | None = None,
    difficult: Literal["ignore", "include"] = "ignore",
    coordinates: Literal["one_based", "zero_based"] = "one_based",
    downloads: Downloads = AS_USUAL,
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

    Raises:
        UserError: naming what is wrong with the path or the data.
    """
    with _system_errors_in_words():
        folder = None if images is None else place_at(images, downloads.cache)
        dataset = _open(place_at(path, downloads.cache), split, folder, classes, difficult, coordinates)
    _warn_if_too_large([dataset], downloads)
    return dataset


@contextlib.contextmanager
def _system_errors_in_words() -> Iterator[None]:
    """Say in a sentence what the system says of a path that it does not take: too long, or not to be read."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{str(error.filename or 'data')[:200]}: must be readable, got: {error.strerror or error}; correct the "
            "path or its permissions"
        ) from error


def _open(
    place: Place,
    split: str | None,
    images: Place | None,
    classes: Sequence[str] | None,
    difficult: Literal["ignore", "include"],
    coordinates: Literal["one_based", "zero_based"],
) -> DetectionDataset:
    if place.is_dir() and any((place / name).is_dir() for name in ("ImageSets", "JPEGImages")):
        if images is not None:
            raise UserError(f"--images: must be left out for a PASCAL VOC folder ({place}), got {images}; remove it")
        return read_voc(place, split or "val", classes, difficult, coordinates)
    if place.is_dir():
        annotations = _find_annotations(place, split or "val")
    elif split is not None:
        raise UserError(f"--split: must be left out for a single annotations file ({place}), got {split}; remove it")
    else:
        annotations = place
    raw = load_annotations(annotations)
    folder = images if images is not None else _find_images(raw, annotations)
    return dataset_from(raw, folder, annotations)


def _train_and_val(data: CocoData | VocData, root: Place) -> tuple[DetectionDataset, DetectionDataset]:
    with _system_errors_in_words():
        train, val = _coco_splits(data, root) if isinstance(data, CocoData) else _voc_splits(data, root)
    if data.skip_images_without_objects:
        train = train.without_empty()
    return replace(train, replaces_unreadable=data.on_bad_image == "skip"), val


def _test_split(data: CocoData | VocData, root: Place, train: DetectionDataset) -> DetectionDataset | None:
    with _system_errors_in_words():
        if isinstance(data, VocData):
            return None if data.test_split is None else _voc_split(data, root, data.test_split, train.classes)
        if data.test_images is None or data.test_annotations is None:
            return None
        return _coco_split(data, root, "test", data.test_images, data.test_annotations, train)


def _coco_splits(data: CocoData, root: Place) -> tuple[DetectionDataset, DetectionDataset]:
    train = read_coco(root / data.train_images, root / data.train_annotations, data.on_bad_image)
    return train, _coco_split(data, root, "validation", data.val_images, data.val_annotations, train)


def _coco_split(
    data: CocoData, root: Place, name: str, images: str, annotations: str, train: DetectionDataset
) -> DetectionDataset:
    """Read a split to score on, whose categories must be those of the training split."""
    split = read_coco(root / images, root / annotations, data.on_bad_image)
    only_train, only_here = _categories(train) - _categories(split), _categories(split) - _categories(train)
    if only_train or only_here:
        raise UserError(
            f"{root / annotations}: the categories must be those of {root / data.train_annotations}, got "
            f"only in training: {_named(only_train)}; only in {name}: {_named(only_here)}; "
            "give both files the same categories with the same ids"
        )
    return split


def _voc_splits(data: VocData, root: Place) -> tuple[DetectionDataset, DetectionDataset]:
    train = _voc_split(data, root, data.train_split, data.classes)
    return train, _voc_split(data, root, data.val_split, train.classes)


def _voc_split(data: VocData, root: Place, split: str, classes: Sequence[str] | None) -> DetectionDataset:
    return read_voc(root, split, classes, data.difficult, data.coordinates, data.on_bad_image)


def _warn_if_too_large(splits: Sequence[DetectionDataset], downloads: Downloads) -> None:
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


def _categories(dataset: DetectionDataset) -> set[tuple[int, str]]:
    return set(zip(dataset.category_ids, dataset.classes, strict=True))


def _named(categories: set[tuple[int, str]]) -> str:
    return listed([f"{category_id} {name}" for category_id, name in sorted(categories)])


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


def _find_images(raw: dict[str, Any], annotations: Place) -> Place:
    """Find the folder near ``annotations`` that holds its first and its last image."""
    entries = [entry for entry in raw["images"] if isinstance(entry, dict) and isinstance(entry.get("file_name"), str)]
    if not entries:
        raise UserError(f"{annotations}: images must list at least one image with its file_name, got none; add them")
    names = [entries[0]["file_name"], entries[-1]["file_name"]]
    near = [annotations.parent, annotations.parent.parent]
    folders = [*near, *(found for base in near for found in _sorted(base, "*/"))]
    folders += [found for base in near for found in _sorted(base, "images/*/")]
    # Splits often use the same file names: a folder that is named like the file goes first.
    words = _words(annotations.stem)
    folders.sort(key=lambda folder: not (folder.name in annotations.stem.split("_") or words & _words(folder.name)))
    for folder in folders:
        if all((folder / name).is_file() for name in names):
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
