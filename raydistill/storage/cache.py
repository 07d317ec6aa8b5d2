"""What was fetched from elsewhere, kept on this machine within a limit: the least recently used goes first.

Every process of the machine shares one folder. A file is named after what it is a copy of (object, ETag), so a
changed object is another file and the old one ages out. Files appear whole; one process fetches one, others that want
it wait. A file that is open survives its removal; who finds one gone fetches it again.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from raydistill.errors import UserError
from raydistill.storage.flocks import lock_file

_KEPT = 0.9  # of the limit when room is made, so that it need not be made for every file
_SAME_USE = 60.0  # seconds in which a second use is not noted
_LEFT_OVER = 86400.0  # seconds after which nobody is still writing a file


@dataclass(frozen=True)
class ObjectCache:
    """A folder of copies; can be sent to another machine, where it is that machine's folder."""

    folder: str | None = None  # None: $RAYDISTILL_CACHE, else raydistill in the user's cache folder
    max_bytes: int = 50 * 10**9

    @property
    def path(self) -> Path:
        """Where the copies lie on this machine."""
        return Path(self.folder) if self.folder is not None else cache_folder() / "objects"

    def holds(self, name: str, size: int) -> bool:
        """Return whether there is a copy."""
        return _size_of(self._file(name)) == size

    def open(self, name: str, size: int, fetch: Callable[[Path], None]) -> BinaryIO:
        """Open the copy of what ``name`` says, made by ``fetch`` where there is none.

        Args:
            name: names the content: something else must have another name.
            size: of it in bytes.
            fetch: writes it to a path, whole or not at all.

        Raises:
            UserError: when the folder cannot be written to, or what was fetched has another size.
            Exception: whatever ``fetch`` raises.
        """
        path = self._file(name)
        while True:
            file = _opened(path, size)
            if file is not None:
                return file
            try:
                self._fetch(path, name, size, fetch)
            except FileNotFoundError:
                raise  # by fetch: there is no such thing
            except OSError as error:
                raise UserError(
                    f"downloads.folder: {self.path} must be a folder to write to with room for {name} ({size} bytes), "
                    f"got: {error.strerror or error}; make room, lower downloads.max_gb or choose another folder"
                ) from error

    def _file(self, name: str) -> Path:
        digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
        return self.path / digest[:2] / digest

    def _fetch(self, path: Path, name: str, size: int, fetch: Callable[[Path], None]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone_with(path.with_suffix(".lock")):
            if _size_of(path) == size:  # by whom this one waited for
                return
            self._make_room(size)
            fetch(path)
        found = _size_of(path)
        if found not in (size, None):  # it may have been removed again
            path.unlink(missing_ok=True)
            raise UserError(
                f"{name}: must stay as it was when it was listed, {size} bytes, got {found}; start the command again"
            )

    def _make_room(self, size: int) -> None:
        """Count ``size`` bytes more, and remove what has not been used for longest where that is too much."""
        with (self.path / "bytes_used").open("a+", encoding="utf-8") as file:
            lock_file(file)  # where there are no locks the count is about right
            file.seek(0)
            text = file.read()
            used = int(text) if text.isdecimal() else _remove_oldest(self.path, self.max_bytes)
            most = min(self.max_bytes, used + shutil.disk_usage(self.path).free)
            if used + size > most:
                used = _remove_oldest(self.path, max(0, int(_KEPT * most) - size))
            file.truncate(0)
            file.write(str(used + size))


def cache_folder() -> Path:
    """Return where this machine keeps copies of what lies on object stores.

    RAYDISTILL_CACHE, else ``raydistill`` in XDG_CACHE_HOME, else in ``~/.cache``.
    """
    return _cache_folder(*(os.environ.get(name) for name in ("RAYDISTILL_CACHE", "XDG_CACHE_HOME", "HOME")))


@functools.lru_cache
def _cache_folder(own: str | None, general: str | None, _home: str | None) -> Path:
    if own:
        return Path(own).expanduser().resolve()
    return (Path(general) if general else Path.home() / ".cache").resolve() / "raydistill"


def _size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _opened(path: Path, size: int) -> BinaryIO | None:
    """Open a file and note that it is used; None where it is not there, or cut off by a power failure."""
    try:
        file = path.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        return None
    state = os.fstat(file.fileno())
    if state.st_size != size:
        file.close()
        return None
    if time.time() - state.st_mtime > _SAME_USE:
        with contextlib.suppress(OSError):  # a folder that another user filled
            os.utime(file.fileno())
    return file


@contextlib.contextmanager
def _alone_with(lock: Path) -> Iterator[None]:
    """Keep every other thread and process that asks for ``lock`` waiting."""
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        locked = lock_file(handle)  # else an object may be fetched twice, whole each time
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), lock.stat()):
                break
        os.close(handle)  # that of someone who removed it meanwhile
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        if locked:
            fcntl.flock(handle, fcntl.LOCK_UN)  # a process forked meanwhile has it open too
        os.close(handle)


def _remove_oldest(folder: Path, most: int) -> int:
    """Remove files until ``most`` bytes are left at most, those first that were not used for longest.

    Returns:
        The bytes that are left.
    """
    files = []
    for inner in filter(Path.is_dir, folder.iterdir()):
        for entry in os.scandir(inner):
            with contextlib.suppress(FileNotFoundError):
                state = entry.stat()
                files.append((state.st_mtime, state.st_size, entry.path))
    left = sum(size for _, size, _ in files)
    long_ago = time.time() - _LEFT_OVER
    for used, size, name in sorted(files):
        unfinished = "." in Path(name).name
        if (used < long_ago) if unfinished else (left > most):
            with contextlib.suppress(FileNotFoundError):
                Path(name).unlink()
            left -= size
    return left
