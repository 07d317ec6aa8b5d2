"""Files on an object store (``s3://``, ``gs://``): listed, fetched and put through pyarrow, as Ray does it.

Credentials and endpoints come from where the store's own tools look for them: the environment (``AWS_ENDPOINT_URL`` for
a store that is not Amazon's), their files, or the machine's role.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from raydistill.errors import UserError, first_line
from raydistill.storage.atomic import whole
from raydistill.storage.retry import WAITS, patiently

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem

T = TypeVar("T")
SCHEMES = ("s3://", "gs://", "gcs://")
_CHUNK_BYTES = 4 * 1024**2
# What stores and their clients say when they are out of reach, busy or broken; pyarrow gives no numbers.
_CAN_PASS = re.compile(
    r"NETWORK_CONNECTION|SLOW_DOWN|THROTTLING|INTERNAL_FAILURE|SERVICE_UNAVAILABLE|REQUEST_TIMEOUT"
    r"|HTTP status (429|5\d\d)|curlCode|[Tt]imed? ?out|UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED"
)


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
    if set("@?#") & set(bucket) or set("?#") & set(path):  # not shown: it may hold a secret
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
    modified: int  # nanoseconds since 1970


@dataclass(frozen=True)
class Store:
    """A place on an object store; objects are named relative to it, with ``/`` between folders."""

    uri: str
    path: str  # bucket and prefix
    filesystem: FileSystem
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
        from pyarrow.fs import FileSelector, FileType

        def attempt() -> list[FileInfo]:
            found = self.filesystem.get_file_info(FileSelector(self.path, recursive=True, allow_not_found=True))
            bucket = self.path.split("/")[0]
            if not found and self.filesystem.get_file_info(bucket).type == FileType.NotFound:
                raise OSError(f"there is no bucket {bucket}")
            return [info for info in found if info.type == FileType.File]

        files = self._asked(attempt, self.uri)
        return {info.path.removeprefix(f"{self.path}/"): _entry(info) for info in files}

    def entry(self, name: str) -> Entry | None:
        """Return what is known of an object; None where there is none."""
        from pyarrow.fs import FileType

        info = self._asked(lambda: self.filesystem.get_file_info(self._path_of(name)), self.uri_of(name))
        return _entry(info) if info.type == FileType.File else None

    def fetch(self, name: str, to: Path) -> None:
        """Write an object to a file on this machine: whole, or not at all.

        Raises:
            FileNotFoundError: when there is no such object.
        """
        to.parent.mkdir(parents=True, exist_ok=True)

        def attempt() -> None:
            with whole(to) as file, self.filesystem.open_input_stream(self._path_of(name)) as stream:
                shutil.copyfileobj(stream, file, _CHUNK_BYTES)

        self._asked(attempt, self.uri_of(name))

    def put(self, source: Path, name: str) -> None:
        """Put a file of this machine in place of an object; readers see the old one until the new one is whole."""
        self.write(source.read_bytes(), name)

    def write(self, content: bytes, name: str) -> None:
        """Put bytes in place of an object, as ``put`` does."""

        def attempt() -> None:  # in one write: a stream left half-way by an error or a signal would become the object
            with self.filesystem.open_output_stream(self._path_of(name)) as stream:
                stream.write(content)

        self._asked(attempt, self.uri_of(name))

    def copy(self, name: str, to: str) -> None:
        """Copy an object within the store."""
        self._asked(lambda: self.filesystem.copy_file(self._path_of(name), self._path_of(to)), self.uri_of(name))

    def delete(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""
        with contextlib.suppress(FileNotFoundError):
            self._asked(lambda: self.filesystem.delete_file(self._path_of(name)), self.uri_of(name))

    def delete_all(self) -> None:
        """Remove every object below this place."""
        with contextlib.suppress(FileNotFoundError):
            self._asked(lambda: self.filesystem.delete_dir(self.path), self.uri)

    def uri_of(self, name: str) -> str:
        """Return an object's own URI."""
        return f"{self.uri.rstrip('/')}/{name}"

    def _path_of(self, name: str) -> str:
        return f"{self.path}/{name}"

    def _asked(self, attempt: Callable[[], T], uri: str) -> T:
        """Return what ``attempt`` gets, patiently; the store's errors, which come without its name, as sentences."""
        try:
            return patiently(attempt, uri, _can_pass, self.waits)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise UserError(
                f"{uri}: must be on an object store that can be reached and used, got: {first_line(error)}"
            ) from error


def store(uri: str) -> Store:
    """Return the place that a URI names; the store is asked for no more than its region.

    Raises:
        UserError: when it is no such URI.
    """
    from pyarrow.fs import FileSystem

    try:
        filesystem, path = patiently(lambda: FileSystem.from_uri(uri), uri, _can_pass)
    except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
        raise UserError(f"{uri}: must be a place on an object store ({first_line(error)})") from error
    if not path:
        raise UserError(f"{uri}: must be a place on an object store (it names no bucket)")
    return Store(uri, path.rstrip("/"), filesystem)


def _can_pass(error: BaseException) -> bool:
    return _CAN_PASS.search(str(error)) is not None


def _entry(info: FileInfo) -> Entry:
    modified: Any = info.mtime_ns
    return Entry(info.size, modified or 0)
