"""Decoded training images kept in one file on a fast disk: decoded once, read by every later epoch, run and trial.

The file holds a checksum per image and then the pixels, image after image, at places that follow from the annotations;
what is not there yet is a hole. An image is decoded when it is first asked for. Processes share the file without a
lock: all of them write the same bytes, the checksum last, and where a checksum does not fit (a killed writer, a power
failure) the image is decoded and written again. The file's name is a digest of everything that decides the pixels:
after a change of the data there is a new file.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from raydistill.config import Config
from raydistill.config.sections import Input
from raydistill.data.checks import check_sides
from raydistill.data.dataset import DetectionDataset, Record, Records
from raydistill.errors import UserError

_VERSION = 2  # of the file's layout and of how pixels are made
_CHECKSUM = struct.Struct("<I")
_BLOCK = 512  # bytes; the unit of st_blocks
_GIB = 2**30


@runtime_checkable
class Fingerprinted(Protocol):
    """A reader of images that can say what its pixels depend on."""

    def fingerprint(self, records: Records) -> str:
        """Return a text that differs when any image of ``records`` may differ."""


def for_training(dataset: DetectionDataset, config: Config) -> DetectionDataset:
    """Return the training split as ``config.loader`` asks for it: as it is, or cached.

    With ``augmentation.scale_jitter`` images are cached at their own size, because a zoom would show what shrinking has
    taken away; the batches are then the same to the bit as without a cache.

    Raises:
        UserError: where an image is too narrow for ``config.input``, or the folder cannot be written to or its disk is
            too small.
    """
    check_sides(dataset, config.input)
    if config.loader.cache is None:
        return dataset
    shrink = config.augmentation.scale_jitter == (1.0, 1.0)
    return cached(dataset, Path(config.loader.cache), config.input if shrink else None)


def cached(dataset: DetectionDataset, folder: Path, size: Input | None) -> DetectionDataset:
    """Return ``dataset`` with images that are read from a file in ``folder`` once they have been decoded.

    For training only: images that ``size`` shrinks come shrunk, with pixels rounded to whole grey levels, and `load`
    scales their boxes; detections on them would not be in pixels of the annotations. The records stay as they are.

    Args:
        dataset: a split whose images can be cached: its reader has a ``fingerprint``.
        folder: a folder on a local disk or in memory; it is made where it does not exist.
        size: the size that images are shrunk to as torchvision's transform does; None keeps all as they are.

    Raises:
        UserError: where the folder cannot be written to or its disk is too small.
    """
    source = dataset.read_image
    if not isinstance(source, Fingerprinted):
        raise UserError("loader.cache: keeps images of files only, and data.dataset reads its own; leave it out")
    records = dataset.records
    sizes = stored_sizes(records.sizes, size)
    ends = np.cumsum([_CHECKSUM.size * len(records), *(3 * sizes.astype(np.int64).prod(1))])
    path = folder / f"{_digest(records, sizes, source.fingerprint(records))}.images"
    _make_room(path, int(ends[-1]))
    order = np.argsort(records.image_ids)
    return replace(dataset, read_image=CachedImages(source, str(path), records.image_ids[order], order, sizes, ends))


def stored_sizes(sizes: NDArray[np.int32], size: Input | None) -> NDArray[np.int32]:
    """Return the (width, height) in which images of ``sizes`` [I, 2] are stored, [I, 2].

    That of torchvision's transform where it shrinks the image; their own else, and where the transform would resize the
    outcome again: its rounding leaves some images a pixel short of the size it aims at.
    """
    if size is None:
        return sizes
    stored = []
    for width, height in sizes.tolist():
        small = transformed(width, height, size)
        shrinks = 0 < small[0] <= width and 0 < small[1] <= height
        stored.append(small if shrinks and transformed(*small, size) == small else (width, height))
    return np.array(stored, dtype=np.int32).reshape(-1, 2)


@dataclass(frozen=True)
class CachedImages:
    """Reads images from the file, or through ``source``, and then the file has them."""

    source: Callable[[Record], Tensor]
    path: str
    image_ids: NDArray[np.int64]  # [I], ascending
    order: NDArray[np.int64]  # [I], place in the file of the image with each of these ids
    sizes: NDArray[np.int32]  # [I, 2], width and height in the file, by place
    starts: NDArray[np.int64]  # [I + 1], where the pixels of each place begin; then the end of the file

    def __call__(self, record: Record) -> Tensor:
        """Return the image of ``record`` in its stored size: uint8 [3, H, W].

        Raises:
            UserError: as the source does, and where the file cannot be read or written.
        """
        place = int(self.order[np.searchsorted(self.image_ids, record.image_id)])
        width, height = self.sizes[place].tolist()
        try:
            # Opened anew each time, in microseconds: nothing to close, to inherit or to send to another process.
            file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                found = self._read(file, place, np.empty((3, height, width), dtype=np.uint8))
                if found is None:
                    found = _shrunk(self.source(record), record, (height, width)).numpy()
                    self._write(file, place, found)
            finally:
                os.close(file)
        except OSError as error:
            raise UserError(
                f"loader.cache: {self.path} must be a file to read and write, got: {error.strerror}; make room or "
                "correct its permissions, or unset loader.cache"
            ) from error
        return torch.from_numpy(found)

    def _read(self, file: int, place: int, pixels: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
        """Fill ``pixels`` from the file; None where they are not there, or not as they were written."""
        checksum = os.pread(file, _CHECKSUM.size, place * _CHECKSUM.size)
        if not any(checksum):  # a hole, or beyond the end
            return None
        length = os.preadv(file, [pixels.data], int(self.starts[place]))
        return pixels if length == pixels.nbytes and checksum == _checksum(pixels) else None

    def _write(self, file: int, place: int, pixels: NDArray[np.uint8]) -> None:
        _write_all(file, pixels.tobytes(), int(self.starts[place]))
        _write_all(file, _checksum(pixels), place * _CHECKSUM.size)


def transformed(width: int, height: int, size: Input) -> tuple[int, int]:
    """Return the (width, height) that torchvision's ``GeneralizedRCNNTransform`` gives an image."""
    scale = min(size.min_size / min(width, height), size.max_size / max(width, height))
    return math.floor(width * scale), math.floor(height * scale)


