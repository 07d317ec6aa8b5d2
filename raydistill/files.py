"""Files on storage that may fail: what can pass is waited for, and what is written once is there after a power cut."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Protocol, TypeVar

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
    waits: Sequence[float] | None = None,
) -> T:
    """Return what ``attempt`` returns; it is made again where storage fails in a way that can pass.

    An attempt that fails must leave everything as it was.

    Args:
        attempt: does it once.
        place: what it is done to, for the warnings.
        can_pass: says of what an attempt raised whether another one may go well.
        waits: seconds before each further attempt; None: ``WAITS``.

    Raises:
        OSError: when storage fails in another way (a full disk, a place that must not be written), or still does.
    """
    for wait in WAITS if waits is None else waits:
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


class Remote(Protocol):
    """Storage elsewhere that has what lies below a folder of this machine; a call returns once that is durable."""

    def put(self, path: Path) -> None:
        """Take over a file that was written."""

    def copy(self, path: Path, to: Path) -> None:
        """Copy a file that is there; ``to`` is the same on this machine already."""

    def delete(self, path: Path) -> None:
        """Remove a file."""


_remotes: dict[Path, Remote] = {}


def stand_for(folder: Path, remote: Remote) -> None:
    """Let ``remote`` have what is written and removed below ``folder`` by the functions of this module and ours."""
    _remotes[folder] = remote


def remote_of(path: Path) -> Remote | None:
    """Return the storage that a file is to be on as well, if there is one."""
    return next((_remotes[folder] for folder in (path, *path.parents) if folder in _remotes), None)


def publish(path: Path) -> None:
    """Put a file that was just written on the storage that it belongs to; else nothing.

    Raises:
        UserError: when that storage cannot be used; what it had before is then intact.
    """
    remote = remote_of(path)
    if remote is not None:
        remote.put(path)


def remove(path: Path) -> None:
    """Remove a file, also from the storage that it belongs to; one that is not there is no error."""
    remote = remote_of(path)
    if remote is not None and path.is_file():
        remote.delete(path)
    path.unlink(missing_ok=True)


def rename(path: Path, to: Path) -> None:
    """Give a file another name."""
    _renamed(path, to)
    remote = remote_of(path)
    if remote is not None:
        remote.delete(path)


def _renamed(path: Path, to: Path) -> None:
    """Give a file another name here; storage elsewhere keeps it under the old one too, until that is written anew."""
    path.replace(to)
    remote = remote_of(path)
    if remote is not None:
        remote.copy(path, to)


@contextlib.contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """Give a temporary file that takes the place of ``path`` at the end; where that is not reached nothing is left."""
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        Path(part).replace(path)
    finally:
        Path(part).unlink(missing_ok=True)


def append_line(path: Path, line: str) -> None:
    """Add a line to a file, durably; storage that fails for a while is waited for.

    Raises:
        OSError: when that fails; the file is then as it was.
        UserError: as ``publish``.
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
    publish(path)


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
        remove(file)
    for number, file in reversed([*enumerate(there[: keep - 1], start=1)]):
        _renamed(file, path.with_name(f"{path.stem}.{number}{path.suffix}"))


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
