"""Whether the metric that trials are compared by can exist at all: AP of a size needs an object of that size."""

from __future__ import annotations

from raydistill.config import Config
from raydistill.data.build import Splits
from raydistill.errors import UserError

_ALL = (0.0, float("inf"))


def refuse_missing_metric(metric: str, config: Config, splits: Splits) -> None:
    """Return where the validation split holds an object that ``metric`` scores.

    Args:
        metric: ``AP``, ``AP_small``, ...
        config: with ``evaluation.area_ranges``.
        splits: the data.

    Raises:
        UserError: where no trial would be better than another.
    """
    medium, large = config.evaluation.area_ranges
    ranges = {"AP_small": (0.0, medium), "AP_medium": (medium, large), "AP_large": (large, float("inf"))}
    low, high = ranges.get(metric, _ALL)
    records = splits.val.records
    areas = records.areas[~records.ignored]
    if ((areas >= low) & (areas <= high)).any():  # as COCOeval counts them: both ends belong to a size
        return
    there = f"all of {len(areas)} have {areas.min():.0f} to {areas.max():.0f}" if len(areas) else "there is none"
    size = f"{low:.0f} square pixels and more" if high == float("inf") else f"{low:.0f} to {high:.0f} square pixels"
    raise UserError(
        f"metric: must have an object to score on the validation split, got {metric}, which is of objects of {size}, "
        f"and {there}; choose another metric, or other sizes with evaluation.area_ranges"
    )
