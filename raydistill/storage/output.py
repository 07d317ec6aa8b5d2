"""Where a run or a sweep lies, as a value: opened once by the command, and handed down or sent to workers.

All that is written, removed or read there goes through it, and so reaches the object store where it lies on one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from raydistill.storage import atomic, files, mirror
from raydistill.storage.lock import locked
from raydistill.storage.mirror import Mirror

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Output:
    """A directory, or a place on an object store with the folder of this machine that stands for it."""

    place: str
    """What its user calls it."""
    folder: Path
    mirror: Mirror | None = field(default=None, repr=False, compare=False)
    """What connects the folder with the store, if it lies on one."""

    @staticmethod
    def at(place: str) -> Output:
        """Return the output of that name, to work on; nothing is fetched yet."""
        return Output(place, *mirror.mirrored(place))

    @staticmethod
    def to_read(place: str | Path) -> Output:
        """Return the output of that name in a folder that no run writes to; nothing is fetched yet."""
        return Output(str(place), *mirror.mirrored(place, reading=True))

    def part(self, folder: Path) -> Output:
        """Return what lies in a folder of it as an output of its own."""
        return Output(mirror.place_of(folder), folder, self.mirror)

    def __reduce__(self) -> Any:
        """Arrive on another machine with the folder that stands for the place there."""
        return Output.at, (self.place,)

    @property
    def remote(self) -> bool:
        """Whether it lies on an object store."""
        return self.mirror is not None

    @contextlib.contextmanager
    def opened(self) -> Iterator[Output]:
        """Keep other commands away, here and on the store, and give the output with the records that are there.

        Raises:
            UserError: when another command is at work there, or the place cannot be used.
        """
        store = None if self.mirror is None else self.mirror.store_of(self.folder)
        with locked(self.folder, store, self.close):
            self.pull()
            yield self

    def close(self, why: str) -> None:
        """Let nothing be written any more, or end work in a folder of this machine: it has become somebody else's."""
        if self.mirror is not None:
            self.mirror.closed[self.folder] = why
        else:
            _log.error("%s", why)
            os.kill(os.getpid(), signal.SIGINT)

    # Reading: paths lie below the folder -----------------------------------------------------------------------------
    def pull(self, path: Path | None = None, everything: bool = False) -> None:
        """Bring the records here that others have written, with ``everything`` weights too; for a directory nothing.

        Raises:
            UserError: when the store cannot be used.
        """
        if self.mirror is not None:
            self.mirror.pull(path or self.folder, everything)

    def fetched(self, path: Path) -> Path:
        """Return ``path``, one file, as the store has it; where it has none there is none.

        Raises:
            UserError: when the store cannot be used.
        """
        if self.mirror is not None:
            self.mirror.fetch(path)
        return path

    def exists(self, path: Path) -> bool:
        """Return whether there is such a file, here or on the store."""
        return path.is_file() or (self.mirror is not None and self.mirror.entry(path) is not None)

    # Writing: each call returns once the store has it too, and raises UserError where it cannot be used ---------------
    def write(self, path: Path, write: Callable[[IO[bytes]], None], keep: int = 1) -> None:
        """Let ``write`` fill a file, as ``atomic.write_atomically``."""
        atomic.write_atomically(path, write, keep, self.mirror)

    def write_text(self, path: Path, text: str) -> None:
        """Write ``text`` as UTF-8."""
        atomic.write_text(path, text, self.mirror)

    def write_json(self, path: Path, value: Any) -> None:
        """Write ``value`` as indented JSON."""
        atomic.write_json(path, value, self.mirror)

    def append_line(self, path: Path, line: str) -> None:
        """Add a line to a file, as ``atomic.append_line``."""
        atomic.append_line(path, line, self.mirror)

    def publish(self, path: Path) -> None:
        """Put a file on the store that another library has written here."""
        if self.mirror is not None:
            self.mirror.put(path)

    def remove(self, path: Path) -> None:
        """Remove a file; one that is not there is no error."""
        files.remove(path, self.mirror)

    def remove_versions(self, *paths: Path) -> None:
        """Remove files of one folder with the versions that were kept of them, also those that only the store has."""
        there = {path for one in paths for path in files.versions(one)}
        if self.mirror is not None:
            folder = paths[0].parent
            names = [*self.mirror.store_of(folder).entries()]
            only_there = [folder / name for one in paths for name in files.versions_among(one.name, names)]
            for path in only_there:
                self.mirror.delete(path)
        for path in there:
            path.unlink(missing_ok=True)

    def rename(self, path: Path, to: Path) -> None:
        """Give a file another name."""
        files.rename(path, to, self.mirror)

    def drop_weights(self, path: Path) -> None:
        """Free this machine's disk of weights below ``path`` that the store has as well."""
        if self.mirror is not None:
            mirror.drop_weights(path)


LOCAL = Output("", Path())
"""Files of this machine, wherever they lie."""
