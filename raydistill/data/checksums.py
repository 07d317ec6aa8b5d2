"""Checksums of image files: what stands for their content, in few bytes and without reading all of a large one.

Of a file above 64 KiB it is that of four pieces of 16 KiB, spread from its first to its last byte; of an object on a
store its size and ETag stand for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

from raydistill.data.images import unreadable
from raydistill.errors import UserError
from raydistill.storage.regular import IMAGE_BYTES, open_regular
from raydistill.storage.remote_path import Place, RemotePath

_PIECE = 16 * 1024
_WHOLE = 4 * _PIECE
_READERS = 8  # threads
_CHUNK = 200  # files for a thread at a time


def checksums_of(files: Sequence[Place]) -> list[bytes]:
    """Return the checksum of each file, in order.

    Raises:
        UserError: where one cannot be read.
    """
    chunks = [files[start : start + _CHUNK] for start in range(0, len(files), _CHUNK)]
    with ThreadPoolExecutor(_READERS) as pool:
        return [found for chunk in pool.map(_checksums, chunks) for found in chunk]


def _checksums(files: Sequence[Place]) -> list[bytes]:
    return [_etag(file) if isinstance(file, RemotePath) else _checksum(file) for file in files]


def _etag(file: RemotePath) -> bytes:
    return f"{file.stat().st_size} {file.listing.etag(file.inner)}".encode()


def _checksum(file: Place) -> bytes:
    try:
        with open_regular(file, IMAGE_BYTES) as opened:
            return _checksum_of(opened, file.stat().st_size)
    except OSError as error:
        raise UserError(unreadable(file, error)) from error


def _checksum_of(file: BinaryIO, size: int) -> bytes:
    about = hashlib.blake2b(size.to_bytes(8, "little"), digest_size=16)
    if size <= _WHOLE:
        about.update(file.read(_WHOLE))
    else:
        for piece in range(4):
            file.seek(piece * (size - _PIECE) // 3)
            about.update(file.read(_PIECE))
    return about.digest()
