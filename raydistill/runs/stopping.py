"""Ending a run in good order: a first Ctrl-C or SIGTERM asks for a checkpoint, a second one ends it at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from raydistill.errors import UserError

SAVE_SECONDS = 20
"""How long after a first signal a checkpoint is waited for: systems that take a machine away give 30 s and more."""
END_SECONDS = 30
"""How long after it the process has ended, whatever it is busy with."""


class Stopped(KeyboardInterrupt):
    """The run ended as its user wished, with a checkpoint of where it was."""


class Stop:
    """Whether a run is to end; threads of its process share it."""

    def __init__(self) -> None:
        self._asked, self._ending, self._saved = threading.Event(), False, False
        self._problem = ""
        self._timers: list[threading.Timer] = []

    @property
    def wanted(self) -> bool:
        """Whether somebody asked for the end."""
        return self._asked.is_set()

    def ask(self) -> None:
        """Ask for the end, at the next step."""
        self._asked.set()

    def end(self, saved: bool) -> None:
        """End what the main thread does, once: all is ``saved``, or will not be; for another thread."""
        if self._ending:
            return
        self._ending, self._saved = True, saved
        self.ask()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def fail(self, problem: str) -> None:
        """End what the main thread does, once, with a sentence for its user; for another thread."""
        if not self._ending:
            self._problem = problem
            self.after(END_SECONDS, lambda: _end_process(problem, 2))
            self.end(saved=False)

    def interruption(self) -> BaseException:
        """Return what the main thread's work ends with."""
        if self._problem:
            return UserError(self._problem)
        return Stopped() if self._saved else KeyboardInterrupt()

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something after some time, unless ``forget`` comes first."""
        self._timers.append(threading.Timer(seconds, act))
        self._timers[-1].daemon = True
        self._timers[-1].start()

    def forget(self) -> None:
        """Do nothing any more of what was to come."""
        for timer in self._timers:
            timer.cancel()


@contextlib.contextmanager
def stoppable() -> Iterator[Stop]:
    """Let SIGINT and SIGTERM ask the ``Stop`` that this gives, while it lasts; a second one raises KeyboardInterrupt.

    So does a first one after ``SAVE_SECONDS``; after ``END_SECONDS`` the process is ended whatever it does. Processes
    forked meanwhile, such as the loader's, leave it to their parent.
    """
    stop, owner = Stop(), os.getpid()

    def handle(number: int, _: FrameType | None) -> None:
        if os.getpid() != owner:
            return
        if stop.wanted:
            raise stop.interruption()
        stop.ask()
        _say(
            f"{signal.Signals(number).name}: a checkpoint is written after this step, in {SAVE_SECONDS} s at most, and "
            f"the process ends within {END_SECONDS} s; a second Ctrl-C ends it at once"
        )
        stop.after(SAVE_SECONDS, lambda: stop.end(saved=False))
        ended = f"ended after {END_SECONDS} s; the same command goes on after the last checkpoint"
        stop.after(END_SECONDS, lambda: _end_process(ended, 130))

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        stop.forget()
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_process(last_words: str, code: int) -> None:
    _say(last_words)
    os._exit(code)


def _say(text: str) -> None:
    """Write to stderr as a signal's handler may: whatever else is just being written."""
    os.write(2, f"\n{text}\n".encode())
