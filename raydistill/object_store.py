"""Files on an object store (``s3://``, ``gs://``): listed, fetched and put through pyarrow, as Ray does it.

Credentials and endpoints come from where the store's own tools look for them: the environment (``AWS_ENDPOINT_URL`` for
a store that is not Amazon's), their files, or the machine's role.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raydistill.errors import UserError, first_line

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem

SCHEMES = ("s3://", "gs://", "gcs://")
_CHUNK_BYTES = 4 * 1024**2


def is_remote(place: object) -> bool:
    """Return whether ``place`` names something on an object store.

    >>> is_remote("s3://bucket/runs"), is_remote("runs"), is_remote(None)
    (True, False, False)
    """
    return isinstance(place, str) and place.startswith(SCHEMES)


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

    def entries(self) -> dict[str, Entry]:
        """Return every object below this place, by name.

        Raises:
            UserError: when the store cannot be asked; so do all methods.
        """
        from pyarrow.fs import FileSelector, FileType

        with self._named(self.uri):
            found = self.filesystem.get_file_info(FileSelector(self.path, recursive=True, allow_not_found=True))
            bucket = self.path.split("/")[0]
            if not found and self.filesystem.get_file_info(bucket).type == FileType.NotFound:
                raise OSError(f"there is no bucket {bucket}")
        files = [info for info in found if info.type == FileType.File]
        return {info.path.removeprefix(f"{self.path}/"): _entry(info) for info in files}

    def entry(self, name: str) -> Entry | None:
        """Return what is known of an object; None where there is none."""
        from pyarrow.fs import FileType

        with self._named(self.uri_of(name)):
            info = self.filesystem.get_file_info(self._path_of(name))
        return _entry(info) if info.type == FileType.File else None

    def fetch(self, name: str, to: Path) -> None:
        """Write an object to a file on this machine: whole, or not at all.

        Raises:
            FileNotFoundError: when there is no such object.
        """
        to.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=to.parent, prefix=f".{to.name}.", suffix=".part")
        try:
            with (
                os.fdopen(handle, "wb") as file,
                self._named(self.uri_of(name)),
                self.filesystem.open_input_stream(self._path_of(name)) as stream,
            ):
                shutil.copyfileobj(stream, file, _CHUNK_BYTES)
            Path(part).replace(to)
        finally:
            Path(part).unlink(missing_ok=True)

    def put(self, source: Path, name: str) -> None:
        """Put a file of this machine in place of an object; readers see the old one until the new one is whole."""
        content = source.read_bytes()  # a stream that is left half-way by an error or a signal would become the object
        with self._named(self.uri_of(name)), self.filesystem.open_output_stream(self._path_of(name)) as stream:
            stream.write(content)

    def copy(self, name: str, to: str) -> None:
        """Copy an object within the store."""
        with self._named(self.uri_of(name)):
            self.filesystem.copy_file(self._path_of(name), self._path_of(to))

    def delete(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""
        with self._named(self.uri_of(name)), contextlib.suppress(FileNotFoundError):
            self.filesystem.delete_file(self._path_of(name))

    def uri_of(self, name: str) -> str:
        """Return an object's own URI."""
        return f"{self.uri.rstrip('/')}/{name}"

    def _path_of(self, name: str) -> str:
        return f"{self.path}/{name}"

    @contextlib.contextmanager
    def _named(self, uri: str) -> Iterator[None]:
        """Turn the store's errors, which come without its name, into sentences."""
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise UserError(
                f"{uri}: must be on an object store that can be reached and used, got: {first_line(error)}"
            ) from error


def store(uri: str) -> Store:
    """Return the place that a URI names; nothing is asked of the store yet.

    Raises:
        UserError: when it is no such URI.
    """
    from pyarrow.fs import FileSystem

    try:
        filesystem, path = FileSystem.from_uri(uri)
    except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
        raise UserError(f"{uri}: must be a place on an object store ({first_line(error)})") from error
    if not path:
        raise UserError(f"{uri}: must be a place on an object store (it names no bucket)")
    return Store(uri, path.rstrip("/"), filesystem)


def _entry(info: FileInfo) -> Entry:
    modified: Any = info.mtime_ns
    return Entry(info.size, modified or 0)
