"""What passes between the workers and the driver; without torch, so that its process starts at once."""

from __future__ import annotations

from raydistill.events import Event, TrialEvent


class Board:
    """Carries events from the workers to the driver, and remembers an error that no retry mends; a Ray actor."""

    def __init__(self) -> None:
        self._events: list[Event | TrialEvent] = []
        self._error: str | None = None
        self._stopping = False
        self._at_work: set[str] = set()

    def put(self, event: Event | TrialEvent) -> None:
        """Add an event."""
        self._events.append(event)

    def take(self) -> list[Event | TrialEvent]:
        """Return the events that came since the last call."""
        events, self._events = self._events, []
        return events

    def begin(self, name: str) -> None:
        """Count a run or a trial among those at work."""
        self._at_work.add(name)

    def leave(self, name: str) -> None:
        """Count it out: it has ended, or its checkpoint is written."""
        self._at_work.discard(name)

    def at_work(self) -> bool:
        """Return whether anything is at work that would be lost."""
        return bool(self._at_work)

    def stop(self) -> None:
        """Ask everything at work to write a checkpoint and leave."""
        self._stopping = True

    def stopping(self) -> bool:
        """Return whether that was asked."""
        return self._stopping

    def fail(self, message: str) -> None:
        """Remember the first error of the user's making."""
        self._error = self._error or message

    def error(self) -> str | None:
        """Return that error."""
        return self._error