def _shrunk(image: Tensor, record: Record, size: tuple[int, int]) -> Tensor:
    """Resize ``image`` uint8 [3, H, W] to ``size`` (height, width) as the transform does, rounded to uint8."""
    if image.shape != (3, record.height, record.width):  # would be written over other images
        raise UserError(
            f"{record.file}: the image must have the size of its annotations, {record.width} x {record.height}, got "
            f"{image.shape[2]} x {image.shape[1]}; correct one of them"
        )
    if tuple(image.shape[1:]) == size:
        return image
    smaller = interpolate(image[None].float(), size=size, mode="bilinear", align_corners=False)[0]
    return smaller.round().to(torch.uint8)


def _digest(records: Records, sizes: NDArray[np.int32], fingerprint: str) -> str:
    """Name everything that decides what lies where in the file, in 32 characters."""
    about = hashlib.blake2b(f"{_VERSION} {PIL.__version__}\n{fingerprint}".encode("utf-8", "surrogateescape"))
    for part in (records.names, *(column.tobytes() for column in (records.image_ids, records.sizes, sizes))):
        about.update(part)
    return about.hexdigest()[:32]


def _make_room(path: Path, num_bytes: int) -> None:
    """Make sure that ``path`` can be written and may grow to ``num_bytes``."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            missing = num_bytes - os.fstat(file.fileno()).st_blocks * _BLOCK
        free = shutil.disk_usage(path.parent).free
    except OSError as error:
        raise UserError(
            f"loader.cache: must be a folder to write to, got {path.parent} ({error.strerror}); choose another"
        ) from error
    if missing > free:
        raise UserError(
            f"loader.cache: {path.parent} must have room for the decoded training images, {missing / _GIB:.1f} GiB "
            f"more, got {free / _GIB:.1f} GiB free; remove older *.images there, choose another disk or unset it"
        )


def _checksum(pixels: NDArray[np.uint8]) -> bytes:
    """CRC 32 of ``pixels``; never zero, which stands for an image that is not there."""
    return _CHECKSUM.pack(zlib.crc32(pixels.data) or 1)


def _write_all(file: int, content: bytes, start: int) -> None:
    while content:
        written = os.pwrite(file, content, start)
        content, start = content[written:], start + written
