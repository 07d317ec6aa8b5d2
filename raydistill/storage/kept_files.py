"""What was computed, kept in files of this machine within a limit, for every process that computes the same.

A folder holds one folder for each source (a teacher, and all that decides what it says), with ``about.json`` and a file
for each thing it said. A file is named after what it answers, so that nothing in it can be out of date; it appears
whole, and carries a checksum. Where there is no room left, files that no running process may be using go first, the
least recently used of them; then nothing more is kept: what one run needs in turn must not push itself out.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raydistill.storage.atomic import whole
from raydistill.storage.cache import cache_folder

ABOUT = "about.json"
_SAME_USE = 60.0  # seconds in which a second use is not noted
_IN_USE = 600.0  # seconds before its own start in which another run's files are left alone
_FREE = 10**9  # bytes of the disk that stay free
_LOOK_AGAIN = 0.02  # of the limit, after which other processes' files are counted again


def kept_folder(folder: str | None) -> Path:
    """Return where this machine keeps what teachers said: ``folder``, else ``teacher`` beside what is downloaded."""
    return Path(folder).expanduser() if folder is not None else cache_folder() / "teacher"


@dataclass
class KeptFiles:
    """The files of one source; other processes may read and write them at the same time.

    Raises:
        OSError: where the folder cannot be made.
    """

    folder: Path
    """Of all sources."""
    source: str
    """Names this one."""
    about: dict[str, Any]
    """What a person is told about it."""
    max_bytes: int
    """Of all sources together."""
    full: str = ""
    """Why nothing more is kept; empty while something is."""
    bytes_kept: int = 0
    """By this process."""
    _others: int = field(default=0, init=False)
    _unlooked: int = field(default=0, init=False)
    _started: float = field(default_factory=time.time, init=False)

    def __post_init__(self) -> None:
        self._make_folder(self.path)
        self._others = sum(source.num_bytes for source in kept_sources(self.folder))

    @property
    def path(self) -> Path:
        """Where the files of this source lie."""
        return self.folder / self.source

    def read(self, name: str) -> bytearray | None:
        """Return the file ``name`` and note that it is used; None where there is none that can be read."""
        try:
            with self._file(name).open("rb", buffering=0) as file:
                state = os.fstat(file.fileno())
                content = bytearray(state.st_size)
                view, done = memoryview(content), 0
                while done < len(content):
                    read = file.readinto(view[done:])
                    if not read:
                        return None
                    done += read
                if time.time() - state.st_mtime > _SAME_USE:
                    with contextlib.suppress(OSError):  # another user's
                        os.utime(file.fileno())
        except OSError:
            return None
        return content

    def write(self, name: str, size: int, parts: Callable[[], Iterator[bytes | memoryview]]) -> None:
        """Keep ``size`` bytes as ``name`` where there is room; else ``full`` says why not."""
        if self.full or not self._has_room(size):
            return
        path = self._file(name)
        try:
            self._make_folder(path.parent)
            with whole(path) as file:
                file.writelines(parts())
        except OSError as error:  # the disk is full, or gone: what is not kept is computed again
            self.full = error.strerror or str(error)
            return
        self.bytes_kept += size

    def _make_folder(self, folder: Path) -> None:
        """Make a folder of this source, and its note where that is gone: somebody may clear it at any time."""
        folder.mkdir(parents=True, exist_ok=True)
        if not (self.path / ABOUT).exists():
            with whole(self.path / ABOUT) as file:
                file.write(json.dumps(self.about, indent=1).encode())

    def _file(self, name: str) -> Path:
        return self.path / name[:2] / name

    def _has_room(self, size: int) -> bool:
        self._unlooked += size
        used = self._others + self._unlooked
        if used <= self.max_bytes and self._unlooked <= _LOOK_AGAIN * self.max_bytes and self._others:
            return True
        self._others, self._unlooked = sum(source.num_bytes for source in kept_sources(self.folder)), size
        most = min(self.max_bytes, self._others + shutil.disk_usage(self.folder).free - _FREE)
        if self._others + size > most:
            self._others = _remove_unused(self.folder, most - size, self._started - _IN_USE)
        if self._others + size > most:
            limit = "its disk is full" if most < self.max_bytes else f"teacher.cache_max_gb={self.max_bytes / 1e9:g}"
            self.full = f"{limit}, and all that is there is in use"
        return not self.full


@dataclass(frozen=True)
class KeptSource:
    """What is kept of one source."""

    path: Path
    about: dict[str, Any]
    num_files: int
    num_bytes: int
    used: float
    """When it was last used, in seconds since 1970."""


def kept_sources(folder: Path) -> list[KeptSource]:
    """Return what ``folder`` holds, the last used first."""
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        if not (path / ABOUT).is_file():
            continue
        files = list(_files(path))
        used = max((used for used, _, _ in files), default=0.0)
        found.append(KeptSource(path, _about(path / ABOUT), len(files), sum(size for _, size, _ in files), used))
    return sorted(found, key=lambda source: -source.used)


def size_in_words(num_bytes: float) -> str:
    """Return bytes as they are shown.

    >>> size_in_words(1.24e9), size_in_words(44e3)
    ('1.2 GB', '0.04 MB')
    """
    number, unit = (num_bytes / 1e9, "GB") if num_bytes >= 1e8 else (num_bytes / 1e6, "MB")
    return (
        f"{number:,.0f} {unit}" if number >= 10 else f"{number:.1f} {unit}" if number >= 1 else f"{number:.2f} {unit}"
    )


def remove_source(path: Path) -> None:
    """Remove what is kept of a source; a process that is using it computes what it misses."""
    shutil.rmtree(path, ignore_errors=True)


def _about(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # gone, or damaged
        return {}
    return about if isinstance(about, dict) else {}


def _files(source: Path) -> Iterator[tuple[float, int, str]]:
    """Yield when each file was last used, its bytes and its path."""
    for inner in source.iterdir():
        if not inner.is_dir():
            continue
        for entry in os.scandir(inner):
            with contextlib.suppress(FileNotFoundError):
                state = entry.stat()
                yield state.st_mtime, state.st_size, entry.path


def _remove_unused(folder: Path, most: int, before: float) -> int:
    """Remove files last used ``before`` until at most ``most`` bytes are left, the oldest first; return what is."""
    files = sorted(file for source in folder.iterdir() if source.is_dir() for file in _files(source))
    left = sum(size for _, size, _ in files)
    for used, size, path in files:
        if left <= most or used >= before:
            break
        with contextlib.suppress(FileNotFoundError):
            Path(path).unlink()
        left -= size
    return left
