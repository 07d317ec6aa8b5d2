"""Many files read at once, and what of them has to be fetched from an object store first."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from raydistill.storage.regular import size_text
from raydistill.storage.remote_path import Place, RemotePath

T = TypeVar("T")

_READERS = 8  # threads
_FETCHERS = 24  # most of the time each waits for an answer
_NOTE_SECONDS = 15.0

_log = logging.getLogger(__name__)


def read_each(read: Callable[[Place], T], files: Sequence[Place], what: str) -> list[T]:
    """Return what ``read`` makes of each file, in order; several are read at a time.

    Where files have to be fetched, how many and how far it is are logged.

    Args:
        read: opens a file; what it raises ends everything.
        files: here or on an object store.
        what: the files are called in what is logged.
    """
    missing = [file for file in files if isinstance(file, RemotePath) and file.is_file() and not file.is_here()]
    if missing:
        num_bytes = sum(file.stat().st_size for file in missing)
        _log.info("data: fetching %s %s (%s)", f"{len(missing):,}", what, size_text(num_bytes))
    results: list[T] = []
    pool = ThreadPoolExecutor(_FETCHERS if missing else _READERS)
    try:
        told = time.monotonic()
        for result in pool.map(read, files):
            results.append(result)
            if missing and time.monotonic() - told > _NOTE_SECONDS:
                told = time.monotonic()
                _log.info("data: %s of %s %s are here", f"{len(results):,}", f"{len(files):,}", what)
    finally:
        pool.shutdown(cancel_futures=True)
    return results
