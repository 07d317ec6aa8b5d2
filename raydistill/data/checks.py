"""What the readers of annotations have in common: boxes made to fit, headers compared, problems told all at once."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from raydistill.config.sections import Input
from raydistill.errors import UserError, counted, one_error, printable
from raydistill.storage.remote_path import Place

if TYPE_CHECKING:
    from raydistill.data.dataset import DetectionDataset

Box = tuple[float, float, float, float]
THINNEST = 2.0**-20
"""What a box must be wider than, as a share of its image: in float32 mirroring, zooming and resizing leave it one."""
_log = logging.getLogger(__name__)
_MOST_PROBLEMS = 20
_MOST_DROPPED = 10


def clip_box(box: Box, width: int, height: int) -> Box | None:
    """Clip ``box`` (x, y, width, height in pixels) to the image; None where no box is left.

    A box that lies inside comes back as it is, to the last bit.
    """
    x1, y1, x2, y2 = box[0], box[1], box[0] + box[2], box[1] + box[3]
    if x1 < 0 or y1 < 0 or x2 > width or y2 > height:
        x1, x2 = (min(max(x, 0.0), float(width)) for x in (x1, x2))
        y1, y2 = (min(max(y, 0.0), float(height)) for y in (y1, y2))
        box = (x1, y1, x2 - x1, y2 - y1)
    # Judged in the precision that training sees, with room for what later transforms round off.
    wide = np.float32(x2) - np.float32(x1) > THINNEST * width
    has_extent = wide and np.float32(y2) - np.float32(y1) > THINNEST * height
    return box if has_extent and min(box[2:]) > 0 else None


def warn_dropped(source: Place, dropped: Sequence[str]) -> None:
    """Log one warning that counts and names the boxes dropped while reading ``source``."""
    if not dropped:
        return
    more = len(dropped) - _MOST_DROPPED
    names = "; ".join(dropped[:_MOST_DROPPED]) + (f"; and {more} more" if more > 0 else "")
    boxes = "1 box" if len(dropped) == 1 else f"{len(dropped)} boxes"
    _log.warning("%s: dropped %s without width or height inside the image: %s", source, boxes, names)


def warn_shared_ids(source: Place, annotations: Sequence[str]) -> None:
    """Log one warning that counts and names the annotations of ``source`` whose id is missing or not theirs alone."""
    if annotations:
        _log.warning(
            "%s: %s without an id of its own, each read as an object: annotation %s",
            source,
            counted(len(annotations), "annotation"),
            listed(annotations),
        )


def warn_sizes_taken(source: Place, images: Sequence[str], total: int) -> None:
    """Log one warning that counts and names the images of ``source``, ``total`` in all, whose size it does not say."""
    if images:
        _log.warning(
            "%s: %d of %d images without width or height, taken from the image files: %s",
            source,
            len(images),
            total,
            _names(images),
        )


def warn_skipped(source: Place, skipped: Sequence[str], problems: Sequence[str], total: int) -> None:
    """Log one warning that counts and names the images left out as unreadable while reading ``source``.

    Args:
        source: the list of the images.
        skipped: file names of the images left out.
        problems: what is wrong with each of them.
        total: how many images there are.

    Raises:
        UserError: where no image is left.
    """
    if not skipped:
        return
    if len(skipped) == total:
        raise UserError(
            f"{source}: must list an image that can be read (data.on_bad_image=skip), got none of {total}; the first: "
            f"{problems[0]}"
        )
    _log.warning(
        "%s: left out %d of %d images that cannot be read (data.on_bad_image=skip): %s",
        source,
        len(skipped),
        total,
        _names(skipped),
    )


@contextlib.contextmanager
def system_errors_in_words() -> Iterator[None]:
    """Say in a sentence what the system says of a path that it does not take: too long, or not to be read."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{str(error.filename or 'data')[:200]}: must be readable, got: {error.strerror or error}; correct the "
            "path or its permissions"
        ) from error


def check_images_folder(images: Place, annotations: Place) -> None:
    """Make sure that there is a folder of the images of a file of annotations.

    Raises:
        UserError: where there is none.
    """
    if not images.is_dir():
        raise UserError(f"{images}: the folder of the images of {annotations} must exist; correct the path")


Categories = set[tuple[int | str, str]]
"""Ids, as the file has them, and names."""


def refuse_other_categories(here: Categories, source: Place, name: str, train: Categories, training: Place) -> None:
    """Raise where a split to score on has other categories than the training split.

    Args:
        here: of that split.
        source: its annotations.
        name: what it is called.
        train: of the training split.
        training: its annotations.

    Raises:
        UserError: naming the differences.
    """
    if here != train:
        raise UserError(
            f"{source}: the categories must be those of {training}, got "
            f"only in training: {_named(train - here)}; only in {name}: {_named(here - train)}; "
            "give both files the same categories with the same ids"
        )


def check_sides(dataset: DetectionDataset, size: Input) -> None:
    """Make sure that no image is so long and narrow that resizing it leaves nothing of its shorter side.

    Raises:
        UserError: naming the images whose shorter side would vanish at ``size``.
    """
    sizes = dataset.records.sizes.astype(np.float32)
    if not len(sizes):
        return
    short, long = sizes.min(1), sizes.max(1)
    scale = np.minimum(np.float32(size.min_size) / short, np.float32(size.max_size) / long)  # as torchvision computes
    vanished = np.flatnonzero(short.astype(np.float64) * scale < 1)
    if len(vanished):
        names = [f"{dataset.records.file(i)} ({sizes[i, 0]:.0f} x {sizes[i, 1]:.0f})" for i in vanished.tolist()]
        raise UserError(
            f"input.max_size: must leave at least a pixel of the shorter side of every image, got {size.max_size} and "
            f"{listed(names)}; crop or remove these images, or raise input.max_size"
        )


def raise_problems(problems: Sequence[str], headline: str) -> None:
    """Raise one `UserError` that tells the first ``problems`` and counts the others; nothing where there are none."""
    if not problems:
        return
    more = len(problems) - _MOST_PROBLEMS
    if more <= 0:
        raise one_error(list(problems), headline)
    shown = one_error(list(problems[:_MOST_PROBLEMS]), f"{headline}; the first of {len(problems)}")
    raise UserError(f"{shown}\n  ... and {more} more")


def _named(categories: Categories) -> str:
    in_order = sorted(categories, key=lambda category: (isinstance(category[0], str), category))
    return listed([f"{category_id} {name}" for category_id, name in in_order])


def _names(files: Sequence[str]) -> str:
    return listed([name.encode("utf-8", "backslashreplace").decode() for name in files])


def listed(names: Sequence[str]) -> str:
    """Join ``names`` for a message, 20 at most; ``none`` where there are none."""
    more = len(names) - _MOST_PROBLEMS
    return (", ".join(map(printable, names[:_MOST_PROBLEMS])) or "none") + (f" and {more} more" if more > 0 else "")
