"""One command at a time on an output that lies on an object store, where no file can be locked.

The command that works there puts an object with its name, and again every few seconds. Another one that finds it waits
for such a sign of life; it is refused when it sees one, and takes the output over when there is none for a minute (at
once, where the other's process was on this machine and is gone). Its own clock counts, never the store's.

What this guarantees: a command is refused while another one runs and reaches the store. What it does not: two that
begin within the same second may both go on where the store answers them late, and one that cannot reach the store for
more than a minute may be taken for dead. It finds the other's name at its next sign of life, and its process writes
nothing from then on; workers of Ray on other machines hear of that only when it ends them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from raydistill.errors import UserError
from raydistill.storage.store import Store

BEAT_SECONDS = 15.0
LOST_SECONDS = 60.0
SETTLE_SECONDS = 1.0
"""How long after its own sign of life a command looks again whether it is the only one."""
_LOOK_SECONDS = 1.0
_NAME = ".lock"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Owner:
    """The command that works on an output."""

    id: str
    host: str
    process: int
    machine: str  # what tells whether a process id means the same here; empty: nothing does
    born: str  # when that process was started
    beat: int = 0  # counts its signs of life

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"

    @property
    def here(self) -> bool:
        """Whether it is, or was, a process of this machine."""
        return bool(self.machine) and self.machine == _machine()

    @property
    def alive(self) -> bool:
        """Whether a process of this machine still runs."""
        return bool(self.born) and _born(self.process) == self.born


@contextlib.contextmanager
def lease(place: Store, lost: Callable[[str], None]) -> Iterator[None]:
    """Hold ``place`` for as long as this lasts; ``lost`` is told, in a thread, when another command took it over.

    Raises:
        UserError: when another command is at work there, or the store cannot be used.
    """
    impatient = dataclasses.replace(place, waits=())
    own = Owner(uuid.uuid4().hex, socket.gethostname(), os.getpid(), _machine(), _born(os.getpid()))
    _acquire(place, own)
    done = threading.Event()
    beating = threading.Thread(target=_beat, args=(impatient, own, done, lost), daemon=True)
    beating.start()
    try:
        yield
    finally:
        done.set()
        beating.join(BEAT_SECONDS)
        with contextlib.suppress(UserError):  # what is left there is taken for dead in time
            if _is(_read(impatient), own):
                impatient.delete(_NAME)


def _acquire(place: Store, own: Owner) -> None:
    other = _read(place)
    if other is not None and not (other.here and not other.alive):
        if other.here:
            raise _refusal(place, other)
        _await_end(place, other)
    _write(place, own)
    time.sleep(SETTLE_SECONDS)
    now = _read(place)
    if not _is(now, own):
        raise _refusal(place, now or own)


def _await_end(place: Store, other: Owner) -> None:
    """Return when ``other`` has ended, or shows no sign of life."""
    _log.warning(
        "%s: %s was at work there; a sign of life of it is waited for, %g s at most", place.uri, other, LOST_SECONDS
    )
    deadline = time.monotonic() + LOST_SECONDS
    while time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
        now = _read(place)
        if now is None:
            return
        if now != other:
            raise _refusal(place, now)


def _refusal(place: Store, other: Owner) -> UserError:
    return UserError(f"{place.uri}: another command is at work there ({other}); wait for it or choose another --output")


def _beat(place: Store, own: Owner, done: threading.Event, lost: Callable[[str], None]) -> None:
    count = 0
    while not done.wait(BEAT_SECONDS):
        with contextlib.suppress(UserError):  # out of reach: whoever writes results will say so
            now = _read(place)
            if now is not None and not _is(now, own):
                lost(
                    f"{place.uri}: {now} has taken it over, since this command was out of the store's reach; repeat it"
                )
                return
            count += 1
            _write(place, dataclasses.replace(own, beat=count))


def _is(found: Owner | None, own: Owner) -> bool:
    return found is not None and found.id == own.id


def _read(place: Store) -> Owner | None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "owner"
        try:
            place.fetch(_NAME, file)
            return Owner(**json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise UserError(f"{place.uri_of(_NAME)}: cannot be read ({error}); remove it if no command runs") from error


def _write(place: Store, owner: Owner) -> None:
    place.write(json.dumps(dataclasses.asdict(owner)).encode(), _NAME)


def _machine() -> str:
    """Return what two processes share that see each other's ids: one boot of one system, and one container of it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _born(process: int) -> str:
    """Return when a process was started; empty when it is no more, or the system does not say."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
