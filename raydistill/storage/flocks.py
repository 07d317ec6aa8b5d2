"""Locks of files as the system has them, and storage that has none (Lustre and NFS, as they may be mounted)."""

from __future__ import annotations

import fcntl
from typing import IO


def lock_file(file: IO[bytes] | IO[str] | int, wait: bool = True) -> bool:
    """Lock an open file until it is closed; return False where its storage locks none.

    Raises:
        BlockingIOError: when it is locked by another and this does not ``wait``.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # ENOSYS, ENOLCK, EOPNOTSUPP: each file system has its own
        return False
    return True
