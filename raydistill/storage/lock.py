"""One command at a time in an output directory."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from raydistill.errors import UserError
from raydistill.storage.lease import lease
from raydistill.storage.store import Store

_held: set[IO[str]] = set()
# A loader process outlives a killed command for some seconds; it must not hold the lock as well.
os.register_at_fork(after_in_child=lambda: [file.close() for file in _held])


@contextlib.contextmanager
def locked(output: Path, store: Store | None, lost: Callable[[str], None]) -> Iterator[None]:
    """Keep a second command away from ``output`` for as long as this one works there, or its process lives.

    Args:
        output: a folder of this machine.
        store: the place on an object store that it stands for, which is kept too.
        lost: is told, in a thread, when another command took that over.

    Raises:
        UserError: when another command holds it, or nothing can be written there.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        file = (output / ".lock").open("w", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{output}: must be a directory to write to, got: {error}; choose another --output") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"{output}: another command is at work there; wait for it or choose another --output"
            ) from error
        _held.add(file)
        try:
            with contextlib.nullcontext() if store is None else lease(store, lost):
                yield
        finally:
            _held.discard(file)
