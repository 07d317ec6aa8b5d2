"""Image files to RGB tensors: what a person sees in a viewer is what the nets see."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor

from raydistill.config.base import Section
from raydistill.config.data import Pixels
from raydistill.data.image_formats import MOST_PIXELS, NoPixelsError, TooManyPixelsError, opened
from raydistill.data.samples import (
    FULL,
    PixelRange,
    Samples,
    colour_samples,
    has_wide_colours,
    lacks_alpha,
    most_of_colours,
    refuse_planes,
    samples_of,
)
from raydistill.errors import UserError
from raydistill.storage.regular import IMAGE_BYTES, open_regular
from raydistill.storage.remote_path import Place

# EXIF orientation -> what turns the stored pixels upright; 1 is upright already.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPS_SIDES = (5, 6, 7, 8)

DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    zlib.error,
)
"""What Pillow raises on files that are broken in one way or another."""


@dataclass(frozen=True)
class Decoding:
    """How image files are read."""

    most_pixels: int = MOST_PIXELS
    """An image of more is not opened."""
    pixel_range: PixelRange | None = None
    """The values that become black and white, of pixels that are no unsigned bytes; None: those that the file declares,
    by the type of its numbers."""
    alpha: Literal["over_white", "ignore"] = "over_white"
    """What the opacity of pixels does: images are laid over white, or have the colours that are stored."""

    @staticmethod
    def of(pixels: Pixels) -> Decoding:
        """Return what settings describe."""
        return Decoding(int(pixels.max_megapixels * 1e6), pixels.pixel_range, pixels.alpha)


PLAIN = Decoding()


def decoding(data: Section) -> Decoding:
    """Return how the images of data are read."""
    return Decoding.of(Pixels.of(data))


class UnreadableImageError(UserError):
    """An image file that is missing, broken or no image."""


def read_image(path: Place, how: Decoding = PLAIN) -> Tensor:
    """Decode an image file to RGB, uint8 [3, H, W].

    Grey, palette, 1-bit and CMYK images are converted, and so are 12, 16 and 32 bits, signed ones and those whose white
    is zero: by the full range of their numbers, or ``how``'s. Transparent images are laid over white, and an EXIF
    orientation is carried out.

    Raises:
        UnreadableImageError: where the file is missing, truncated, no image, or has more pixels than ``how`` allows.
    """
    try:
        # Through a file object: Pillow 13 maps uncompressed TIFFs given by name, and garbles those with an orientation.
        with open_regular(path, IMAGE_BYTES) as file, opened(file, how.most_pixels) as image:
            turn = _TURNS.get(_orientation(image))
            refuse_planes(image)
            colours = None
            if has_wide_colours(image) and (how.pixel_range is not None or most_of_colours(image) < FULL):
                with open_regular(path, IMAGE_BYTES) as twice, opened(twice, how.most_pixels) as again:
                    colours = colour_samples(image, again)
            rgb = to_rgb(image, how, colours)
            upright = rgb if turn is None else rgb.transpose(turn)
            # Channel by channel: Pillow keeps four bytes per pixel, interleaved ones would be copied twice more.
            return torch.from_numpy(np.stack([np.asarray(channel) for channel in upright.split()]))
    except DECODING_ERRORS as error:
        raise UnreadableImageError(unreadable(path, error)) from error


def image_size(path: Place, how: Decoding = PLAIN) -> tuple[int, int]:
    """Return (width, height) in pixels of the image that `read_image` gives, from the file's header alone.

    Raises:
        UnreadableImageError: where the file is missing, no image, or has more pixels than ``how`` allows.
    """
    size, swapped = header_size(path, how)
    return (size[1], size[0]) if swapped else size


def header_size(path: Place, how: Decoding = PLAIN) -> tuple[tuple[int, int], bool]:
    """Return (width, height) of the stored pixels, and whether the EXIF orientation swaps the two for the viewer.

    Raises:
        UnreadableImageError: where the file is missing, no image, or has more pixels than ``how`` allows.
    """
    try:
        with open_regular(path, IMAGE_BYTES) as file, opened(file, how.most_pixels) as image:
            return image.size, _orientation(image) in _SWAPS_SIDES
    except DECODING_ERRORS as error:
        raise UnreadableImageError(unreadable(path, error)) from error


def unreadable(path: Place, error: BaseException) -> str:
    """Say in one sentence what is wrong with an image file and what to do about it."""
    if isinstance(error, FileNotFoundError):
        return f"{path}: the image file must exist; put it there or correct its name in the annotations"
    if isinstance(error, TooManyPixelsError):
        return f"{path}: must not have too many pixels, got {error}; raise data.max_megapixels, or scale the image down"
    if isinstance(error, NoPixelsError):
        reason = str(error) or "its header is that of no known image format"
    else:
        reason = (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__
    return f"{path}: must be a complete image, got: {reason}; replace the file or remove it from the annotations"


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8 as the header tells it; a broken EXIF block counts as upright, as in viewers."""
    if image.format == "TIFF":
        return 1  # Pillow turns these itself while loading, and states the size after turning
    try:
        # Not image.getexif(): for PNG that decodes all pixels in search of a block behind them.
        return int(Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1))
    except (SyntaxError, ValueError, TypeError, LookupError, EOFError, OverflowError, struct.error):
        return 1


def upright_rgb(image: Image.Image, how: Decoding = PLAIN) -> Image.Image:
    """Return an image of this process as RGB, its EXIF orientation carried out; errors as of ``to_rgb``."""
    turn = _TURNS.get(_orientation(image))
    rgb = to_rgb(image, how)
    return rgb if turn is None else rgb.transpose(turn)


def to_rgb(image: Image.Image, how: Decoding = PLAIN, colours: Samples | None = None) -> Image.Image:
    """Return an image that was opened as RGB; ``colours`` are those of more than 8 bits that it has.

    Raises:
        ValueError: where its pixels have no known range.
    """
    samples = samples_of(image)
    if samples is not None:
        return Image.fromarray(samples.as_bytes(how.pixel_range)).convert("RGB")
    alpha = opacity(image) if how.alpha == "over_white" else None
    if colours is not None:
        image = Image.fromarray(colours.as_bytes(how.pixel_range))
    if alpha is None:
        return image if image.mode == "RGB" else image.convert("RGB")  # converting would copy it
    opaque = image.convert("RGBA")
    opaque.putalpha(alpha)
    return Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque).convert("RGB")


def opacity(image: Image.Image) -> Image.Image | None:
    """Return the opacity of an image's pixels, 0 to 255; None where it has none."""
    if not image.has_transparency_data or lacks_alpha(image):
        return None
    return image.convert("RGBA").getchannel("A")
