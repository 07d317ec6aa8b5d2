"""Work on Ray in a process of its own, for one that is its user's: a notebook, a program, a thread of it.

What Ray does to a process that drives it (its environment, signals, log levels) it does to that one, and with it ends
all that was started. A Ray that the user's process has started or joined is used and stays as it is: there the work is
another job.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from typing import IO, Any, Literal, TypeVar

from raydistill.errors import UserError
from raydistill.runs.stopping import Stop, Stopped, stoppable
from raydistill.storage.mirror import named

Given = TypeVar("Given")
Made = TypeVar("Made")
Send = Callable[[Any], None]
_POLL_SECONDS = 0.2
_LEAVE_SECONDS = 30  # for Ray to end, once the work has
_LAST_WORDS = 4000  # characters of what a process wrote that ended by itself


@dataclass(frozen=True)
class _Ended:
    """The last that the process sends."""

    how: Literal["done", "refused", "stopped", "interrupted", "failed"]
    value: Any = None  # what the work returned; the error's message; a traceback


def run_apart(work: Callable[[Given, Send, Stop], Made], given: Given, listener: Send, stop: Stop) -> Made:
    """Return what ``work(given, send, stop)`` returns in a process of its own.

    Args:
        work: a function of a module.
        given: what it works on; picklable.
        listener: is called here with what the work sends.
        stop: the wish to end it; reaches it as SIGTERM.

    Raises:
        UserError: as the work does.
        KeyboardInterrupt: as the work does: ``Stopped`` when it has written a checkpoint.
        RuntimeError: with the traceback of any other error.
    """
    ours, theirs = Pipe()
    with ours, theirs, tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-c", f"from raydistill.driver import serve; serve({theirs.fileno()})"],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            env=_environment(),
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # Ctrl-C is for this process
        )
        try:
            theirs.close()
            ended = _follow(process, ours, (work, given), listener, stop)
            if ended is None:
                if stop.wanted:
                    raise stop.interruption()
                raise RuntimeError(f"the process that drives Ray has ended by itself:\n{_last_words(said)}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LEAVE_SECONDS)
        finally:
            process.kill()
            process.wait()
    made: Made = _made_by(ended)
    return made


def address_of_ray() -> str:
    """Return the address of the Ray that this process uses; empty where it uses none."""
    ray: Any = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return ""
    return str(ray.get_runtime_context().gcs_address)


def serve(descriptor: int) -> None:
    """Be that process: do the work that comes over the pipe, send what it says and how it ended."""
    connection, lock = Connection(descriptor), threading.Lock()

    def send(message: Any) -> None:
        with lock:  # several threads have something to say
            connection.send(message)

    work, given = connection.recv()
    threading.Thread(target=_end_with_the_other, args=[connection], daemon=True).start()
    send(_end_of(work, given, send))


def _follow(
    process: subprocess.Popen[bytes], pipe: Connection, order: Any, listener: Send, stop: Stop
) -> _Ended | None:
    """Give the process its work and hand on what it says until it has ended; None where it does not say how."""
    asked = False
    with contextlib.suppress(EOFError, ConnectionError):
        pipe.send(order)
        while True:
            if stop.wanted and not asked:
                process.send_signal(signal.SIGTERM)
                asked = True
            if pipe.poll(_POLL_SECONDS):
                message = pipe.recv()
                if isinstance(message, _Ended):
                    return message
                listener(message)
    return None


def _end_of(work: Callable[[Any, Send, Stop], Any], given: Any, send: Send) -> _Ended:
    try:
        with stoppable() as stop:
            return _Ended("done", work(given, send, stop))
    except UserError as error:
        return _Ended("refused", named(str(error)))
    except Stopped:
        return _Ended("stopped")
    except KeyboardInterrupt:
        return _Ended("interrupted")
    except Exception:  # noqa: BLE001  (handed on)
        return _Ended("failed", traceback.format_exc())


def _made_by(ended: _Ended) -> Any:
    """Return what the work made, or raise what it raised."""
    if ended.how == "refused":
        raise UserError(ended.value)
    if ended.how == "stopped":
        raise Stopped
    if ended.how == "interrupted":
        raise KeyboardInterrupt
    if ended.how == "failed":
        raise RuntimeError(f"in the process that drives Ray:\n{ended.value}")
    return ended.value


def _end_with_the_other(connection: Connection) -> None:
    """Wait until the user's process is no more, and end in good order then."""
    with contextlib.suppress(EOFError, OSError):
        connection.recv()
    os.kill(os.getpid(), signal.SIGTERM)


def _environment() -> dict[str, str]:
    """Return the environment of that process: it imports from where this one does, and joins the same Ray."""
    paths = os.pathsep.join(path for path in sys.path if path)
    joined = address_of_ray()
    return {**os.environ, "PYTHONPATH": paths, **({"RAY_ADDRESS": joined} if joined else {})}


def _last_words(said: IO[bytes]) -> str:
    said.seek(0)
    return said.read().decode(errors="replace")[-_LAST_WORDS:]
