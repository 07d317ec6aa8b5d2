"""Files and folders on an object store that are read like those of ``pathlib``, through this machine's cache.

A place is listed once, when it is opened: what there is, how big and how old each object is. Whatever is asked
afterwards is answered from that list, on other machines too; only what is read is fetched, unless this machine has it.
An object counts as unchanged while its ETag is the same; where a store has none, its size and the second of its last
change.
"""

from __future__ import annotations

import bisect
import errno
import fnmatch
import io
import os
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from raydistill.errors import UserError
from raydistill.storage import fetcher
from raydistill.storage.addresses import refuse_secrets
from raydistill.storage.cache import ObjectCache
from raydistill.storage.store import Entry, is_remote, store


class State(NamedTuple):
    """What a file's state is compared by, named as the system does."""

    st_size: int
    st_mtime_ns: int


@dataclass(frozen=True)
class Listing:
    """The objects below a place, by name, in columns: a hundred thousand take 10 MB, which forked processes share."""

    names: bytes  # one after the other, ascending
    ends: NDArray[np.int64]  # [N + 1], where each name ends; starts with 0
    sizes: NDArray[np.int64]  # [N], in bytes
    modified: NDArray[np.int64]  # [N], in nanoseconds since 1970
    etags: NDArray[np.bytes_]  # [N]

    @staticmethod
    def of(entries: Mapping[str, Entry]) -> Listing:
        """Lay ``entries`` out in columns."""
        encoded = sorted((_encoded(name), entry) for name, entry in entries.items())
        names = [name for name, _ in encoded]
        return Listing(
            b"".join(names),
            np.array([*accumulate(map(len, names), initial=0)], dtype=np.int64),
            np.array([entry.size for _, entry in encoded], dtype=np.int64),
            np.array([entry.modified for _, entry in encoded], dtype=np.int64),
            np.array([entry.etag.encode() for _, entry in encoded], dtype=np.bytes_),
        )

    def state(self, name: str) -> State | None:
        """Return size and time of an object; None where there is none of this name."""
        place = self._place_of(name)
        return None if place is None else State(int(self.sizes[place]), int(self.modified[place]))

    def content(self, name: str) -> str | None:
        """Return a text that changes with what an object holds; None where there is none of this name."""
        place = self._place_of(name)
        if place is None:
            return None
        return self.etags[place].decode() or f"{self.modified[place]} {self.sizes[place]}"

    def etag(self, name: str) -> str:
        """Return an object's ETag; empty where the store has none, or there is no object of this name."""
        place = self._place_of(name)
        return "" if place is None else str(self.etags[place].decode())

    def below(self, folder: str) -> range:
        """Return the places of all objects in a folder and its folders; of all there are where it is empty."""
        if not folder:
            return range(len(self.sizes))
        return range(self._first_from(_encoded(f"{folder}/")), self._first_from(_encoded(f"{folder}0")))  # 0 follows /

    def name(self, place: int) -> str:
        """Return the name of an object."""
        return self._name(place).decode("utf-8", "surrogateescape")

    def _place_of(self, name: str) -> int | None:
        place = self._first_from(_encoded(name))
        return place if place < len(self.sizes) and self._name(place) == _encoded(name) else None

    def _name(self, place: int) -> bytes:
        return self.names[self.ends[place] : self.ends[place + 1]]

    def _first_from(self, name: bytes) -> int:
        """Return the place of the first name that is not before ``name``."""
        return bisect.bisect_left(range(len(self.sizes)), name, key=self._name)


