"""What obstore raises, by type: what another attempt may mend, what it may not, and what a condition refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_STATUS = re.compile(r"status code: (\d{3})")
_NAME = re.compile(r'Path "([^"]*)"')
_WORDS = re.compile(r"<(?:Code|Message)>([^<]+)<")
_KIND = re.compile(r"kind: (Connect|Timeout|Interrupted|Decode)")


class ConflictError(Exception):
    """An object was to be written over one state of it, and is in another one."""


class StoreError(OSError):
    """What a store, or the way to it, said; ``can_pass``: another attempt may go well."""

    def __init__(self, said: str, can_pass: bool) -> None:
        super().__init__(said)
        self.can_pass = can_pass


def translated(attempt: Callable[[], T]) -> T:
    """Return what ``attempt`` gets of obstore.

    Raises:
        FileNotFoundError: when there is no such object.
        NotImplementedError: when the store's settings forbid it.
        ConflictError: when it was to be done on a condition that does not hold.
        StoreError: for all else; only what has no type of its own can pass, unless it came with a status that stays.
    """
    from obstore.exceptions import AlreadyExistsError, BaseError, GenericError, InvalidPathError, PreconditionError

    try:
        return attempt()
    except (AlreadyExistsError, PreconditionError) as error:
        raise ConflictError(_said(error)) from error
    except GenericError as error:  # no connection; an answer that no other type is for
        status = _STATUS.search(str(error))
        raise StoreError(_said(error), can_pass=status is None or _can_pass(int(status[1]))) from error
    except InvalidPathError as error:  # no more is listed then
        name = _NAME.search(str(error))
        raise StoreError(f"an object whose name has an empty part, . or .. ({name and name[1]})", False) from error
    except BaseError as error:
        raise StoreError(_said(error), can_pass=False) from error


def _can_pass(status: int) -> bool:
    """Return whether HTTP means a state that may be over soon: a timeout, too many requests, a server's failure."""
    return status in (408, 429) or (status >= 500 and status != 501)


def _said(error: BaseException) -> str:
    """Return in a line what a store said, or what happened on the way to it."""
    text, _, source = str(error).partition("\n\nDebug source:")
    said = text.rpartition(" - ")[2].rpartition("status code: ")[2].partition("<")[0].rstrip(": \n")
    return ": ".join([said, *_WORDS.findall(text), *_KIND.findall(source)[:1]])
