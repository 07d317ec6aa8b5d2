"""Where images come from, and how they reach the nets."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from raydistill.config.base import Fraction, Number, Positive, Section, Seed, Text, Whole
from raydistill.storage.cache import ObjectCache

_LARGEST_SHAPE = 0.8
Alpha = Literal["over_white", "ignore"]
"""What the opacity of pixels does."""


def _ascending(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] >= pair[1]:
        raise ValueError(f"must be [low, high] with low < high, got [{pair[0]:g}, {pair[1]:g}]")
    return pair


_PixelRange = Annotated[tuple[Number, Number], AfterValidator(_ascending)]
_Megapixels = Annotated[Positive, Field(le=100_000)]
_MOST_IMAGES = 10**7  # that are drawn
_Images = Annotated[Whole, Field(ge=1, le=_MOST_IMAGES)]
_Side = Annotated[Whole, Field(ge=1, le=32_768)]
_Zoom = Annotated[Number, Field(ge=0.01, le=100)]


class Pixels(Section):
    """How image files become pixels, as data have it; weights say by which they were trained."""

    max_megapixels: _Megapixels = 179
    pixel_range: _PixelRange | None = None
    alpha: Alpha = "over_white"
    """As for COCO data."""

    @staticmethod
    def of(data: Section) -> Pixels:
        """Return those of a kind of data; what it has no setting for is as usual."""
        return Pixels.model_validate(data.model_dump(include=set(Pixels.model_fields)))


OnBadImage = Literal["error", "skip"]
"""What an image that is missing or cannot be read is."""


class CocoData(Section):
    """Images with one COCO JSON per split; paths are relative to ``root``."""

    format: Literal["coco"]
    root: Text
    """Folder that the paths below are relative to; also on an object store (``s3://``, ``gs://``)."""
    train_images: str = "train"
    train_annotations: str = "annotations/train.json"
    val_images: str = "val"
    val_annotations: str = "annotations/val.json"
    test_images: str | None = None
    """A third split: what was best on the validation split is scored there once, at the end of each stage."""
    test_annotations: str | None = None
    skip_images_without_objects: bool = False
    """Leave images without objects out of training (they always count in evaluation)."""
    on_bad_image: OnBadImage = "error"
    """What an image that is missing or cannot be read is. ``error``: all are named before anything starts, and pixels
    that turn out broken later end the run. ``skip``: the image is left out of its split from the start, with a warning
    that counts and names them; one whose pixels turn out broken only in training is replaced by the next one, with a
    warning, and in validation is an error all the same: scores never change their meaning on the way."""
    max_megapixels: _Megapixels = 179
    """Images of more are not opened: a small file can promise more pixels than any memory holds."""
    pixel_range: _PixelRange | None = None
    """``[low, high]``: the values that become black and white, of images whose pixels are no unsigned bytes (12, 16 or
    32 bits, signed, floating point). Unset: the full range of their numbers, or the one that the file declares."""
    alpha: Alpha = "over_white"
    """What the opacity of pixels does: ``over_white`` lays images over white; ``ignore`` takes the colours as they are
    stored, for a last band that is something else."""

    @model_validator(mode="after")
    def _test_split_is_whole(self) -> Self:
        if (self.test_images is None) != (self.test_annotations is None):
            raise ValueError(
                f"test_images must be given together with test_annotations, got {self.test_images} and "
                f"{self.test_annotations}"
            )
        return self


class VocData(Section):
    """A PASCAL VOC folder: ``JPEGImages``, ``Annotations`` and ``ImageSets/Main``."""

    format: Literal["voc"]
    root: Text
    """As for COCO data."""
    train_split: str = "train"
    val_split: str = "val"
    test_split: Text | None = None
    """As for COCO data: scored once, at the end of each stage."""
    classes: tuple[Text, ...] | None = None
    """The classes in the order of their labels; unset: those found in the training split, by name."""
    difficult: Literal["ignore", "include"] = "ignore"
    """Objects marked ``difficult``: left out of training and neither hit nor miss in evaluation, or like any other."""
    coordinates: Literal["one_based", "zero_based"] = "one_based"
    """``one_based``: pixel 1 is the first and xmax belongs to the box (VOC's own files); ``zero_based``: corners as
    they stand (what many labelling tools write)."""
    skip_images_without_objects: bool = False
    on_bad_image: OnBadImage = "error"
    """As for COCO data."""
    max_megapixels: _Megapixels = 179
    pixel_range: _PixelRange | None = None
    alpha: Alpha = "over_white"
    """As for COCO data."""

    @model_validator(mode="after")
    def _classes_once(self) -> Self:
        if self.classes is not None and (not self.classes or len(set(self.classes)) != len(self.classes)):
            raise ValueError(f"classes must name at least one class and none twice, got {list(self.classes)}")
        return self


class ShapesData(Section):
    """Generated images: coloured shapes on textured, cluttered backgrounds, drawn from ``seed``."""

    format: Literal["shapes"]
    num_train: _Images = 600
    num_val: _Images = 150
    num_test: Annotated[Whole, Field(ge=0, le=_MOST_IMAGES)] = 0
    """Images of a test split, scored once at the end of each stage; 0: there is none."""
    size: Annotated[Whole, Field(ge=32, le=2048)] = 96
    """Side of the square images in pixels."""
    max_objects: Annotated[Whole, Field(ge=1, le=1000)] = 4
    object_sizes: tuple[Positive, Positive] = (0.1, 0.6)
    """Smallest and largest diameter of a shape, relative to the side of the image."""
    difficulty: Fraction = 0.5
    """0: plain ground, strong contrast, no occlusion; 1: strong texture and clutter, weak contrast, much occlusion."""
    seed: Seed = 0
    """Seed of the drawings; apart from the run's seed, so that runs with other seeds see the same images."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        smallest, largest = self.object_sizes
        if not smallest <= largest <= _LARGEST_SHAPE:
            raise ValueError(
                f"object_sizes must be [smallest, largest] with smallest <= largest <= {_LARGEST_SHAPE}, got "
                f"[{smallest}, {largest}]"
            )
        return self


class OwnData(Section):
    """Data that a function of the user's own reads."""

    format: Literal["own"]
    dataset: Text
    """``module:name`` of a function that can be imported where the training runs; called with ``train``, ``val`` or
    ``test`` and ``settings``, it returns a ``raydistill.Dataset``."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """What it is handed as its settings."""
    test: bool = False
    """Whether there is a test split: scored once, at the end of each stage."""
    pixel_range: _PixelRange | None = None
    alpha: Alpha = "over_white"
    """As for COCO data, of images that the function does not read itself."""
    skip_images_without_objects: bool = False
    """As for COCO data."""


Data = Annotated[CocoData | VocData | ShapesData | OwnData, Field(discriminator="format")]


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

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        low, high = self.scale_jitter
        if low > high:
            raise ValueError(f"scale_jitter must be [low, high] with low <= high, got [{low}, {high}]")
        return self


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
