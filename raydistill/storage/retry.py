"""Storage that fails for a while: what can pass is waited for."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
_log = logging.getLogger(__name__)
WAITS = (0.5, 2.0, 8.0, 20.0)
"""Seconds before each further attempt: half a minute in all."""
_CAN_PASS = {
    *(errno.EIO, errno.ESTALE, errno.EAGAIN, errno.EINTR, errno.EBUSY, errno.ETIMEDOUT, errno.EREMOTEIO),
    *(errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOTCONN, errno.ECONNRESET),
}


def _system_error_can_pass(error: BaseException) -> bool:
    return error_number(error) in _CAN_PASS


def patiently(
    attempt: Callable[[], T],
    place: Path | str,
    can_pass: Callable[[BaseException], bool] = _system_error_can_pass,
    waits: Sequence[float] | None = None,
) -> T:
    """Return what ``attempt`` returns; it is made again where storage fails in a way that can pass.

    An attempt that fails must leave everything as it was.

    Args:
        attempt: does it once.
        place: what it is done to, for the warnings.
        can_pass: says of what an attempt raised whether another one may go well.
        waits: seconds before each further attempt; None: ``WAITS``.

    Raises:
        OSError: when storage fails in another way (a full disk, a place that must not be written), or still does.
    """
    for wait in WAITS if waits is None else waits:
        try:
            return attempt()
        except (OSError, RuntimeError) as error:
            if not can_pass(error):
                raise
            _log.warning("%s: storage fails (%s); tried again in %g s", place, error, wait)
            time.sleep(wait)
    return attempt()


def error_number(error: BaseException) -> int | None:
    """Return the number of the system's error that ``error`` is, or came from: torch.save hides it in its own."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError):
            return seen.errno
        seen = seen.__cause__ or seen.__context__
    return None
