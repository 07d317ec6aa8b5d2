"""The files of a folder of images, and what their headers say."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from torch import Tensor

from raydistill.data.dataset import Record, Records
from raydistill.data.fetching import read_each
from raydistill.data.images import PLAIN, Decoding, UnreadableImageError, header_size, read_image, unreadable
from raydistill.errors import UserError
from raydistill.storage.remote_path import Place

_STATE_THREADS = 8
_STATE_CHUNK = 200  # files; asking for one takes less than handing it to a thread


@dataclass(frozen=True)
class ImageFolder:
    """Reads the images of records whose ``file`` is relative to ``folder``."""

    folder: Place
    how: Decoding = PLAIN

    def __call__(self, record: Record) -> Tensor:
        """Decode the image of ``record``: uint8 [3, H, W], RGB.

        Raises:
            UnreadableImageError: where the file is missing or broken.
            UserError: where the image has another size than ``record``.
        """
        path = self.folder / record.file
        try:
            image = read_image(path, self.how)
        except UnreadableImageError as error:
            raise UnreadableImageError(f"image {record.image_id}, {error}") from error
        fault = Header(image.shape[2], image.shape[1]).mismatch(record.width, record.height)
        if fault:  # put there after the headers were read
            raise UserError(f"{path}: {fault}")
        return image

    def fingerprint(self, records: Records) -> str:
        """Name the folder, and the size in bytes and the time of the last change of each file, in order.

        Raises:
            UserError: where a file is missing.
        """
        names = [records.file(index) for index in range(len(records))]
        chunks = [names[start : start + _STATE_CHUNK] for start in range(0, len(names), _STATE_CHUNK)]
        with ThreadPoolExecutor(_STATE_THREADS) as pool:
            return "\n".join(
                [f"{self.folder} {self.how.pixel_range} {self.how.alpha}", *pool.map(self._states, chunks)]
            )

    def _states(self, names: Sequence[str]) -> str:
        """Return size in bytes and time of the last change in nanoseconds of each file, a line each."""
        lines = []
        for name in names:
            path = self.folder / name
            try:
                state = path.stat()
            except OSError as error:
                raise UserError(unreadable(path, error)) from error
            lines.append(f"{state.st_size} {state.st_mtime_ns}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Header:
    """What the header of an image file says; ``problem`` in words where it cannot be read."""

    width: int = 0  # as a person sees the image
    height: int = 0
    turned: bool = False  # the EXIF orientation swaps the sides of the stored pixels
    problem: str = ""
    missing: bool = False  # there is no such file

    def mismatch(self, width: int, height: int) -> str:
        """Say how a stated size differs from the image's; empty where it does not."""
        if (width, height) == (self.width, self.height):
            return ""
        sizes = f"size must be that of the image, {self.width} x {self.height}, got {width} x {height}"
        if self.turned and (height, width) == (self.width, self.height):
            return (
                f"{sizes}: the EXIF orientation of the image turns it and the annotations do not; "
                "remove the orientation from the file, or annotate the image as it is shown"
            )
        return f"{sizes}; correct the size, or put the annotated image in its place"


def read_headers(paths: Sequence[Place], how: Decoding = PLAIN) -> list[Header]:
    """Read the headers of many image files, several at a time; in the order of ``paths``."""
    return read_each(lambda path: _read_header(path, how), paths, "images")


def _read_header(path: Place, how: Decoding) -> Header:
    try:
        (width, height), turned = header_size(path, how)
    except UnreadableImageError as error:
        missing = isinstance(error.__cause__, FileNotFoundError | NotADirectoryError)
        return Header(problem=str(error), missing=missing)
    return Header(height, width, True) if turned else Header(width, height)
