"""Pixels that are no unsigned bytes: 12, 16 and 32 bits, signed, floating point, white is zero -> values and bytes.

Black and white are the ends of the range that a file's type of number has, unless the file or a setting names others:
a viewer that stretches each image to what it holds would make the same object bright here and dark there.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PixelRange = tuple[float, float]
"""The values that become black and white."""

FULL = 2**16 - 1
"""The largest value of 16 bits."""
_BITS, _WHITE_IS_ZERO, _MOST, _PLANES, _EXTRA, _FORMAT = 258, 262, 281, 284, 338, 339  # tags of TIFF
_SIGNED, _FLOAT = 2, 3  # as _FORMAT has them
_BYTE_ORDERS = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}
_NATIVE = {"I;16BS": "I;16S", "I;32BS": "I;32S", "F;32BF": "F;32F"} if sys.byteorder == "little" else {}
Kind = Literal["unsigned", "signed", "floating point"]


class UnreadSamplesError(ValueError):
    """Pixels of a kind that is not read; the message says which."""


@dataclass(frozen=True)
class Samples:
    """The pixels of an image as its file has them."""

    values: NDArray[Any]  # [H, W], or [H, W, 3] where they have a colour; whole numbers or floats
    kind: Kind
    bits: int
    declared: PixelRange | None  # by the type of the numbers, or by the file; None: floats
    white_is_zero: bool = False

    def as_bytes(self, wanted: PixelRange | None) -> NDArray[np.uint8]:
        """Return the values as grey levels, rounded, of the range that is ``wanted``, else of the declared one.

        Raises:
            ValueError: where there is neither.
        """
        found = wanted or self.declared
        if found is None:
            raise ValueError("floating point pixels have no known range (set data.pixel_range, or save it as integers)")
        low, high = found
        values = self.values
        grey: NDArray[Any]
        if float(low).is_integer() and float(high).is_integer() and values.dtype.kind in "iu":
            span = int(high) - int(low)
            grey = ((values.astype(np.int64).clip(int(low), int(high)) - int(low)) * 255 + span // 2) // span
        else:
            exact = np.nan_to_num(values.astype(np.float64), nan=low).clip(low, high)
            grey = np.floor((exact - low) * (255 / (high - low)) + 0.5)
        return (255 - grey if self.white_is_zero else grey).astype(np.uint8)


def samples_of(image: Image.Image) -> Samples | None:
    """Return the pixels of a grey image that are no unsigned bytes; None for all other images.

    Args:
        image: opened, as Pillow has it.
    """
    tags: Any = getattr(image, "tag_v2", {})
    kind = _first(tags.get(_FORMAT, 1))
    inverted = tags.get(_WHITE_IS_ZERO) == 0
    _take_native_order(image)
    if image.mode == "F":
        return Samples(np.asarray(image), "floating point", 32, None, inverted)
    if image.mode == "L" and kind == _SIGNED:
        return Samples(np.asarray(image).view(np.int8), "signed", 8, (-128, 127))
    if not image.mode.startswith("I"):
        return None
    bits = _first(tags.get(_BITS, 16))
    values = np.asarray(image)
    if kind == _SIGNED:
        return Samples(values, "signed", bits, (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1), inverted)
    if bits == 32:
        values = values.view(np.uint32)
    return Samples(values, "unsigned", bits, (0, _declared_most(tags, bits)), inverted)


def refuse_planes(image: Image.Image, low_bits: bool = False) -> None:
    """Raise for a TIFF that holds colours of more than 8 bits in planes, one after the other: Pillow garbles these.

    Args:
        image: opened.
        low_bits: whether the lower bits are wanted, which a compressed one does not give either.

    Raises:
        UnreadSamplesError: for such an image.
    """
    tags: Any = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS, 8)
    wide = isinstance(bits, tuple) and len(bits) > 1 and max(bits) > 8
    plain = any(tile[0] == "raw" for tile in getattr(image, "tile", ()))
    if wide and tags.get(_PLANES) == 2 and (plain or low_bits):
        raise UnreadSamplesError("colours of more than 8 bits in planes of their own (save them pixel by pixel)")


def has_wide_colours(image: Image.Image) -> bool:
    """Return whether an image that was only opened has 16 bits a colour, of which Pillow keeps the upper 8."""
    return image.mode in ("RGB", "RGBA") and any(
        _raw_mode(tile).endswith(tuple(_BYTE_ORDERS)) for tile in getattr(image, "tile", ())
    )


def colour_samples(image: Image.Image, again: Any) -> Samples:
    """Return all 16 bits of the colours of an image that ``has_wide_colours``.

    Args:
        image: the image, opened.
        again: the same, opened once more; it is decoded with its bytes exchanged.

    Raises:
        UnreadSamplesError: for 16-bit grey with alpha and for colours in planes, which Pillow cannot give.
    """
    refuse_planes(image, low_bits=True)
    upper = np.asarray(image)[..., :3]
    again.tile = [_exchanged(tile) for tile in again.tile]
    try:
        lower = np.asarray(again)[..., :3]
    except ValueError as error:
        raise UnreadSamplesError("16-bit grey with alpha keeps 8 bits only (save it without alpha)") from error
    return Samples(upper.astype(np.int64) * 256 + lower, "unsigned", 16, (0, most_of_colours(image)))


def upper_samples(image: Image.Image) -> Samples:
    """Return colours of which the upper 8 of 16 bits are known, as if the lower ones were all set."""
    return Samples(np.asarray(image)[..., :3].astype(np.int64) * 256 + 255, "unsigned", 16, (0, FULL))


def most_of_colours(image: Image.Image) -> int:
    """Return the value that stands for full colour in an image that ``has_wide_colours``."""
    return _declared_most(getattr(image, "tag_v2", {}), 16)


def lacks_alpha(image: Image.Image) -> bool:
    """Return whether the last band of an image is no opacity: a TIFF that does not call it one."""
    return image.format == "TIFF" and image.mode == "RGBA" and _EXTRA not in getattr(image, "tag_v2", {})


def _declared_most(tags: Any, bits: int) -> int:
    """Return the largest value that stands for white: less than the bits hold where the file says how many it uses.

    Its tag may as well hold what is largest in this image; only all ones of some bits mean a number of bits.
    """
    stated = tags.get(_MOST)
    most = _first(stated) if stated is not None else 0
    depth = int(most).bit_length()
    return int(most) if 8 < depth < bits and most == 2**depth - 1 else 2**bits - 1


def _first(value: Any) -> int:
    return int(value[0]) if isinstance(value, tuple) else int(value)


def _raw_mode(tile: Any) -> str:
    arguments = tile[3]
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _exchanged(tile: Any) -> Any:
    """Return a tile whose decoder takes the other byte of each sample."""
    mode = _raw_mode(tile)
    other = mode[:-3] + _BYTE_ORDERS[mode[-3:]]
    return _with_raw_mode(tile, other)


def _take_native_order(image: Any) -> None:
    """Let libtiff's pixels be taken in the order of this machine, as it gives them: Pillow has them exchanged again."""
    tiles = getattr(image, "tile", [])
    if any(tile[0] == "libtiff" and _raw_mode(tile) in _NATIVE for tile in tiles):
        image.tile = [_with_raw_mode(tile, _NATIVE[_raw_mode(tile)]) for tile in tiles]


def _with_raw_mode(tile: Any, mode: str) -> Any:
    arguments = (mode, *tile[3][1:]) if isinstance(tile[3], tuple) else mode
    return type(tile)(*tile[:3], arguments) if hasattr(tile, "_fields") else (*tile[:3], arguments)
