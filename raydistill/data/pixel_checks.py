"""A look at some images of a split: do their values fill the range they are read by, and is their opacity one?"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from raydistill.data.checks import listed
from raydistill.data.dataset import DetectionDataset
from raydistill.data.image_folder import ImageFolder
from raydistill.data.image_formats import opened
from raydistill.data.images import DECODING_ERRORS, Decoding, opacity, unreadable
from raydistill.data.samples import (
    PixelRange,
    Samples,
    UnreadSamplesError,
    colour_samples,
    has_wide_colours,
    refuse_planes,
    samples_of,
    upper_samples,
)
from raydistill.errors import UserError
from raydistill.storage.regular import IMAGE_BYTES, open_regular
from raydistill.storage.remote_path import Place

_LOOKED_AT = 24  # images of a split, spread evenly
_DARK = 1 / 3  # of the range: values that all stay below it leave the images (nearly) black
_INVISIBLE = 15  # opacity, of 255, up to which nothing can be made out
_OPAQUE = 240
_CLIPPED = 0.1  # of all values; more of them outside of the range that was set are worth a warning
_THREADS = 4
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """What the settings are called that a message names."""

    pixel_range: str = "data.pixel_range"
    alpha: str = "data.alpha"


@dataclass(frozen=True)
class _Look:
    """What was seen of one image."""

    file: str
    kind: str = ""  # of its samples; empty: unsigned bytes
    low: float = 0.0  # of the values that it holds
    high: float = 0.0
    declared: PixelRange | None = None
    clipped: float = 0.0  # share of values outside of the range that was set
    is_invisible: bool = False
    has_odd_alpha: bool = False  # most pixels are neither opaque nor transparent
    problem: str = ""  # what keeps its pixels from being read though its header can be


def check_pixels(dataset: DetectionDataset, name: str, settings: Settings = Settings()) -> None:
    """Look at some images of a split and say where they would be (nearly) black or white.

    Args:
        dataset: of files; images that are read in another way are not looked at.
        name: of the split, in a message.
        settings: to name in a message.

    Raises:
        UserError: naming the setting that says how the values or the opacity are meant.
    """
    reader = dataset.read_image
    if not isinstance(reader, ImageFolder) or not len(dataset):
        return
    places = np.unique(np.linspace(0, len(dataset) - 1, min(len(dataset), _LOOKED_AT)).astype(int)).tolist()
    files = [dataset.records.file(place) for place in places]
    with ThreadPoolExecutor(_THREADS) as pool:
        looks = [look for look in pool.map(lambda file: _look(reader.folder / file, file, reader.how), files) if look]
    for look in looks:
        if look.problem:
            raise UserError(look.problem)
    _check_ranges(looks, name, settings.pixel_range, reader.how.pixel_range)
    _check_opacity(looks, name, settings.alpha, reader.how)


def _check_ranges(looks: Sequence[_Look], name: str, setting: str, wanted: PixelRange | None) -> None:
    for kind in dict.fromkeys(look.kind for look in looks if look.kind):
        of_kind = [look for look in looks if look.kind == kind]
        low, high = min(look.low for look in of_kind), max(look.high for look in of_kind)
        seen = f"{_shown(low, ' to ', high)} in the {len(of_kind)} {kind} images of {name} that were looked at"
        declared = of_kind[0].declared
        fitting = _fitting(low, high)
        if wanted is not None:
            clipped = sum(look.clipped for look in of_kind) / len(of_kind)
            if clipped > _CLIPPED:
                share = f"{100 * clipped:.0f} % lie outside"
                _log.warning("%s: must hold the values of the pixels, got %s: %s", setting, seen, share)
        elif declared is None:
            raise UserError(f"{setting}: must be given for floating point pixels, got {seen}; set it to {fitting}")
        elif max(abs(low), abs(high)) < _DARK * max(map(abs, declared)):
            raise UserError(
                f"{setting}: must be given, got {seen}, where {_shown(declared[0], ' to ', declared[1])} is possible: "
                f"they would be nearly of one grey; set it to {fitting}, or to "
                f"[{_shown(declared[0], ', ', declared[1])}] where that is meant"
            )
    if wanted is not None and looks and not any(look.kind for look in looks):
        _log.warning("%s: has no effect on %s: its images have 8 bits", setting, name)


def _check_opacity(looks: Sequence[_Look], name: str, setting: str, how: Decoding) -> None:
    if how.alpha == "ignore":
        return
    invisible = [look.file for look in looks if look.is_invisible]
    if 2 * len(invisible) >= len(looks) > 0:
        raise UserError(
            f"{setting}: must be ignore for images whose last band is no opacity, got {len(invisible)} of {len(looks)} "
            f"images of {name} that are wholly transparent: they would be white; they are {listed(invisible)}"
        )
    if invisible:
        _log.warning(
            "data: %s: %d of %d images that were looked at are wholly transparent, and so white (%s=ignore takes their "
            "colours): %s",
            name,
            len(invisible),
            len(looks),
            setting,
            listed(invisible),
        )
    odd = [look.file for look in looks if look.has_odd_alpha]
    if 2 * len(odd) > len(looks):
        _log.warning(
            "data: %s: the last band of %d of %d images that were looked at is taken for opacity and is half of it "
            "nearly everywhere; if it is something else set %s=ignore: %s",
            name,
            len(odd),
            len(looks),
            setting,
            listed(odd),
        )


def _look(path: Place, file: str, how: Decoding) -> _Look | None:
    """Return what is seen of an image; None where it cannot be read, which others say."""
    try:
        with open_regular(path, IMAGE_BYTES) as content, opened(content, how.most_pixels) as image:
            refuse_planes(image, low_bits=how.pixel_range is not None)
            samples = _samples(image, path, how)
            if samples is not None:
                return _of_samples(samples, file, how.pixel_range)
            alpha = opacity(image) if image.has_transparency_data else None
    except UnreadSamplesError as error:
        return _Look(file, problem=unreadable(path, error))
    except DECODING_ERRORS:
        return None
    if alpha is None:
        return _Look(file)
    values = np.asarray(alpha)
    middling = float(((values > _INVISIBLE) & (values < _OPAQUE)).mean())
    return _Look(file, is_invisible=int(values.max()) <= _INVISIBLE, has_odd_alpha=middling > 0.5)


def _samples(image: Image.Image, path: Place, how: Decoding) -> Samples | None:
    if not has_wide_colours(image):
        return samples_of(image)
    try:
        with open_regular(path, IMAGE_BYTES) as content, opened(content, how.most_pixels) as again:
            return colour_samples(image, again)
    except UnreadSamplesError:
        if how.pixel_range is not None:
            raise
        return upper_samples(image)  # what is read then


def _of_samples(samples: Samples, file: str, wanted: PixelRange | None) -> _Look:
    values = samples.values[np.isfinite(samples.values)]
    if not values.size:
        return _Look(file)
    low, high = float(values.min()), float(values.max())
    clipped = 0.0 if wanted is None else float(((values < wanted[0]) | (values > wanted[1])).mean())
    kind = f"{samples.bits}-bit {samples.kind}" if samples.kind != "floating point" else samples.kind
    return _Look(file, kind, low, high, samples.declared, clipped)


def _fitting(low: float, high: float) -> str:
    """Return a range that holds what was seen: of as many bits as it takes."""
    if low < 0 or not (low.is_integer() and high.is_integer()):
        return f"[{math.floor(low)}, {math.ceil(high)}]"
    return f"[0, {2 ** max(1, int(high).bit_length()) - 1}]"


def _shown(low: float, between: str, high: float) -> str:
    return between.join(str(int(value)) if float(value).is_integer() else f"{value:.6g}" for value in (low, high))
