"""One command at a time in a folder whose storage locks no files: a file there names the command at work.

It is put there under a name that is given once (a hard link, else an exclusive creation), whole. The command writes a
sign of life into that very file every few seconds. Another command that finds it waits for such a sign; it is refused
when it sees one, and takes the place of exactly the command that it saw when there is none for a minute (at once, where
that was a process of this machine and is gone). Who takes a place does so alone, under a second file that is named
after the one replaced.

What this guarantees: of commands that begin together one is let in, and one that is alive and reaches the storage is
never taken for dead. One that did not reach it for a minute may be; it learns so with its next sign of life.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from raydistill.errors import UserError
from raydistill.storage.owner import Owner, this_process
from raydistill.storage.regular import RECORD_BYTES, read_bytes

BEAT_SECONDS = 15.0
LOST_SECONDS = 60.0
_LOOK_SECONDS = 1.0
_LENGTH = 1000  # bytes of the file: a sign of life is written over the one before
_log = logging.getLogger(__name__)


@contextlib.contextmanager
def owned(folder: Path, lost: Callable[[str], None]) -> Iterator[None]:
    """Hold ``folder`` for as long as this lasts; ``lost`` is told, in a thread, when another command took it over.

    Raises:
        UserError: when another command is at work there.
    """
    own, file = this_process(), folder / ".owner"
    _acquire(file, own)
    done = threading.Event()
    beating = threading.Thread(target=_beat, args=(file, own, done, lost), daemon=True)
    beating.start()
    try:
        yield
    finally:
        done.set()
        beating.join(BEAT_SECONDS)
        with contextlib.suppress(UserError, OSError):  # what is left there is taken for dead in time
            if _is_own(file, own):
                file.unlink(missing_ok=True)


def _acquire(file: Path, own: Owner) -> None:
    """Put ``own`` there, in place of a command that is no more if need be.

    Raises:
        UserError: when another command is alive.
    """
    while not _created(file, own):
        found = _read(file)
        if found is None:
            continue  # it has just ended
        _await_end(file, found)
        claim = file.with_name(f"{file.name}.{found.id}")
        if not _created(claim, own):  # another command takes that place
            _await_end(claim, _read(claim) or found)
            claim.unlink(missing_ok=True)
            continue
        try:
            if _is_still(file, found):
                file.unlink(missing_ok=True)
        finally:
            claim.unlink(missing_ok=True)


def _is_still(file: Path, found: Owner) -> bool:
    now = _read(file)
    return now is not None and now.id == found.id and now.beat == found.beat


def _await_end(file: Path, other: Owner) -> None:
    """Return when ``other`` has ended, or shows no sign of life.

    Raises:
        UserError: when it does.
    """
    if other.here:
        if other.alive:
            raise _refusal(file, other)
        return
    _log.warning(
        "%s: %s was at work there; a sign of life of it is waited for, %g s at most", file.parent, other, LOST_SECONDS
    )
    deadline = time.monotonic() + LOST_SECONDS
    while time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
        found = _read(file)
        if found is None:
            return
        if found != other:
            raise _refusal(file, found)


def _refusal(file: Path, other: Owner) -> UserError:
    return UserError(
        f"{file.parent}: another command is at work there ({other}); wait for it or choose another --output (this "
        f"storage locks no files: {file} says who is at work)"
    )


def _created(file: Path, own: Owner) -> bool:
    """Put a file there that names ``own``, whole, unless there is one; return whether that was done."""
    whole = file.with_name(f"{file.name}.{own.id}.part")
    whole.write_bytes(own.written().ljust(_LENGTH))
    try:
        os.link(whole, file)
    except FileExistsError:
        return _is_own(file, own)  # the answer to its own call may have been lost on its way
    except OSError:  # storage without hard links
        return _created_in_place(file, own)
    else:
        return True
    finally:
        whole.unlink(missing_ok=True)


def _created_in_place(file: Path, own: Owner) -> bool:
    try:
        with file.open("xb") as new:
            new.write(own.written().ljust(_LENGTH))
    except FileExistsError:
        return False
    return True


def _is_own(file: Path, own: Owner) -> bool:
    found = _read(file)
    return found is not None and found.id == own.id


def _beat(file: Path, own: Owner, done: threading.Event, lost: Callable[[str], None]) -> None:
    """Write a sign of life now and then, into the file that was put there and no other."""
    count = 0
    try:
        with file.open("r+b", buffering=0) as held:
            while not done.wait(BEAT_SECONDS):
                count += 1
                with contextlib.suppress(UserError, OSError):  # out of reach: whoever writes results will say so
                    if not _is_own(file, own):
                        if not done.is_set():
                            lost(_lost(file))
                        return
                    held.seek(0)
                    held.write(dataclasses.replace(own, beat=count).written().ljust(_LENGTH))
                    os.fsync(held.fileno())
    except OSError:
        lost(_lost(file))


def _lost(file: Path) -> str:
    found = None
    with contextlib.suppress(UserError, OSError):
        found = _read(file)
    who = "it was removed" if found is None else f"{found} has taken the folder over"
    return f"{file}: must name this command for as long as it works, got: {who}; repeat the command"


def _read(file: Path) -> Owner | None:
    """Return the command that a file names; None where there is none.

    Raises:
        UserError: where it names none, also after a while: it may just have been created.
    """
    for _ in range(5):
        try:
            content = read_bytes(file, RECORD_BYTES)
        except FileNotFoundError:
            return None
        owner = Owner.read(content)
        if owner is not None:
            return owner
        time.sleep(_LOOK_SECONDS / 2)
    raise UserError(f"{file}: must name the command at work there, holds something else; remove it if none runs")
