"""The splits of data in files: those that are named, and a validation split that is set aside where none is."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from raydistill.config.data import FilesData
from raydistill.data.copies import groups_of, set_aside
from raydistill.data.counting import DROPPED, POINTS
from raydistill.data.dataset import DetectionDataset
from raydistill.data.formats.base import format_of
from raydistill.errors import UserError, counted
from raydistill.storage.remote_path import Place

VAL_FRACTION = 0.2
"""Of the images, where no validation split and no other share is named."""
_log = logging.getLogger(__name__)


class Splits(NamedTuple):
    """The splits of a run; all have the same classes."""

    train: DetectionDataset
    val: DetectionDataset
    test: DetectionDataset | None
    """Scored once, with the weights that are best on ``val``; None: there is none."""


def read_files(data: FilesData, root: Place) -> Splits:
    """Read the splits that ``data`` names, whose root is ``root``.

    Raises:
        UserError: naming what is wrong with them.
    """
    read = format_of(data).read
    train = read(data, root, "train", None)
    named: Any = {name: read(data, root, name, train) for name in ("val", "test") if data.named(name) is not None}
    splits = _without_parents([train, *named.values()], root)
    train, rest = splits[0], dict(zip(named, splits[1:], strict=True))
    if "val" not in rest:
        train, rest["val"] = _set_aside(data, train)
    if data.skip_images_without_objects:
        train = train.without_empty()
    return Splits(replace(train, replaces_unreadable=data.on_bad_image == "skip"), rest["val"], rest.get("test"))


def _without_parents(splits: Sequence[DetectionDataset], root: Place) -> list[DetectionDataset]:
    """Return splits without a category that no object of any is of, and that is only what others are kinds of."""
    found = list(splits)
    for label in sorted(frozenset.intersection(*(split.parents for split in splits)), reverse=True):
        if len(found[0].classes) > 1:
            _log.info(
                "data: %s: category 0, %s, is no class: it has no object, and others are kinds of it",
                root,
                found[0].classes[label - 1],
            )
            found = [split.without_class(label) for split in found]
    return found


def _set_aside(data: FilesData, source: DetectionDataset) -> tuple[DetectionDataset, DetectionDataset]:
    """Return what is left to train on, and the share of the images that is set aside to validate on."""
    fraction = VAL_FRACTION if data.val_fraction is None else data.val_fraction
    names = [source.records.file(index) for index in range(len(source))]
    groups = groups_of(source, data.group_by)
    chosen = set_aside(names, groups, source.records.num_objects.tolist(), fraction, data.split_seed)
    if not any(chosen):
        raise UserError(
            "data.val_fraction: must leave images with objects to train on and to validate on, got "
            f"{counted(len(names), 'image')} of which those with objects belong together; add images, or name a "
            "validation split"
        )
    val = source.with_images(index for index, taken in enumerate(chosen) if taken)
    train = source.with_images(index for index, taken in enumerate(chosen) if not taken)
    together = len(names) - len(set(groups))
    _log.info(
        "data: no validation split is named: %s of %s images are set aside (val_fraction=%g, split_seed=%d)%s",
        f"{len(val):,}",
        f"{len(names):,}",
        fraction,
        data.split_seed,
        f"; {counted(together, 'image')} stayed with others that are equal or of one picture or video"
        if together
        else "",
    )
    return _counted_anew(train, {key: source.left_out.get(key, 0) for key in (DROPPED, POINTS)}), _counted_anew(val, {})


def _counted_anew(part: DetectionDataset, dropped: dict[str, int]) -> DetectionDataset:
    """Return a part of a dataset with what is left out of it; boxes that were dropped count for the first part."""
    ignored = int(part.records.ignored.sum())
    reasons = {reason: ignored for reason in part.left_out if reason not in (DROPPED, POINTS)}
    return replace(part, left_out={**reasons, **dropped}, doubts=part.doubts if dropped else ())
