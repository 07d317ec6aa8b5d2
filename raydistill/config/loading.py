"""How images reach the nets: resized, changed at random, fetched, kept."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from raydistill.config.base import Fraction, Number, Positive, Section, Text, Whole
from raydistill.storage.cache import ObjectCache

_Side = Annotated[Whole, Field(ge=1, le=32_768)]
_Zoom = Annotated[Number, Field(ge=0.01, le=100)]


class Input(Section):
    """How images reach the nets: both nets see the same pixels."""

    min_size: _Side = 800
    """The shorter side is resized to this many pixels ..."""
    max_size: _Side = 1333
    """... unless the longer side would exceed this."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_size < self.min_size:
            raise ValueError(f"max_size must be at least min_size, got {self.max_size} < {self.min_size}")
        return self


class Augmentation(Section):
    """Random changes of the training images, the same for every stage at the same seed."""

    horizontal_flip: Fraction = 0.5
    """Probability of mirroring left to right."""
    scale_jitter: tuple[_Zoom, _Zoom] = (1.0, 1.0)
    """Zoom factor drawn log-uniformly from this range; the frame keeps its size (crop when above 1, pad when below)."""
    draws: Annotated[Whole, Field(ge=1, le=10_000)] | None = None
    """So many random changes of each image, used in turn, one an epoch; unset: a new one in every epoch. They depend on
    the image alone, not on ``seed``, so that what a teacher says of them can be kept (``teacher.cache``)."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        low, high = self.scale_jitter
        if low > high:
            raise ValueError(f"scale_jitter must be [low, high] with low <= high, got [{low}, {high}]")
        if self.draws is not None and self.scale_jitter == (1.0, 1.0) and self.horizontal_flip in (0, 1):
            raise ValueError("draws has no effect where nothing is changed at random; remove it")
        return self

    @property
    def num_variants(self) -> int | None:
        """How many ways there are in which an image can come: 1 where nothing is random; None: no end of them."""
        if self.draws is not None or self.scale_jitter != (1.0, 1.0):  # also by one factor: what is cut out is random
            return self.draws
        return 2 if 0 < self.horizontal_flip < 1 else 1


class Downloads(Section):
    """What is fetched from an object store is kept on each machine as it is, for later epochs, runs and trials."""

    folder: Text | None = None
    """Folder on a disk of each machine, which its processes share; unset: ``$RAYDISTILL_CACHE``, else
    ``~/.cache/raydistill``."""
    max_gb: Annotated[Positive, Field(le=10**9)] = 50
    """Size of the folder, in 10^9 bytes: what has not been used for longest goes first. Best more than the images have;
    with less they are fetched again and again."""

    @property
    def cache(self) -> ObjectCache:
        """What this describes."""
        return ObjectCache(self.folder, int(self.max_gb * 10**9))

    @model_validator(mode="after")
    def _on_the_machine(self) -> Self:
        if self.folder is not None and "://" in self.folder:
            raise ValueError(f"folder must be a folder of each machine, got {self.folder}")
        return self


class Loader(Section):
    """How images are fetched."""

    num_workers: Annotated[Whole, Field(ge=0, le=1000)] = 2
    """Loader processes per training worker; 0: images are decoded in the training process."""
    prefetch: Annotated[Whole, Field(ge=1, le=1000)] | None = None
    """Batches that each loader process has ready; unset: 2."""
    cache: Text | None = None
    """Folder on a fast disk of the machine that keeps decoded training images for later epochs, runs and trials;
    unset: images are decoded anew. Those that ``input`` shrinks are kept shrunk, rounded to whole grey levels (off by
    half a level at most); with ``augmentation.scale_jitter`` all keep their size, and batches stay the same to the bit.
    """
    group_by_aspect_ratio: bool = True
    """Batches hold wide or tall images, not both: less padding."""

    @model_validator(mode="after")
    def _has_effect(self) -> Self:
        if self.prefetch is not None and self.num_workers == 0:
            raise ValueError("prefetch has no effect with num_workers 0; remove it")
        if self.cache is not None and "://" in self.cache:
            raise ValueError(f"cache must be a folder of the machine, got {self.cache}; object stores cannot be used")
        return self
