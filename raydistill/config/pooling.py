"""Who pools regions on a CPU, where a run or a sweep was begun."""

from __future__ import annotations

from raydistill.config.sections import Config

ROI_ALIGN = "training.roi_align"
"""The setting; whatever does not name it was trained with torchvision's, ``exact``."""


def with_exact_pooling(config: Config) -> Config:
    """Return ``config`` with regions pooled by torchvision."""
    return config.model_copy(update={"training": config.training.model_copy(update={"roi_align": "exact"})})
