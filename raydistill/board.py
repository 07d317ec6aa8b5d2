"""What passes between the workers and the driver; without torch, so that its process starts at once."""

from __future__ import annotations

from raydistill.events import Event, TrialEvent


class Board:
    """Carries events from the workers to the driver, and remembers an error that no retry mends; a Ray actor."""

    def __init__(self) -> None:
        self._events: list[Event | TrialEvent] = []
        self._error: str | None = None

    def put(self, event: Event | TrialEvent) -> None:
        """Add an event."""
        self._events.append(event)

    def take(self) -> list[Event | TrialEvent]:
        """Return the events that came since the last call."""
        events, self._events = self._events, []
        return events

    def fail(self, message: str) -> None:
        """Remember the first error of the user's making."""
        self._error = self._error or message

    def error(self) -> str | None:
        """Return that error."""
        return self._error
