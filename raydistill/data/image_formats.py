"""Which formats of images are opened: those that hold pixels, told by a file's content, never a program to be run.

Pillow hands EPS to Ghostscript and WMF to the system, and calls neither by a file's name; so what it may try is listed.
"""

from __future__ import annotations

import contextlib
import functools
import re
import warnings
from collections.abc import Iterator
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

MOST_PIXELS = 179_000_000
"""What is opened unless a setting says otherwise; Pillow's own limit, rounded."""

_FORMATS = (
    *("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "AVIF"),
    *("QOI", "SGI", "SUN", "PCX", "TGA"),
)
"""As Pillow calls them; the last has no mark in its header, so the others are tried before."""
_HEADER_BYTES = 1024  # of a file, that are looked at to say what it is

_MARKS = (
    (0, b"%!PS", "a PostScript program (EPS)"),
    (0, b"\xc5\xd0\xd3\xc6", "a PostScript program (EPS)"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\xd7\xcd\xc6\x9a", "a drawing of Windows (WMF)"),
    (0, b"\x01\x00\x09\x00", "a drawing of Windows (WMF)"),
    (40, b" EMF", "a drawing of Windows (EMF)"),
    (128, b"DICM", "a DICOM file"),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"\xff\x0a", "a JPEG XL image"),
    (4, b"JXL ", "a JPEG XL image"),
    (0, b"version https://git-lfs", "a pointer of Git LFS without its image (git lfs pull fetches it)"),
)
"""Where in a file which bytes stand, and what the file is then."""
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC = "a HEIC image, which needs pip install 'raydistill[heic]' (pillow-heif) to be read"
_AVIF = "an AVIF image, which Pillow 11.3 or newer reads"


class NoPixelsError(UnidentifiedImageError):
    """A file of another kind than those that are opened; the message says which, or nothing where that is unknown."""


class TooManyPixelsError(ValueError):
    """An image of more pixels than allowed."""

    def __init__(self, num_pixels: int) -> None:
        super().__init__(f"{num_pixels / 1e6:.6g} megapixels")


warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # what is too much, the settings say


@contextlib.contextmanager
def opened(file: BinaryIO, most_pixels: int) -> Iterator[Image.Image]:
    """Open an image for its header; pixels are decoded when they are asked for.

    Args:
        file: at its beginning.
        most_pixels: it may have.

    Raises:
        NoPixelsError: where it is of no known format.
        TooManyPixelsError: where it has more.
        Exception: as Pillow, where it is broken.
    """
    if Image.MAX_IMAGE_PIXELS is not None and most_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = most_pixels  # Pillow refuses twice as many
    try:
        with _identified(file) as image:
            num_pixels = image.width * image.height
            if num_pixels > most_pixels:
                raise TooManyPixelsError(num_pixels)
            yield image
    except Image.DecompressionBombError as error:
        found = re.search(r"\d+", str(error))
        raise TooManyPixelsError(int(found[0]) if found else 2 * most_pixels) from error


def _identified(file: BinaryIO) -> Image.Image:
    try:
        return Image.open(file, formats=_formats())
    except UnidentifiedImageError:
        file.seek(0)
        head = file.read(_HEADER_BYTES)
        kind = _kind(head)
        if kind == _HEIC and _can_open_heic():
            return Image.open(file, formats=("HEIF",))
        raise NoPixelsError(kind) from None


@functools.cache
def _suffixes() -> tuple[str, ...]:
    formats = {*_FORMATS, "HEIF"}
    known = {suffix for suffix, name in Image.registered_extensions().items() if name in formats}
    return tuple(sorted(known | {".heic", ".heif", ".avif"}))


def has_suffix_of_image(name: str) -> bool:
    """Return whether a file is called like an image of a format that is opened.

    >>> has_suffix_of_image("a/B.JPEG"), has_suffix_of_image("notes.txt"), has_suffix_of_image("drawing.eps")
    (True, False, False)
    """
    return name.lower().endswith(_suffixes())


@functools.cache
def _formats() -> tuple[str, ...]:
    """Return the formats that this Pillow was built with."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


@functools.cache
def _can_open_heic() -> bool:
    """Return whether pillow-heif is installed; Pillow then knows it."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _kind(head: bytes) -> str:
    """Say what a file is that begins with ``head`` and is no image of ours."""
    for start, mark, kind in _MARKS:
        if head.startswith(mark, start):
            return kind
    if head[4:8] == b"ftyp":
        brands = {head[8:12], *(head[start : start + 4] for start in range(16, min(len(head), 64), 4))}
        if brands & _AVIF_BRANDS:
            return _AVIF
        return _HEIC if brands & _HEIF_BRANDS else "a video"
    if b"<svg" in head.lower():
        return "an SVG drawing"
    return ""
