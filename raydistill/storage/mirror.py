"""An output on an object store (``s3://``, ``gs://``), worked on as a folder of this machine.

The store is the truth, the folder stands for it. What a process needs it pulls first: then the folder is as the store,
and a file that the store lacks is gone. What is written through an ``Output`` is put on the store before the call
returns, one object after the other in the order of the calls. Nothing else is kept of the state: whoever goes on, here
or on another machine, sees what the store has.

Several processes of a machine share the folder, each writing another part of it; who only reads (a report) has one of
its own, where nothing that is just being written can be replaced by what the store had a moment before.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from raydistill.errors import UserError
from raydistill.storage.addresses import refuse_secrets, without_secrets
from raydistill.storage.cache import cache_folder
from raydistill.storage.flocks import lock_file
from raydistill.storage.lock import open_lock
from raydistill.storage.store import Entry, Store, is_remote, store

_RECORDS = (".yaml", ".json", ".jsonl", ".txt")
"""How the files end that say what a run or a sweep is and how far it came; the others are weights, mostly."""
_OUTPUTS, _READING = "outputs", "reading"  # folders of the cache
_AT_ONCE = 16  # files that are fetched
_SECOND = 10**9  # stores know no finer time of a change


@dataclass(frozen=True)
class Mirror:
    """A folder that stands for a bucket, or more of them for its parts."""

    root: Path
    uri: str
    closed: dict[Path, str] = field(default_factory=dict)  # what must not be written to any more, and why

    @functools.cached_property
    def store(self) -> Store:
        """The bucket; it is connected to when it is first used."""
        return store(self.uri)

    def store_of(self, path: Path) -> Store:
        """Return the place on the store that ``path`` stands for."""
        return self.store.below(self._name_of(path))

    def pull(self, path: Path, everything: bool = False) -> None:
        """Make what lies below ``path`` what the store has there: the records, or with weights and all else.

        Files that are as they were are not fetched again; without ``everything`` no old weights are left either. Costs
        one listing. Nobody may be writing below it.

        Raises:
            UserError: when the store cannot be used.
        """
        place = self.store_of(path)
        with _alone(path):
            there = {path / name: entry for name, entry in place.entries().items() if not _hidden(name)}
            same = {file for file, entry in there.items() if _same(file, entry)}
            wanted = [file for file in there if file not in same and (everything or file.suffix in _RECORDS)]
            kept = same.union(wanted)
            _remove(path, lambda file: file not in kept)
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(lambda file: _fetch(place, path, file, there[file]), wanted))

    def fetch(self, path: Path) -> None:
        """Make one file what the store has there; where it has none there is none.

        Raises:
            UserError: when the store cannot be used.
        """
        with _alone(path):
            entry = self.entry(path)
            if entry is None:
                if path.is_file():
                    path.unlink()
            elif not _same(path, entry):
                _fetch(self.store, self.root, path, entry)

    def entry(self, path: Path) -> Entry | None:
        """Return what the store says of a file; None where it has none."""
        return self.store.entry(self._name_of(path))

    def put(self, path: Path) -> None:
        """Take over a file that was written."""
        with self._writing(path):
            self.store.put(path, self._name_of(path))
            self._mark(path)

    def copy(self, path: Path, to: Path) -> None:
        """Copy a file that is there; ``to`` is the same on this machine already."""
        with self._writing(to):
            self.store.copy(self._name_of(path), self._name_of(to))
            self._mark(to)

    def delete(self, path: Path) -> None:
        """Remove a file."""
        with self._writing(path):
            self.store.delete(self._name_of(path))

    def _name_of(self, path: Path) -> str:
        """Return the object's name; the bucket's own is empty."""
        return "/".join(path.relative_to(self.root).parts)

    def _mark(self, path: Path) -> None:
        entry = self.entry(path)
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


def mirrored(place: str | Path, reading: bool = False) -> tuple[Path, Mirror | None]:
    """Return the folder (or file) of this machine that stands for ``place``, and by what; for a path that itself.

    Nothing is fetched yet. With ``reading`` it is a folder that no run writes to.
    """
    if not is_remote(place):
        return Path(place), None
    refuse_secrets(str(place))
    scheme, _, rest = str(place).partition("://")
    bucket, *parts = [part for part in rest.split("/") if part] or [""]
    root = cache_folder() / (_READING if reading else _OUTPUTS) / scheme / bucket
    return root.joinpath(*parts), Mirror(root, f"{scheme}://{bucket}")


def place_of(path: Path) -> str:
    """Return what a user calls ``path``: its URI, where it stands for one."""
    return _with_uris(str(path))


def named(text: str) -> str:
    """Return a message with URIs in place of the folders that stand for them, and without secrets in any."""
    return without_secrets(_with_uris(text))


def _with_uris(text: str) -> str:
    folders = re.escape(f"{cache_folder()}{os.sep}")
    return re.sub(f"{folders}(?:{_OUTPUTS}|{_READING})/([a-z0-9]+)/", r"\1://", text)


@contextlib.contextmanager
def places_named() -> Iterator[None]:
    """Let a user's error name URIs in place of the folders that stand for them."""
    try:
        yield
    except UserError as error:
        error.args = (named(str(error)),)
        raise


def drop_weights(path: Path) -> None:
    """Free this machine's disk of what lies below ``path``, but for the records."""
    _remove(path, lambda file: file.suffix not in _RECORDS)


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
    with open_lock(path.with_name(f".{path.name}.pull")) as file:
        lock_file(file)  # where there are no locks files may be fetched twice, whole each time
        yield
