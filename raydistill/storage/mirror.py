"""An output on an object store (``s3://``, ``gs://``), worked on as a folder of this machine.

The store is the truth, the folder stands for it. What a process needs it pulls first: then the folder is as the store,
and a file that the store lacks is gone. What is written through ``files`` and ``checkpoint`` is put on the store before
the call returns, one object after the other in the order of the calls. Nothing else is kept of the state: whoever goes
on, here or on another machine, sees what the store has.

Several processes of a machine share the folder, each writing another part of it; who only reads (a report) has one of
its own, where nothing that is just being written can be replaced by what the store had a moment before.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from raydistill.errors import UserError
from raydistill.storage.cache import cache_folder
from raydistill.storage.files import stand_for
from raydistill.storage.store import Entry, Store, is_remote, store

_RECORDS = (".yaml", ".json", ".jsonl", ".txt")
"""How the files end that say what a run or a sweep is and how far it came; the others are weights, mostly."""
_AT_ONCE = 16  # files that are fetched
_SECOND = 10**9  # stores know no finer time of a change


def folder(place: str | Path, reading: bool = False) -> Path:
    """Return the folder (or file) of this machine that stands for ``place``; for a path that itself.

    Nothing is fetched yet. With ``reading`` it is one that no run writes to.
    """
    if not is_remote(place):
        return Path(place)
    scheme, _, rest = str(place).partition("://")
    bucket, *parts = [part for part in rest.split("/") if part] or [""]
    root = cache_folder() / ("reading" if reading else "outputs") / scheme / bucket
    if root not in _mirrors:
        _mirrors[root] = _Mirror(root, f"{scheme}://{bucket}")
        stand_for(root, _mirrors[root])
    return root.joinpath(*parts)


def place_of(path: Path) -> str:
    """Return what a user calls ``path``: its URI, where it stands for one."""
    mirror = _mirror_of(path)
    return str(path) if mirror is None else mirror.uri_of(path)


def named(text: str) -> str:
    """Return a message with URIs in place of the folders that stand for them."""
    for mirror in _mirrors.values():
        text = text.replace(str(mirror.root), mirror.uri)
    return text


@contextlib.contextmanager
def places_named() -> Iterator[None]:
    """Let a user's error name URIs in place of the folders that stand for them."""
    try:
        yield
    except UserError as error:
        error.args = (named(str(error)),)
        raise


def store_of(path: Path) -> Store | None:
    """Return the place on a store that ``path`` stands for, if it does."""
    mirror = _mirror_of(path)
    return None if mirror is None else mirror.store.below(mirror.name_of(path))


def pull(path: Path, everything: bool = False) -> None:
    """Make what lies below ``path`` what the store has there: the records, or with weights and all else.

    Files that are as they were are not fetched again; without ``everything`` no old weights are left either. Costs one
    listing; does nothing where ``path`` is no part of an output on a store. Nobody may be writing below it.

    Raises:
        UserError: when the store cannot be used.
    """
    place = store_of(path)
    if place is None:
        return
    with _alone(path):
        there = {path / name: entry for name, entry in place.entries().items() if not _hidden(name)}
        same = {file for file, entry in there.items() if _same(file, entry)}
        wanted = [file for file in there if file not in same and (everything or file.suffix in _RECORDS)]
        kept = same.union(wanted)
        _remove(path, lambda file: file not in kept)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda file: _fetch(place, path, file, there[file]), wanted))


def fetched(path: Path) -> Path:
    """Return ``path``, one file, as the store has it; where it has none there is none.

    Raises:
        UserError: when the store cannot be used.
    """
    mirror = _mirror_of(path)
    if mirror is not None:
        with _alone(path):
            name = mirror.name_of(path)
            entry = mirror.store.entry(name)
            if entry is None:
                if path.is_file():
                    path.unlink()
            elif not _same(path, entry):
                _fetch(mirror.store, mirror.root, path, entry)
    return path


