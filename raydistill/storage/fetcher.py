"""Objects fetched by any process, also by one that was forked from a process that uses a store.

There obstore would wait for ever for threads that only its parent has. A loader's process is such a one; it has a
process of its own fetch for it, started with the first object that this machine lacks, and ended with it.
"""

from __future__ import annotations

import functools
import logging
import multiprocessing
import os
import subprocess
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path

from raydistill.storage.store import forked, store


def fetch(uri: str, name: str, to: Path) -> None:
    """Write an object of the place ``uri`` to a file, as ``Store.fetch`` does."""
    if forked():
        _helper_of(os.getpid()).fetch(uri, name, to)
    else:
        _store(uri).fetch(name, to)


_store = functools.lru_cache(maxsize=64)(store)


class _Helper:
    """A process that fetches for this one, an object after the other."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._connection, theirs = multiprocessing.Pipe()
        subprocess.Popen(
            [sys.executable, "-m", __name__, str(theirs.fileno())],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # Ctrl-C is not for it: it ends with this process
        )
        theirs.close()

    def fetch(self, uri: str, name: str, to: Path) -> None:
        with self._turn:
            try:
                self._connection.send((uri, name, to))
                error: Exception | None = self._connection.recv()
            except (EOFError, ConnectionError) as lost:
                raise RuntimeError(f"{uri}/{name}: the process that fetches it has ended") from lost
        if error is not None:
            raise error


@functools.lru_cache(maxsize=1)
def _helper_of(_: int) -> _Helper:
    """Return the helper of this process; a parent's is not its own."""
    return _Helper()


def serve(handle: int) -> None:
    """Fetch what is asked for over a connection, until that is closed; errors are answers."""
    logging.basicConfig(format="%(message)s")
    connection = Connection(handle)
    while True:
        try:
            uri, name, to = connection.recv()
        except (EOFError, ConnectionError):
            return
        try:
            _store(uri).fetch(name, to)
        except Exception as error:  # noqa: BLE001  (raised where it was asked for)
            connection.send(error)
        else:
            connection.send(None)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
