"""What is read in spite of a flaw, counted in one warning each: names, numbers and files as other tools write them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from raydistill.data.checks import listed
from raydistill.errors import counted
from raydistill.storage.remote_path import Place

_log = logging.getLogger(__name__)


def warn_near_names(source: Place, taken: Sequence[str]) -> None:
    """Log that names of ``source`` stand for ones that look alike; ``taken`` says which for which."""
    if taken:
        _log.warning("%s: %s read as another that looks alike: %s", source, counted(len(taken), "name"), listed(taken))


def warn_classes_alike(source: Place, pairs: Sequence[str]) -> None:
    """Log that classes of ``source`` differ in nothing but capital letters."""
    if pairs:
        _log.warning(
            "%s: %s of classes that differ in capital letters only, kept apart: %s",
            source,
            counted(len(pairs), "pair"),
            listed(pairs),
        )


def warn_negatives(source: Place, files: Sequence[str], total: int) -> None:
    """Log which images of ``source``, ``total`` in all, have no annotation or an empty one."""
    if files:
        _log.warning(
            "%s: %d of %d images without an annotation or with an empty one, read as images without objects: %s",
            source,
            len(files),
            total,
            listed(files),
        )


def warn_read_as(source: Place, what: str, names: Sequence[str]) -> None:
    """Log that entries of ``source`` were read in spite of a flaw, which ``what`` says."""
    if names:
        _log.warning("%s: %s, %d in all: %s", source, what, len(names), listed(names))
