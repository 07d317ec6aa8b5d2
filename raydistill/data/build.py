"""From settings to datasets."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal, cast

from raydistill.config import FilesData, OwnData, ShapesData
from raydistill.config.sections import Data, Downloads
from raydistill.data.checks import system_errors_in_words
from raydistill.data.counting import SPLIT_NAMES, log_left_out, refuse_nothing, sources_of
from raydistill.data.dataset import DetectionDataset
from raydistill.data.formats.shapes import make_shapes
from raydistill.data.image_folder import ImageFolder
from raydistill.data.own import read_own
from raydistill.data.pixel_checks import check_pixels
from raydistill.data.recognise import recognised
from raydistill.data.splits import Splits, read_files
from raydistill.errors import UserError
from raydistill.storage.regular import size_text
from raydistill.storage.remote_path import RemotePath, place_at

__all__ = ["AS_USUAL", "Splits", "build_datasets", "build_splits", "warn_if_too_large"]

AS_USUAL = Downloads()
"""Where an object store's files are kept unless a setting says otherwise."""
_log = logging.getLogger(__name__)


def build_datasets(data: Data, downloads: Downloads = AS_USUAL) -> tuple[DetectionDataset, DetectionDataset]:
    """Build the training and the validation split that ``data`` describes; both have the same classes.

    Args:
        data: where images and annotations lie.
        downloads: where what lies on an object store is kept on this machine.

    Raises:
        UserError: naming what is wrong with the data.
    """
    train, val, _ = _read(data, downloads)
    return train, val


def build_splits(data: Data, downloads: Downloads = AS_USUAL) -> Splits:
    """Build all splits that ``data`` describes; arguments and errors as in ``build_datasets``."""
    if isinstance(data, FilesData):
        data = cast(Data, recognised(data, downloads))
    splits = _read(data, downloads)
    warn_if_too_large([split for split in splits if split is not None], downloads)
    _count_objects(data, splits)
    for name, split in zip(SPLIT_NAMES, splits, strict=True):
        if split is not None:
            check_pixels(split, name)
    return splits


def _read(data: Data, downloads: Downloads) -> Splits:
    if isinstance(data, ShapesData):
        test = make_shapes(data, "test") if data.num_test else None
        return Splits(make_shapes(data, "train"), make_shapes(data, "val"), test)
    if isinstance(data, OwnData):
        train = read_own(data, "train")
        kept = train.without_empty() if data.skip_images_without_objects else train
        return Splits(kept, _own_split(data, "val", train), _own_split(data, "test", train) if data.test else None)
    with system_errors_in_words():
        found = recognised(data, downloads)
        return read_files(found, place_at(found.root, downloads.cache))


def _count_objects(data: Data, splits: Splits) -> None:
    """Say what is left out of each split; refuse one of which nothing counts."""
    for name, (setting, source), split in zip(SPLIT_NAMES, sources_of(data), splits, strict=True):
        if split is None:
            continue
        for doubt in split.doubts:
            _log.warning("data: %s: %s (%s)", name, doubt, source)
        if not split.num_counted:
            refuse_nothing(setting, source, "train on" if name == "training" else "score", split.left_out)
        log_left_out(f"data: {name}", split.num_counted, split.left_out)


def _own_split(data: OwnData, name: Literal["val", "test"], train: DetectionDataset) -> DetectionDataset:
    """Read a split of the user's own to score on, whose classes must be those of the training split."""
    split = read_own(data, name)
    if split.classes != train.classes:
        raise UserError(
            f"data.dataset: every split must have the same classes in the same order, got {', '.join(train.classes)} "
            f"in train and {', '.join(split.classes)} in {name}"
        )
    return split


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
