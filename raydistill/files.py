"""Files on storage that may fail: what can pass is waited for, and what is written once is there after a power cut."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
WAITS = (0.5, 2.0, 8.0, 20.0)
"""Seconds before each further attempt: half a minute in all."""

_log = logging.getLogger(__name__)
_CAN_PASS = {
    *(errno.EIO, errno.ESTALE, errno.EAGAIN, errno.EINTR, errno.EBUSY, errno.ETIMEDOUT, errno.EREMOTEIO),
    *(errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOTCONN, errno.ECONNRESET),
}


def _system_error_can_pass(error: BaseException) -> bool:
    return error_number(error) in _CAN_PASS


def patiently(
    attempt: Callable[[], T],
    place: Path | str,
    can_pass: Callable[[BaseException], bool] = _system_error_can_pass,
    waits: Sequence[float] = WAITS,
) -> T:
    """Return what ``attempt`` returns; it is made again where storage fails in a way that can pass.

    An attempt that fails must leave everything as it was.

    Raises:
        OSError: when storage fails in another way (a full disk, a place that must not be written), or still does.
    """
    for wait in waits:
        try:
            return attempt()
        except (OSError, RuntimeError) as error:
            if not can_pass(error):
                raise
            _log.warning("%s: storage fails (%s); tried again in %g s", place, error, wait)
            time.sleep(wait)
    return attempt()


def error_number(error: BaseException) -> int | None:
    """Return the number of the system's error that ``error`` is, or came from: torch.save hides it in its own."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError):
            return seen.errno
        seen = seen.__cause__ or seen.__context__
    return None


def append_line(path: Path, line: str) -> None:
    """Add a line to a file, durably; storage that fails for a while is waited for.

    Raises:
        OSError: when that fails; the file is then as it was.
    """

    def attempt() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            before = os.fstat(handle).st_size
            try:
                rest = f"{line}\n".encode()
                while rest:
                    rest = rest[os.write(handle, rest) :]
                os.fsync(handle)
            except OSError:
                os.ftruncate(handle, before)
                raise
        finally:
            os.close(handle)

    patiently(attempt, path)


def versions(path: Path) -> list[Path]:
    """Return what is there of ``path`` and of the versions that ``make_way`` kept of it, newest first.

    ``checkpoint.1.pt`` is the version before ``checkpoint.pt``.
    """
    beside = path.parent.glob(f"{path.stem}.*{path.suffix}")
    numbered = {file.name.removeprefix(f"{path.stem}.").removesuffix(path.suffix): file for file in beside}
    older = [numbered[number] for number in sorted(filter(str.isdecimal, numbered), key=int)]
    return [path, *older] if path.is_file() else older


def make_way(path: Path, keep: int) -> None:
    """Number the versions of ``path`` anew, so that the next one is one of ``keep``.

    Whoever is killed in between leaves a gap in the numbers, and every version but the oldest.
    """
    there = versions(path)
    for file in there[keep - 1 :]:
        file.unlink()
    for number, file in reversed([*enumerate(there[: keep - 1], start=1)]):
        file.replace(path.with_name(f"{path.stem}.{number}{path.suffix}"))


def sync_folder(folder: Path) -> None:
    """Make it durable that a file has its name, where the system can do that."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(handle)
