"""The driver while workers run: it shows what they say, what was lost and what is waited for, and ends them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from raydistill.errors import UserError
from raydistill.on_ray.room import Queue, has_unmet_requests
from raydistill.on_ray.session import POLL_SECONDS
from raydistill.runs.events import Note
from raydistill.runs.stopping import Stop

if TYPE_CHECKING:
    from raydistill.runs.events import Listener

import ray

RUN = "run"
"""What the workers of a run are at work on; those of a sweep name their trial."""

_LOOK_SECONDS = 2  # at the cluster
_JOIN_SECONDS = 10


@contextlib.contextmanager
def shown(board: Any, queue: Queue, listener: Listener, stop: Stop) -> Iterator[None]:
    """Hand what arrives on the board to ``listener`` while the workers run, and the wish to ``stop`` to the workers.

    What runs inside is ended once all of them have written their checkpoint.

    Raises:
        UserError: when nothing is at work and no room for it comes within the time that ``queue`` gives.
    """
    watch = _Watch(board, queue, listener, stop)
    thread = threading.Thread(target=watch.until_done, daemon=True)
    thread.start()
    try:
        yield
    except KeyboardInterrupt:
        if watch.given_up:
            raise UserError(watch.given_up) from None
        raise
    finally:
        watch.done.set()
        thread.join(_JOIN_SECONDS)
        if not thread.is_alive():  # else Ray does not answer
            watch.show_new()


@dataclass
class _Watch:
    """What the thread does that looks after the workers."""

    board: Any
    queue: Queue
    listener: Listener
    stop: Stop
    done: threading.Event = field(default_factory=threading.Event)
    given_up: str = ""
    _told: bool = False  # the workers to stop
    _looked: float = 0.0  # at the cluster

    def until_done(self) -> None:
        """Look after the workers until they are done or were ended."""
        while not self.done.wait(POLL_SECONDS):
            self.show_new()
            with contextlib.suppress(ray.exceptions.RayError):  # Ray is going down, or busy: the last checkpoint counts
                if self._ended():
                    return

    def show_new(self) -> None:
        """Show the events that came."""
        with contextlib.suppress(ray.exceptions.RayError):
            for event in ray.get(self.board.take.remote()):
                self.listener(event)

    def _ended(self) -> bool:
        """Pass on the wish to stop; end what runs once all is saved, or when it will never run."""
        if self.stop.wanted:
            if not self._told:
                self.board.stop.remote()
                self._told = True
            elif not ray.get(self.board.at_work.remote()):
                self.show_new()
                self.stop.end(saved=True)
                return True
            return False
        if time.monotonic() - self._looked > _LOOK_SECONDS:
            self._looked = time.monotonic()
            self._tell_of_losses()
            self.given_up = self.queue.look(self._waiting())
            if self.given_up:
                self.stop.end(saved=False)
                return True
        return False

    def _waiting(self) -> bool:
        """Return whether nothing is at work for lack of room."""
        if ray.get(self.board.at_work.remote()):
            return False
        return has_unmet_requests() or bool(self.queue.demand.shortage())

    def _tell_of_losses(self) -> None:
        """Name the nodes that were lost and what was at work there."""
        places = ray.get(self.board.places.remote())
        if not places:
            return
        nodes = {node["NodeID"]: node for node in ray.nodes()}
        for lost in {place for place in places.values() if place in nodes and not nodes[place]["Alive"]}:
            there = sorted(worker for worker, place in places.items() if place == lost)
            self.board.forget.remote(lost)
            self.listener(Note(f"node {nodes[lost]['NodeManagerAddress']} was lost, {_with(there)}", warning=True))


def _with(workers: list[tuple[str, int]]) -> str:
    """Say what was lost with a node, and how it goes on.

    >>> _with([("run", 1)])
    'and with it worker 1; training goes on from the last checkpoint once its workers are there again'
    >>> _with([("p0001_s0", 0), ("p0002_s0", 0)])
    'and with it p0001_s0 and p0002_s0; they go on from their last checkpoints, on other nodes'
    """
    what = " and ".join(dict.fromkeys(f"worker {rank}" if name == RUN else name for name, rank in workers))
    if workers[0][0] == RUN:
        return f"and with it {what}; training goes on from the last checkpoint once its workers are there again"
    goes = "they go on from their last checkpoints" if len(workers) > 1 else "it goes on from its last checkpoint"
    return f"and with it {what}; {goes}, on other nodes"


def started_again(name: str, text: str) -> Note:
    """Return what is said of a worker at work on ``name`` that Ray starts again.

    >>> started_again("p0001_s0", "worker 1 was lost").text
    'p0001_s0: worker 1 was lost; Ray starts the workers again'
    """
    return Note(f"{'' if name == RUN else f'{name}: '}{text}; Ray starts the workers again", warning=True)
