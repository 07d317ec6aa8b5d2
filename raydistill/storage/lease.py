"""One command at a time on an output that lies on an object store, where no file can be locked.

The command that works there creates an object with its name, which the store lets one do, and writes it anew every few
seconds, on the condition that it is as it left it. Another command that finds it waits for such a sign of life; it is
refused when it sees one, and puts its own name in place of exactly the one that it saw when there is none for a minute
(at once, where the other's process was on this machine and is gone). Its own clock counts, never the store's.

What this guarantees: the store has one owner at any time, and a command that is no longer it learns so with its next
sign of life. What it does not: a command that could not reach the store for a minute may have been taken for dead, and
then writes until that sign, 15 seconds at most after the store answers it again. Its process writes nothing from then
on; workers of Ray on other machines hear of that only when it ends them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterator

from raydistill.errors import UserError
from raydistill.storage.owner import Owner, this_process
from raydistill.storage.store import Store, Version
from raydistill.storage.store_errors import ConflictError

BEAT_SECONDS = 15.0
LOST_SECONDS = 60.0
_LOOK_SECONDS = 1.0
_NAME = ".lock"
_NEVER = {"e_tag": '"0"', "version": "0"}  # the state of no object
_log = logging.getLogger(__name__)


@contextlib.contextmanager
def lease(place: Store, lost: Callable[[str], None]) -> Iterator[None]:
    """Hold ``place`` for as long as this lasts; ``lost`` is told, in a thread, when another command took it over.

    Raises:
        UserError: when another command is at work there, or the store cannot be used.
    """
    own = this_process()
    version = _acquire(place, own)
    if version is None:
        yield
        return
    impatient = dataclasses.replace(place, waits=())
    done = threading.Event()
    beating = threading.Thread(target=_beat, args=(impatient, own, version, done, lost), daemon=True)
    beating.start()
    try:
        yield
    finally:
        done.set()
        beating.join(BEAT_SECONDS)
        with contextlib.suppress(UserError):  # what is left there is taken for dead in time
            found = _read(impatient)
            if found is not None and found[0].id == own.id:
                impatient.delete(_NAME)


def _acquire(place: Store, own: Owner) -> Version | None:
    """Put ``own`` there and return the object's state, for the next sign of life; None where nothing can be locked."""
    try:
        return _checked(place, own, place.create(own.written(), _NAME))
    except NotImplementedError:
        _log.warning("%s: AWS_CONDITIONAL_PUT=disabled: nothing keeps a second command away", place.uri)
        return None
    except ConflictError:
        found = _read(place)
    if found is not None and found[0].id != own.id:  # its own is there where the answer was lost
        found = _awaited(place, *found)
    try:
        return place.create(own.written(), _NAME) if found is None else place.replace(own.written(), _NAME, found[1])
    except ConflictError as error:
        found = _read(place)
        if found is None or found[0].id != own.id:  # somebody was faster
            raise _refusal(place, found) from error
        return found[1]


def _checked(place: Store, own: Owner, version: Version) -> Version:
    """Return ``version``, unless the store also writes over a state that never was."""
    try:
        place.replace(own.written(), _NAME, {key: _NEVER[key] for key in version})
    except ConflictError:
        return version
    place.delete(_NAME)
    raise UserError(
        f"{place.uri}: must be on a store that writes on a condition (If-Match), this one always writes; choose "
        "another one, or set AWS_CONDITIONAL_PUT=disabled and see to it that one command at a time works there"
    )


def _awaited(place: Store, other: Owner, version: Version) -> tuple[Owner, Version] | None:
    """Return what is there when ``other`` has ended, or shows no sign of life."""
    if other.here and other.alive:
        raise _refusal(place, (other, version))
    found: tuple[Owner, Version] | None = (other, version)
    if other.here:
        return found
    _log.warning(
        "%s: %s was at work there; a sign of life of it is waited for, %g s at most", place.uri, other, LOST_SECONDS
    )
    deadline = time.monotonic() + LOST_SECONDS
    while found is not None and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
        found = _read(place)
        if found is not None and found[0] != other:
            raise _refusal(place, found)
    return found


def _refusal(place: Store, found: tuple[Owner, Version] | None) -> UserError:
    who = "one that has just begun or ended" if found is None else str(found[0])
    return UserError(f"{place.uri}: another command is at work there ({who}); wait for it or choose another --output")


def _beat(place: Store, own: Owner, version: Version, done: threading.Event, lost: Callable[[str], None]) -> None:
    count = 0
    while not done.wait(BEAT_SECONDS):
        count += 1
        with contextlib.suppress(UserError):  # out of reach: whoever writes results will say so
            try:
                version = place.replace(dataclasses.replace(own, beat=count).written(), _NAME, version)
            except ConflictError:
                found = _read(place)
                if found is None or found[0].id != own.id:
                    lost(_lost(place, found))
                    return
                version = found[1]  # its own: the answer to an earlier sign of life was lost


def _lost(place: Store, found: tuple[Owner, Version] | None) -> str:
    if found is None:
        return f"{place.uri_of(_NAME)}: it was removed, by hand or by a command that has ended since; repeat this one"
    return f"{place.uri}: {found[0]} has taken it over, since this command was out of the store's reach; repeat it"


def _read(place: Store) -> tuple[Owner, Version] | None:
    try:
        content, version = place.read(_NAME)
    except FileNotFoundError:
        return None
    owner = Owner.read(content)
    if owner is None:
        raise UserError(
            f"{place.uri_of(_NAME)}: must name the command at work there, holds something else; remove it if none runs"
        )
    return owner, version
