"""Files of the command's machine for workers on another one, which may not see them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from raydistill.storage.atomic import whole
from raydistill.storage.cache import ObjectCache
from raydistill.storage.remote_path import Place, file_or_folder


@dataclass(frozen=True)
class Parcel:
    """What a worker is told of a file."""

    path: str  # on the command's machine
    size: int  # in bytes
    checksum: str
    content: Callable[[], bytes]
    """Brings what the file holds over from there."""


Shipped = Mapping[str, Parcel]
"""Files by what settings call them: the file itself, or the run directory it lies in."""
NOTHING: Shipped = {}


@dataclass(frozen=True)
class ShippedFile:
    """The file of a parcel where this machine has the same one, else a copy in this machine's cache."""

    parcel: Parcel
    cache: ObjectCache

    def __str__(self) -> str:
        return self.parcel.path

    def open(self, mode: str = "rb") -> BinaryIO:
        """Open it for reading bytes.

        Raises:
            UserError: when the cache has no room for a copy.
        """
        if mode != "rb":
            raise ValueError(f"mode must be 'rb', got {mode!r}")
        if self._is_here():
            return Path(self.parcel.path).open("rb")
        return self.cache.open(f"{self.parcel.checksum} {self.parcel.size}", self.parcel.size, self._write)

    def _is_here(self) -> bool:
        """Return whether this machine sees the file: another one may have the same path."""
        here = Path(self.parcel.path)
        try:
            return here.stat().st_size == self.parcel.size and checksum_of(here.read_bytes()) == self.parcel.checksum
        except OSError:
            return False

    def _write(self, to: Path) -> None:
        with whole(to) as file:
            file.write(self.parcel.content())


def find(name: str, shipped: Shipped, cache: ObjectCache) -> Place | ShippedFile:
    """Return where the weights that settings call ``name`` are read from on this machine.

    Raises:
        UserError: when they are on an object store, which cannot be asked or has nothing there.
    """
    return ShippedFile(shipped[name], cache) if name in shipped else file_or_folder(name, cache)


def checksum_of(content: bytes) -> str:
    """Return a text that only equal contents share."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()
