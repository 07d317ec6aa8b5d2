"""What the package logs, shown where a run's notes are."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

from raydistill.errors import printable
from raydistill.runs.events import Note
from raydistill.runs.worker import Worker


@contextlib.contextmanager
def log_to_notes(notify: Callable[[Note], None], worker: Worker) -> Iterator[None]:
    """Hand what the package logs to the user's display while a run lasts."""
    handler = _Handler(notify) if worker.is_main else logging.NullHandler()
    logger = logging.getLogger("raydistill")
    logger.addHandler(handler)
    logger.propagate, level = False, logger.level
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
        logger.setLevel(level)


class PrintableFormatter(logging.Formatter):
    """Shows what is logged as `printable` shows it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record in one text."""
        return printable(super().format(record), lines=True)


def log_to_stderr() -> None:
    """Show what the package logs on stderr, a line each, for a command without a display."""
    logging.basicConfig(format="%(message)s")
    for handler in logging.getLogger().handlers:
        handler.setFormatter(PrintableFormatter("%(message)s"))
    logging.getLogger("raydistill").setLevel(logging.INFO)


class _Handler(logging.Handler):
    def __init__(self, notify: Callable[[Note], None]) -> None:
        super().__init__()
        self._notify = notify

    def emit(self, record: logging.LogRecord) -> None:
        self._notify(Note(record.getMessage(), warning=record.levelno >= logging.WARNING))
