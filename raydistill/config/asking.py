"""How the teacher is asked: about batches as they are, or image by image so that its answers can be used again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raydistill.config.sections import Config

_CACHE, _EXACT, _HALF = "teacher.cache", "teacher.exact", "teacher.cache_half"


def asks_by_image(config: Config) -> bool:
    """Return whether the student's teacher is asked image by image: this follows from the settings alone."""
    return config.distills and _by_image(config.teacher.cache, config.teacher.exact, config.augmentation.draws)


def what_is_compared(flat: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return settings by dotted name with what they mean for the numbers in place of where answers are kept.

    Args:
        flat: the settings; those of an earlier version lack some.
        before: what every name begins with.
    """
    compared = dict(flat)
    cache, exact, half = (compared.pop(f"{before}{name}", None) for name in (_CACHE, _EXACT, _HALF))
    by_image = _by_image(cache or "auto", bool(exact), flat.get(f"{before}augmentation.draws"))
    compared[f"{before}{_CACHE}"] = "asks image by image" if by_image else "asks about whole batches"
    compared[f"{before}{_HALF}"] = bool(half) and by_image
    return compared


def _by_image(cache: str, exact: bool, draws: int | None) -> bool:
    return exact or cache in ("memory", "disk") or (cache == "auto" and draws is not None)
