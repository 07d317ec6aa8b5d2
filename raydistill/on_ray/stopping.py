"""How workers of Ray hear of the wish to stop."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import ray
import ray.util.scheduling_strategies

from raydistill.on_ray.session import POLL_SECONDS
from raydistill.runs.stopping import Stopped

if TYPE_CHECKING:
    from raydistill.runs.worker import Worker


class TerminatedError(Exception):
    """Somebody ended this worker's process with SIGTERM, and it wrote a checkpoint; Ray is to start the group again."""


_terminated = threading.Event()  # SIGTERM came to this process


def heed_sigterm() -> None:
    """Let SIGTERM to this process, a worker of Ray Train, be a wish to stop that ``heeding`` sees.

    So end containers and machines that are taken away. Handlers can only be set in the main thread: Ray, which keeps it
    for itself, calls what its actor is asked to.
    """
    own = ray.get_runtime_context().current_actor
    ray.get(own.__ray_call__.remote(_take_sigterm))


def _take_sigterm(_: Any) -> None:
    signal.signal(signal.SIGTERM, lambda *_: _terminated.set())


@contextlib.contextmanager
def heeding(board: Any, name: str, worker: Worker) -> Iterator[None]:
    """Let the driver's wish to stop, or SIGTERM, reach a worker that works as ``name``; for the workers' side.

    Once its checkpoint is written the worker waits to be ended: Ray would take a return for success, an error for a
    failure.

    Raises:
        TerminatedError: when its checkpoint is written after SIGTERM to this process.
    """
    done = threading.Event()

    def follow() -> None:
        with contextlib.suppress(ray.exceptions.RayError):  # Ray is going down
            while not done.wait(POLL_SECONDS):
                if _terminated.is_set() or (worker.is_main and ray.get(board.stopping.remote(name))):
                    worker.stop.ask()
                    return

    ray.get(board.begin.remote(name, worker.rank, ray.get_runtime_context().get_node_id()))
    threading.Thread(target=follow, daemon=True).start()
    try:
        yield
    except Stopped as stopped:
        if _terminated.is_set() and not ray.get(board.stopping.remote(name)):
            raise TerminatedError from stopped
        ray.get(board.leave.remote(name, worker.rank))
        threading.Event().wait()
    finally:
        done.set()
        board.leave.remote(name, worker.rank)