def exists(path: Path) -> bool:
    """Return whether there is such a file, on the store where ``path`` stands for a place there."""
    mirror = _mirror_of(path)
    return path.is_file() or (mirror is not None and mirror.store.entry(mirror.name_of(path)) is not None)


def drop_weights(path: Path) -> None:
    """Free this machine's disk of what lies below ``path`` on a store as well, but for the records."""
    if _mirror_of(path) is not None:
        _remove(path, lambda file: file.suffix not in _RECORDS)


def close(path: Path, why: str) -> None:
    """Let nothing be written below ``path`` any more: it has become somebody else's."""
    mirror = _mirror_of(path)
    if mirror is not None:
        mirror.closed[path] = why


@dataclass(frozen=True)
class _Mirror:
    """A folder that stands for a bucket."""

    root: Path
    uri: str
    closed: dict[Path, str] = field(default_factory=dict)  # what must not be written to any more, and why

    @functools.cached_property
    def store(self) -> Store:
        return store(self.uri)

    def name_of(self, path: Path) -> str:
        """Return the object's name; the bucket's own is empty."""
        return "/".join(path.relative_to(self.root).parts)

    def uri_of(self, path: Path) -> str:
        name = self.name_of(path)
        return f"{self.uri}/{name}" if name else self.uri

    def put(self, path: Path) -> None:
        with self._writing(path):
            self.store.put(path, self.name_of(path))
            self._mark(path)

    def copy(self, path: Path, to: Path) -> None:
        with self._writing(to):
            self.store.copy(self.name_of(path), self.name_of(to))
            self._mark(to)

    def delete(self, path: Path) -> None:
        with self._writing(path):
            self.store.delete(self.name_of(path))

    def _mark(self, path: Path) -> None:
        entry = self.store.entry(self.name_of(path))
        if entry is not None and entry.size == path.stat().st_size:
            _mark(path, entry)

    @contextlib.contextmanager
    def _writing(self, path: Path) -> Iterator[None]:
        for closed, why in self.closed.items():
            if path.is_relative_to(closed):
                raise UserError(why)
        try:
            yield
        except UserError as error:
            raise UserError(f"{error}; what was there is intact, and the same command goes on from it") from error


_mirrors: dict[Path, _Mirror] = {}


def _mirror_of(path: Path) -> _Mirror | None:
    return next((_mirrors[place] for place in (path, *path.parents) if place in _mirrors), None)


def _hidden(name: str) -> bool:
    """Return whether an object is none of ours: a lock, Ray's own files, a name that leads out of the folder."""
    return any(not part or part.startswith(".") for part in name.split("/"))


def _same(file: Path, entry: Entry) -> bool:
    """Return whether a file is the object, by size and by the time of its change, which it was given."""
    try:
        state = file.stat()
    except OSError:
        return False
    return (state.st_size, state.st_mtime_ns) == (entry.size, entry.modified)


def _mark(file: Path, entry: Entry) -> None:
    os.utime(file, ns=(entry.modified, entry.modified))


def _fetch(place: Store, path: Path, file: Path, entry: Entry) -> None:
    """Fetch an object of ``place``, which ``path`` stands for."""
    try:
        place.fetch("/".join(file.relative_to(path).parts), file)
    except FileNotFoundError:  # since it was listed
        file.unlink(missing_ok=True)
        return
    if time.time_ns() - entry.modified > 2 * _SECOND:  # one that changed just now may change again in that second
        _mark(file, entry)


def _remove(path: Path, unwanted: Callable[[Path], bool]) -> None:
    """Remove the unwanted files below ``path``, and folders without any."""
    for inner, _, names in os.walk(path, topdown=False):
        for file in (Path(inner) / name for name in names if not name.startswith(".")):
            if unwanted(file):
                file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # something is left in it
            Path(inner).rmdir()


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let one process of this machine at a time bring ``path`` up to date."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.pull").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
