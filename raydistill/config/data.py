"""Where images and their annotations come from.

A format is added in two files: its settings here, with a place in ``Data``, and a module of ``raydistill.data.formats``
that recognises and reads it, which the settings name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import AfterValidator, Field, model_validator

from raydistill.config.base import Fraction, Number, Positive, Section, Seed, Text, Whole

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
Lines = Literal["boxes", "polygons", "oriented", "poses"]
"""What the lines of YOLO's files hold."""


_SPLITS = ("train", "val", "test")


def _different(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names or len(set(names)) != len(names):
        raise ValueError(f"must name at least one class and none twice, got {list(names)}")
    return names


def _regular_expression(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"must be a regular expression, got {pattern!r} ({error})") from None
    return pattern


_Classes = Annotated[tuple[Text, ...], AfterValidator(_different)]
_Pattern = Annotated[Text, AfterValidator(_regular_expression)]
_Share = Annotated[Number, Field(gt=0, lt=1)]
_Paths = Text | Annotated[tuple[Text, ...], Field(min_length=1)]


class FilesData(Section):
    """What all data that lie in files have in common."""

    implementation: ClassVar[str]
    """``module:name`` of what recognises and reads the format, a ``raydistill.data.formats.base.Format``."""
    places: ClassVar[tuple[str, ...]] = ("{}",)
    """The settings that say which files of ``root`` belong to a split, without its name; the first is unset where there
    is no such split."""

    format: str
    root: Text
    """Folder that the paths below are relative to; also on an object store (``s3://``, ``gs://``)."""
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
    val_fraction: _Share | None = None
    """Where there is no validation split, the share of the training split's images that becomes it; unset: 0.2."""
    split_seed: Seed = 0
    """Seed of which images these are; apart from the run's seed, so that runs with other seeds see the same splits."""
    group_by: _Pattern | None = None
    """A regular expression that is looked for in the images' names: where it finds the same text (of its first group,
    if it has one) images stay in one split, such as the frames of a video (``^(.+)_frame``)."""

    def named(self, split: str) -> str | tuple[str, ...] | None:
        """Return what is named as the train, val or test split; None: there is none."""
        found: str | tuple[str, ...] | None = getattr(self, self.setting(split), None)
        return found

    @classmethod
    def setting(cls, split: str) -> str:
        """Return the setting that names a split."""
        return cls.places[0].format(split)

    @model_validator(mode="after")
    def _fraction_has_effect(self) -> Self:
        if self.val_fraction is not None and self.named("val") is not None:
            setting = self.setting("val")
            raise ValueError(
                f"val_fraction has no effect where there is a validation split, {setting}={self.named('val')}; remove "
                f"it, or set data.{setting}=null"
            )
        return self


class AutoData(FilesData):
    """A folder, or a file of annotations, as a tool has exported it: what it is, is recognised."""

    format: Literal["auto"]
    only: Literal["coco", "voc", "yolo", "labelme"] | None = None
    """The one format that is looked for, where several lie together."""
    classes: _Classes | None = None
    """The classes in the order of their labels, where the data do not name them."""
    difficult: Literal["ignore", "include"] | None = None
    """As for VOC data, if it is that."""
    coordinates: Literal["one_based", "zero_based"] | None = None
    """As for VOC data, if it is that."""
    lines: Lines | None = None
    """As for YOLO data, if it is that."""


class CocoData(FilesData):
    """Images with one COCO JSON per split; paths are relative to ``root``."""

    implementation = "raydistill.data.formats.coco_layout:COCO"
    places = ("{}_annotations", "{}_images")

    format: Literal["coco"]
    train_images: str = "train"
    train_annotations: str = "annotations/train.json"
    val_images: str | None = "val"
    val_annotations: str | None = "annotations/val.json"
    """None: a share of the training split is taken (``val_fraction``)."""
    test_images: str | None = None
    """A third split: what was best on the validation split is scored there once, at the end of each stage."""
    test_annotations: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_val(cls, raw: Any) -> Any:
        """Where there is no file of a split there is no folder of its images."""
        no_val = isinstance(raw, dict) and "val_annotations" in raw and raw["val_annotations"] is None
        return {**raw, "val_images": None} if no_val else raw

    @model_validator(mode="after")
    def _splits_are_whole(self) -> Self:
        for split in ("val", "test"):
            images, annotations = getattr(self, f"{split}_images"), getattr(self, f"{split}_annotations")
            if (images is None) != (annotations is None):
                raise ValueError(
                    f"{split}_images must be given together with {split}_annotations, got {images} and {annotations}"
                )
        return self


class VocData(FilesData):
    """PASCAL VOC's files: ``JPEGImages``, ``Annotations``, ``ImageSets/Main``, or folders of images with XML files."""

    implementation = "raydistill.data.formats.voc_forms:VOC"
    places = ("{}_split",)

    format: Literal["voc"]
    train_split: str = "train"
    """A list in ``ImageSets/Main``, else a folder below ``root`` (``.``: that itself) that holds images and their XML
    files, side by side or in folders of their own."""
    val_split: str | None = "val"
    """None: a share of the training split is taken (``val_fraction``)."""
    test_split: Text | None = None
    """As for COCO data: scored once, at the end of each stage."""
    classes: _Classes | None = None
    """The classes in the order of their labels; unset: those found in the training split, by name."""
    difficult: Literal["ignore", "include"] = "ignore"
    """Objects marked ``difficult``: left out of training and neither hit nor miss in evaluation, or like any other."""
    coordinates: Literal["one_based", "zero_based"] = "one_based"
    """``one_based``: pixel 1 is the first and xmax belongs to the box (VOC's own files); ``zero_based``: corners as
    they stand (what many labelling tools write)."""


class YoloData(FilesData):
    """YOLO's text files, a line per object; paths are relative to ``root``."""

    implementation = "raydistill.data.formats.yolo:YOLO"

    format: Literal["yolo"]
    train: _Paths
    """Folders of images, or lists of their names (``.txt``). The labels of ``images/a.jpg`` lie in ``labels/a.txt``, or
    beside it."""
    val: _Paths | None = None
    """Unset: a share of the training split is taken (``val_fraction``)."""
    test: _Paths | None = None
    """As for COCO data."""
    classes: _Classes
    """The classes, of number 0, 1, ... in the files."""
    lines: Lines | None = None
    """What follows the class in a line: ``boxes`` (4 numbers), ``polygons``, ``oriented`` boxes (4 corners) or
    ``poses`` (a box and its key points); boxes are made of all. Unset: boxes and polygons are told by their length."""


class LabelMeData(FilesData):
    """LabelMe's JSON files, one beside each image."""

    implementation = "raydistill.data.formats.labelme:LABELME"

    format: Literal["labelme"]
    train: _Paths
    """Folders below ``root`` (``.``: that itself)."""
    val: _Paths | None = None
    """Unset: a share of the training split is taken (``val_fraction``)."""
    test: _Paths | None = None
    """As for COCO data."""
    classes: _Classes | None = None
    """As for VOC data."""


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


Data = Annotated[
    AutoData | CocoData | VocData | YoloData | LabelMeData | ShapesData | OwnData, Field(discriminator="format")
]

FILES_KINDS: tuple[type[FilesData], ...] = tuple(
    kind for kind in get_args(get_args(Data)[0]) if issubclass(kind, FilesData) and kind is not AutoData
)
"""The formats that can be recognised."""


def format_by_keys(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return settings of data to be recognised as those of a format, where they name files as only that one does.

    >>> format_by_keys({"format": "auto", "root": "data", "val_split": "test"})["format"]
    'voc'
    """
    if data.get("format") != "auto":
        return data
    kinds = [kind for kind in FILES_KINDS if any(place.format(s) in data for place in kind.places for s in _SPLITS)]
    if len(kinds) != 1:
        return data
    (tag,) = get_args(kinds[0].model_fields["format"].annotation)
    return {**data, "format": tag}