@dataclass(frozen=True, eq=False)
class RemotePath:
    """A file or folder below a listed place; has those of ``Path``'s methods that readers of data and weights use."""

    root: str  # URI of the listed place
    inner: str  # below it, with / between folders; empty: the place itself
    listing: Listing
    cache: ObjectCache

    def __truediv__(self, name: str) -> RemotePath:
        inner = posixpath.normpath(posixpath.join(self.inner, name))
        return RemotePath(self.root, "" if inner == "." else inner, self.listing, self.cache)

    def __str__(self) -> str:
        return f"{self.root}/{self.inner}" if self.inner else self.root

    @property
    def name(self) -> str:
        """The last part."""
        return posixpath.basename(str(self))

    @property
    def stem(self) -> str:
        """The last part without its suffix."""
        return posixpath.splitext(self.name)[0]

    @property
    def parent(self) -> RemotePath:
        """The folder it lies in, as far as that was listed."""
        return RemotePath(self.root, posixpath.dirname(self.inner), self.listing, self.cache)

    @property
    def parents(self) -> tuple[RemotePath, ...]:
        """The folders it lies in, the nearest first, as far as they were listed."""
        return (self.parent, *self.parent.parents) if self.inner else ()

    def is_file(self) -> bool:
        """Return whether it is an object."""
        return self.listing.state(self.inner) is not None

    def is_dir(self) -> bool:
        """Return whether objects lie below it."""
        return len(self.listing.below(self.inner)) > 0

    def exists(self) -> bool:
        """Return whether it is either."""
        return self.is_file() or self.is_dir()

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """Yield the files below that fit, part by part; the folders where ``pattern`` ends with ``/``."""
        wanted = pattern.rstrip("/").split("/")
        folders, seen = pattern.endswith("/"), set[str]()
        start = len(self.inner) + 1 if self.inner else 0
        for place in self.listing.below(self.inner):
            parts = self.listing.name(place)[start:].split("/")
            if (len(parts) <= len(wanted)) if folders else (len(parts) != len(wanted)):
                continue
            found = "/".join(parts[: len(wanted)])
            if found not in seen and all(map(fnmatch.fnmatchcase, parts, wanted)):
                seen.add(found)
                yield self / found

    def children(self) -> list[str]:
        """Return the names of the files and folders in this folder; none where it is none."""
        start = len(self.inner) + 1 if self.inner else 0
        names = (self.listing.name(place)[start:].partition("/")[0] for place in self.listing.below(self.inner))
        return list(dict.fromkeys(names))

    def stat(self) -> State:
        """Return size and time of the object when it was listed.

        Raises:
            FileNotFoundError: when there was none.
        """
        state = self.listing.state(self.inner)
        if state is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))
        return state

    def is_here(self) -> bool:
        """Return whether this machine has the object; False also for one that does not exist."""
        state = self.listing.state(self.inner)
        return state is not None and self.cache.holds(self._identity(), state.st_size)

    def open(self, mode: str = "rb") -> BinaryIO:
        """Open the object for reading bytes; it is fetched where this machine does not have it.

        A store that fails for a while is waited for.

        Raises:
            FileNotFoundError: when there is no such object, or no longer.
            UserError: when the store cannot be asked, the object has changed since, or the cache has no room for it.
        """
        if mode != "rb":
            raise ValueError(f"mode must be 'rb', got {mode!r}")
        state = self.stat()
        return self.cache.open(self._identity(), state.st_size, self._fetch)

    def read_bytes(self) -> bytes:
        """Return what the object holds; errors as in ``open``."""
        with self.open() as file:
            return file.read()

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return what the object holds as text; errors as in ``open``."""
        with io.TextIOWrapper(self.open(), encoding=encoding, errors=errors) as file:
            return file.read()

    def _identity(self) -> str:
        return f"{self} {self.listing.content(self.inner)}"

    def _fetch(self, to: Path) -> None:
        fetcher.fetch(self.root, self.inner, to)


Place = Path | RemotePath
"""A file or folder, here or on an object store."""


def place_at(text: str, cache: ObjectCache) -> Place:
    """Return the file or folder that a user named: a path, or an address on an object store, which is listed.

    Of a file on a store its folder's folder is listed too, as far as its bucket goes: what belongs to it lies there.

    Raises:
        UserError: when the store cannot be asked, or has nothing there.
    """
    return _remote(text, cache, around=True) if is_remote(text) else Path(text)


def file_or_folder(text: str, cache: ObjectCache) -> Place:
    """Return what a user named, like ``place_at``; of a file on a store nothing else is listed."""
    return _remote(text, cache, around=False) if is_remote(text) else Path(text)


def _remote(uri: str, cache: ObjectCache, around: bool) -> RemotePath:
    refuse_secrets(uri)
    uri = uri.rstrip("/")
    folder, _, name = uri.rpartition("/")
    if not folder.endswith("/"):  # else it is a bucket
        entry = store(folder).entry(name)
        if entry is not None and not around:
            return RemotePath(folder, name, Listing.of({name: entry}), cache)
        if entry is not None:
            above = folder.rpartition("/")[0]
            root = folder if above.endswith("/") else above
            return RemotePath(root, uri.removeprefix(f"{root}/"), _list(root), cache)
    return RemotePath(uri, "", _list(uri), cache)


def _list(uri: str) -> Listing:
    entries = store(uri).entries()
    if not entries:
        raise UserError(f"{uri}: must be a file or folder on the object store, got nothing there; correct the address")
    return Listing.of(entries)


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
