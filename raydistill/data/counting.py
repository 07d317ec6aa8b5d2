"""What of a split counts, and what is left out: counted in one line, and an error where nothing counts."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from raydistill.config.sections import CocoData, Data, OwnData, ShapesData
from raydistill.errors import UserError, counted

CROWDS = "as crowds (iscrowd 1)"
DIFFICULT = "as difficult"
IGNORED = "as ignored"
POINTS = "as points or lines"
DROPPED = "without width or height inside the image"
"""Why an object is left out, in the words of the messages."""

_REMEDIES = {
    CROWDS: "objects that are annotated one by one must have iscrowd 0, as masks too (CVAT writes 1 for masks)",
    DIFFICULT: "difficult=include takes them in",
    IGNORED: "data.dataset says so of them",
    DROPPED: "correct the boxes: pixels of their image, as [x, y, width, height] in COCO's files, as corners in VOC's",
}
_MANY = 0.25  # of all objects; more of them left out are worth a warning
_log = logging.getLogger(__name__)


SPLIT_NAMES = ("training", "validation", "test")
"""What the splits of a run are called, in their order."""


def sources_of(data: Data) -> list[tuple[str, str]]:
    """Return for each of the three splits the setting that names it, and where it lies."""
    keys = ("train", "val", "test")
    if isinstance(data, ShapesData):
        return [(f"data.num_{key}", "the generated images") for key in keys]
    if isinstance(data, OwnData):
        return [("data.dataset", f"{data.dataset} ({key})") for key in keys]
    root = data.root.rstrip("/")
    named = [(data.setting(key), data.named(key) or data.named("train")) for key in keys]
    on_its_own = isinstance(data, CocoData)
    return [(f"data.{setting}", f"{root}/{name}" if on_its_own else f"{root} ({name})") for setting, name in named]


def left_out_in_words(left_out: Mapping[str, int]) -> str:
    """Return how many objects were left out for which reason; empty where there are none.

    >>> left_out_in_words({CROWDS: 18, DIFFICULT: 0, DROPPED: 1})
    '18 as crowds (iscrowd 1), 1 without width or height inside the image'
    """
    return ", ".join(f"{number} {reason}" for reason, number in left_out.items() if number)


def remedy_for(left_out: Mapping[str, int]) -> str:
    """Return what to do about the most frequent reason; empty where nothing was left out."""
    reason = max(left_out, key=left_out.__getitem__, default="")
    return _REMEDIES.get(reason, "") if any(left_out.values()) else ""


def log_left_out(name: str, num_counted: int, left_out: Mapping[str, int]) -> None:
    """Log in one line how many objects of a split count and how many are left out; a warning where these are many.

    Args:
        name: what the split is called.
        num_counted: the objects that count.
        left_out: reason -> how many do not; nothing is said where there are none.
    """
    words = left_out_in_words(left_out)
    if not words:
        return
    total = num_counted + sum(left_out.values())
    line = f"{name}: {num_counted} of {counted(total, 'object')} count; left out are {words}"
    named_before = {reason: number for reason, number in left_out.items() if reason != DROPPED}
    if sum(named_before.values()) > _MANY * total:
        _log.warning("%s; %s", line, remedy_for(named_before))
    else:
        _log.info("%s", line)


def warn_nothing(name: str, left_out: Mapping[str, int]) -> None:
    """Log that no object of data to score on counts."""
    words = left_out_in_words(left_out)
    remedy = f"; {remedy_for(left_out)}" if words else ""
    _log.warning("%s: no object counts%s: the scores show -%s", name, f" ({words})" if words else "", remedy)


def crowded_in_words(num_objects: Sequence[int], limit: int, of: str = "images") -> str:
    """Return how many images hold more objects than detections of an image count; empty where none does.

    >>> crowded_in_words([3, 240, 101], 100)
    '2 of 3 images hold more than the 100 objects that can be found in one (240 at most)'
    """
    crowded = sum(number > limit for number in num_objects)
    if not crowded:
        return ""
    most = f"({max(num_objects)} at most)"
    return f"{crowded} of {len(num_objects)} {of} hold more than the {limit} objects that can be found in one {most}"


def refuse_nothing(setting: str, source: object, purpose: str, left_out: Mapping[str, int]) -> None:
    """Raise: no object of a split counts.

    Args:
        setting: that names the split.
        source: where it lies.
        purpose: what an object is needed for.
        left_out: reason -> how many objects do not count.

    Raises:
        UserError: always.
    """
    words = left_out_in_words(left_out)
    got = f"none of {sum(left_out.values())}: {words}" if words else "none"
    raise UserError(
        f"{setting}: must have an object to {purpose}, got {got} in {source}; "
        f"{remedy_for(left_out) or 'add annotations, or name another split'}"
    )
