"""Where a run or a sweep lies, as a value: opened once by the command, and handed down or sent to workers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raydistill.storage import mirror
from raydistill.storage.lock import locked


@dataclass(frozen=True)
class Output:
    """A directory, or a place on an object store with the folder of this machine that stands for it."""

    place: str
    """What its user calls it."""
    folder: Path

    @staticmethod
    def at(place: str) -> Output:
        """Return the output of that name; nothing is fetched yet."""
        return Output(place, mirror.folder(place))

    def __reduce__(self) -> Any:
        """Arrive on another machine with the folder that stands for the place there."""
        return Output.at, (self.place,)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Output]:
        """Keep other commands away, here and on the store, and give the output with the records that are there.

        Raises:
            UserError: when another command is at work there, or the place cannot be used.
        """
        with locked(self.folder):
            self.pull()
            yield self

    def pull(self) -> None:
        """Bring the records here that others have written; for a directory nothing."""
        mirror.pull(self.folder)

    def place_of(self, path: Path) -> str:
        """Return what a user calls a file of the output."""
        return mirror.place_of(path)
