"""What passes between the workers and the driver; without torch, so that its process starts at once."""

from __future__ import annotations

import time

from raydistill.runs.events import Event, TrialEvent

_ALIVE_SECONDS = 30  # without a question from a worker that asks several times a second, it is no more


class Board:
    """Carries events from the workers to the driver, and remembers errors that no retry mends; a Ray actor."""

    def __init__(self) -> None:
        self._events: list[Event | TrialEvent] = []
        self._errors: dict[str, str] = {}  # the first of each launch of workers
        self._stopping = False
        self._heard: dict[str, float] = {}  # when the main worker of each run or trial at work last asked
        self._places: dict[tuple[str, int], str] = {}  # the node of each worker, by what it works on and its rank

    def put(self, event: Event | TrialEvent) -> None:
        """Add an event."""
        self._events.append(event)

    def take(self) -> list[Event | TrialEvent]:
        """Return the events that came since the last call."""
        events, self._events = self._events, []
        return events

    def begin(self, name: str, rank: int, node: str) -> None:
        """Count a worker, on its node, among those at work on the run or trial ``name``."""
        self._places[name, rank] = node
        if rank == 0:
            self._heard[name] = time.monotonic()

    def leave(self, name: str, rank: int) -> None:
        """Count it out: its work has ended, or its checkpoint is written."""
        self._places.pop((name, rank), None)
        if rank == 0:
            self._heard.pop(name, None)

    def at_work(self) -> bool:
        """Return whether anything is at work that would be lost."""
        now = time.monotonic()
        return any(now - heard < _ALIVE_SECONDS for heard in self._heard.values())

    def places(self) -> dict[tuple[str, int], str]:
        """Return the node of every worker at work, by what it works on and its rank."""
        return self._places

    def forget(self, node: str) -> None:
        """Count the workers of a node that was lost out."""
        for name, rank in [worker for worker, place in self._places.items() if place == node]:
            self.leave(name, rank)

    def stop(self) -> None:
        """Ask everything at work to write a checkpoint and leave."""
        self._stopping = True

    def stopping(self, name: str) -> bool:
        """Return whether that was asked; the main worker at work on ``name`` wants to know, so it is alive."""
        if name in self._heard:
            self._heard[name] = time.monotonic()
        return self._stopping

    def fail(self, launch: str, message: str) -> None:
        """Remember the first error of the user's making among the workers of a launch."""
        self._errors.setdefault(launch, message)

    def error(self, launch: str) -> str | None:
        """Return that error."""
        return self._errors.get(launch)
