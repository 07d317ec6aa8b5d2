"""Files that users name, opened only where they are regular files of a size that fits.

A pipe or a device in the place of a file would be waited for, or read, without end.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, runtime_checkable

if TYPE_CHECKING:  # numpy comes with them
    from raydistill.storage.parcels import ShippedFile
    from raydistill.storage.remote_path import Place

IMAGE_BYTES = 8 * 10**9
"""The most that an image file may have, and so on below: more than sound ones have, less than what fills a machine."""
JSON_BYTES = 8 * 10**9
XML_BYTES = 32 * 10**6
LIST_BYTES = 256 * 10**6
WEIGHTS_BYTES = 64 * 10**9
YAML_BYTES = 4 * 10**6
RECORD_BYTES = 64 * 10**6  # what a run writes of itself: its result, its epochs' metrics

_KINDS: Mapping[int, str] = {
    stat.S_IFIFO: "a named pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@runtime_checkable
class _HasSize(Protocol):
    """All but a shipped file, which is checked where it is taken from."""

    def stat(self) -> os.stat_result: ...


class UnfitFileError(OSError):
    """No regular file, or one that is too large; ``strerror`` says which."""


def open_regular(path: Place | ShippedFile, most_bytes: int) -> BinaryIO:
    """Open a file for reading bytes.

    Raises:
        UnfitFileError: where it is no regular file, or has more than ``most_bytes``.
        OSError: where it cannot be opened; so do all functions here.
        UserError: as ``RemotePath.open``.
    """
    if isinstance(path, _HasSize):
        check_regular(path, most_bytes)  # first: opening a device may do something
    if not isinstance(path, Path):
        return path.open()
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    try:
        _check(path, os.fstat(file.fileno()), most_bytes)
    except OSError:
        file.close()
        raise
    return file


def check_regular(path: Place, most_bytes: int) -> None:
    """Make sure that a file is a regular one and not too large, without opening it; errors as in ``open_regular``."""
    if isinstance(path, Path):
        _check(path, path.stat(), most_bytes)
    else:
        _check_size(path, path.stat().st_size, most_bytes)


def read_bytes(path: Place, most_bytes: int) -> bytes:
    """Return what a file holds; errors as in ``open_regular``."""
    with open_regular(path, most_bytes) as file:
        content = file.read(most_bytes + 1)
    _check_size(path, len(content), most_bytes)  # a file of the system's may say that it is empty, and never end
    return content


def read_text(path: Place, most_bytes: int, errors: str = "strict") -> str:
    """Return what a file of UTF-8 holds, line ends as they are; errors as in ``open_regular``.

    Raises:
        UnicodeDecodeError: where ``errors`` says so.
    """
    return read_bytes(path, most_bytes).decode("utf-8", errors)


def size_text(num_bytes: int) -> str:
    """Return a number of bytes as a person reads it.

    >>> size_text(900), size_text(780_400_000), size_text(20_000_000_000)
    ('1 kB', '780 MB', '20.0 GB')
    """
    if num_bytes < 10**6:
        return f"{-(-num_bytes // 1000)} kB"
    return f"{num_bytes / 1e6:.0f} MB" if num_bytes < 10**9 else f"{num_bytes / 1e9:.1f} GB"


def _check(path: Path, state: os.stat_result, most_bytes: int) -> None:
    if stat.S_ISDIR(state.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(state.st_mode):
        kind = _KINDS.get(stat.S_IFMT(state.st_mode), "something else")
        raise UnfitFileError(errno.EINVAL, f"{kind} where a regular file must be", str(path))
    _check_size(path, state.st_size, most_bytes)


def _check_size(path: Place, num_bytes: int, most_bytes: int) -> None:
    if num_bytes > most_bytes:
        raise UnfitFileError(
            errno.EFBIG,
            f"{size_text(num_bytes)}, more than the {size_text(most_bytes)} that such a file may have",
            str(path),
        )
