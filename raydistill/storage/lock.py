"""One command at a time in an output directory."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from raydistill.errors import UserError
from raydistill.storage.flocks import lock_file
from raydistill.storage.lease import lease
from raydistill.storage.owner import Owner, this_process
from raydistill.storage.owner_file import owned
from raydistill.storage.regular import RECORD_BYTES, UnfitFileError, check_regular
from raydistill.storage.store import Store

END_SECONDS = 20.0
"""How long a lock is waited for whose command is no more: what it started ends within seconds."""
_LOOK_SECONDS = 0.2
_held: set[IO[bytes]] = set()
# A loader process outlives a killed command for some seconds; it must not hold the lock as well.
os.register_at_fork(after_in_child=lambda: [file.close() for file in _held])


@contextlib.contextmanager
def locked(output: Path, store: Store | None, lost: Callable[[str], None]) -> Iterator[None]:
    """Keep a second command away from ``output`` for as long as this one works there, or its process lives.

    Args:
        output: a folder of this machine.
        store: the place on an object store that it stands for, which is kept too.
        lost: is told, in a thread, when another command took that over; a file that is locked cannot be.

    Raises:
        UserError: when another command holds it, or nothing can be written there.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        file = open_lock(output / ".lock")
    except OSError as error:
        raise UserError(f"{output}: must be a directory to write to, got: {error}; choose another --output") from error
    with file:
        alone = contextlib.nullcontext() if _acquire(file, output) else owned(output, lost)
        _held.add(file)
        try:
            with alone, contextlib.nullcontext() if store is None else lease(store, lost):
                yield
        finally:
            _held.discard(file)


def open_lock(path: Path) -> IO[bytes]:
    """Open a file to lock, and make it where there is none; what it holds stays.

    Raises:
        UserError: where there is something else, which would be waited for without end.
        OSError: where it cannot be opened.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            check_regular(path, RECORD_BYTES)
    except UnfitFileError as error:
        raise UserError(f"{path}: must be a file that commands lock, got {error.strerror}; remove it") from error
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o644), "r+b", buffering=0)


def _acquire(file: IO[bytes], output: Path) -> bool:
    """Lock the file and write who did, as soon as a command that is no more lets go of it.

    Returns:
        False where its storage locks no files.
    """
    deadline = time.monotonic() + END_SECONDS
    while True:
        try:
            if not lock_file(file, wait=False):
                return False
            break
        except BlockingIOError as error:
            file.seek(0)
            owner = Owner.read(file.read())
            ended = owner is not None and owner.here and not owner.alive
            if not ended or time.monotonic() > deadline:
                who = "" if owner is None else f" ({owner})"
                raise UserError(
                    f"{output}: another command is at work there{who}; wait for it or choose another --output"
                ) from error
            time.sleep(_LOOK_SECONDS)
    with contextlib.suppress(OSError):  # a full disk: then nobody reads who is at work
        file.truncate(0)
        file.seek(0)
        file.write(this_process().written())
    return True
