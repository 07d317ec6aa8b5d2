"""Files on an object store (``s3://``, ``gs://``): listed, fetched and put through obstore.

What fails in a way that can pass is tried again here, never by obstore itself: the user hears of every wait.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from raydistill.errors import UserError
from raydistill.storage.addresses import refuse_secrets
from raydistill.storage.atomic import whole
from raydistill.storage.client import client_for
from raydistill.storage.retry import WAITS, patiently
from raydistill.storage.store_errors import StoreError, translated

if TYPE_CHECKING:
    from obstore import ObjectMeta, PutMode
    from obstore.store import GCSStore, S3Store

T = TypeVar("T")
SCHEMES = ("s3://", "gs://", "gcs://")
Version = Mapping[str, str]
"""One state of an object, as its store tells it from others."""
_CHUNK_BYTES = 4 * 1024**2
_PART_BYTES = 5 * 1024**2  # of a larger upload, the least that stores take
_PARTS_AT_ONCE = 4
_SECOND = 10**9  # nanoseconds; the precision that all answers of all stores have
_process: int | None = None  # the one that uses obstore here


def is_remote(place: object) -> bool:
    """Return whether ``place`` names something on an object store.

    >>> is_remote("s3://bucket/runs"), is_remote("runs"), is_remote(None)
    (True, False, False)
    """
    return isinstance(place, str) and place.startswith(SCHEMES)


def problem_with(uri: str) -> str:
    """Say what must hold, of a URI that cannot name a place on an object store; empty when it can.

    >>> problem_with("s3://bucket/runs")
    ''
    >>> problem_with("s3://key:secret@bucket/runs?region=eu-west-1")
    'must name a bucket and a path only, got more; keys, endpoint and region come from the environment'
    """
    bucket, _, path = uri.partition("://")[2].partition("/")
    if set("@?#:") & set(bucket) or set("?#") & set(path):  # not shown: it may hold a secret
        return "must name a bucket and a path only, got more; keys, endpoint and region come from the environment"
    if not is_remote(uri) or not bucket:
        return f"must be on an object store ({', '.join(SCHEMES)}) and name a bucket, got {uri[:200]!r}"
    if not uri.isprintable() or any(part.startswith(".") for part in path.split("/")):
        return f"must have no part that begins with a dot, and printable characters only, got {uri[:200]!r}"
    return ""


@dataclass(frozen=True)
class Entry:
    """What a store says of an object without handing it over."""

    size: int  # bytes
    modified: int  # nanoseconds since 1970, to the second
    etag: str  # another one for another content; empty where the store has none


@dataclass(frozen=True)
class Store:
    """A place on an object store; objects are named relative to it, with ``/`` between folders."""

    uri: str
    path: str  # within the bucket; empty: all of it
    client: S3Store | GCSStore
    waits: tuple[float, ...] = WAITS  # before each further attempt where the store fails in a way that can pass

    def below(self, name: str) -> Store:
        """Return a place below this one."""
        if not name:
            return self
        return dataclasses.replace(self, uri=self.uri_of(name), path=self._path_of(name))

    def entries(self) -> dict[str, Entry]:
        """Return every object below this place, by name.

        Raises:
            UserError: when the store cannot be asked; so do all methods.
        """
        found = self._asked(lambda: self.client.list(self.path or None, chunk_size=1000).collect(), self.uri)
        start = len(self.path) + 1 if self.path else 0
        entries = {meta["path"][start:]: _entry(meta) for meta in found}
        folders = {str(folder) for name in entries for folder in PurePosixPath(name).parents}
        return {name: entry for name, entry in entries.items() if name and (entry.size or name not in folders)}

    def entry(self, name: str) -> Entry | None:
        """Return what is known of an object; None where there is none."""
        try:
            return _entry(self._asked(lambda: self.client.head(self._path_of(name)), self.uri_of(name)))
        except FileNotFoundError:
            return None

    def fetch(self, name: str, to: Path) -> None:
        """Write an object to a file on this machine: whole, or not at all.

        Raises:
            FileNotFoundError: when there is no such object.
        """
        to.parent.mkdir(parents=True, exist_ok=True)

        def attempt() -> None:
            with whole(to) as file:
                for chunk in self.client.get(self._path_of(name)).stream(min_chunk_size=_CHUNK_BYTES):
                    file.write(chunk)

        self._asked(attempt, self.uri_of(name))

    def read(self, name: str) -> tuple[bytes, Version]:
        """Return what an object holds, and the state of it that was read.

        Raises:
            FileNotFoundError: when there is no such object.
        """

        def attempt() -> tuple[bytes, Version]:
            answer = self.client.get(self._path_of(name))
            return bytes(answer.bytes()), _version(answer.meta)

        return self._asked(attempt, self.uri_of(name))

    def put(self, source: Path, name: str) -> None:
        """Put a file of this machine in place of an object; readers see the old one until the new one is whole."""
        self._put(source, name, "overwrite")

    def write(self, content: bytes, name: str) -> None:
        """Put bytes in place of an object, as ``put`` does."""
        self._put(content, name, "overwrite")

    def create(self, content: bytes, name: str) -> Version:
        """Put bytes where there is no object.

        Where an answer is lost on its way, an object that is there may be the one that was to be created.

        Raises:
            ConflictError: when there is one.
            NotImplementedError: when the environment forbids to write on a condition.
        """
        return self._put(content, name, "create")

    def replace(self, content: bytes, name: str, version: Version) -> Version:
        """Put bytes in place of an object that is as it was when ``version`` was told; errors as in ``create``."""
        return self._put(content, name, {**version})  # type: ignore[arg-type]

    def copy(self, name: str, to: str) -> None:
        """Copy an object within the store."""
        self._asked(lambda: self.client.copy(self._path_of(name), self._path_of(to)), self.uri_of(name))

    def delete(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""
        with contextlib.suppress(FileNotFoundError):
            self._asked(lambda: self.client.delete(self._path_of(name)), self.uri_of(name))

    def uri_of(self, name: str) -> str:
        """Return an object's own URI."""
        return f"{self.uri.rstrip('/')}/{name}"

    def _path_of(self, name: str) -> str:
        return f"{self.path}/{name}" if self.path else name

    def _put(self, content: bytes | Path, name: str, mode: PutMode) -> Version:
        def attempt() -> Version:
            return _version(
                self.client.put(
                    self._path_of(name), content, mode=mode, chunk_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE
                )
            )

        try:
            return self._asked(attempt, self.uri_of(name))
        except FileNotFoundError as error:
            raise _unusable(self.uri_of(name), "there is no such bucket") from error

    def _asked(self, attempt: Callable[[], T], uri: str) -> T:
        """Return what ``attempt`` gets, patiently; the store's errors, which come without its name, as sentences."""
        global _process
        if forked():
            raise RuntimeError(f"{uri}: obstore was used before this process was forked, and would wait for ever")
        _process = os.getpid()
        try:
            return patiently(lambda: translated(attempt), uri, _can_pass, self.waits)
        except StoreError as error:
            raise _unusable(uri, str(error)) from error


def store(uri: str) -> Store:
    """Return the place that a URI names.

    Raises:
        UserError: when it is no such URI.
    """
    refuse_secrets(uri)
    scheme, _, rest = uri.partition("://")
    bucket, _, path = rest.partition("/")
    if not is_remote(uri) or not bucket:
        raise UserError(f"{uri}: must be a place on an object store (it names no bucket)")
    return Store(uri, "/".join(filter(None, path.split("/"))), client_for(scheme, bucket))


def forked() -> bool:
    """Return whether this process was forked from one that used a store: its client's threads are not here."""
    return _process not in (None, os.getpid())


def _can_pass(error: BaseException) -> bool:
    return isinstance(error, StoreError) and error.can_pass


def _unusable(uri: str, said: str) -> UserError:
    return UserError(f"{uri}: must be on an object store that can be reached and used, got: {said}")


def _entry(meta: ObjectMeta) -> Entry:
    return Entry(meta["size"], int(meta["last_modified"].timestamp()) * _SECOND, meta["e_tag"] or "")


def _version(meta: Any) -> Version:
    return {key: meta[key] for key in ("e_tag", "version") if meta[key]}  # obstore takes no None back
