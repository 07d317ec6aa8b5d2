"""Ending a run in good order: a first Ctrl-C, SIGTERM or SIGHUP asks for a checkpoint, a second one ends it at once."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from raydistill.errors import UserError

SAVE_SECONDS = 20
"""How long after a first signal a checkpoint is waited for: systems that take a machine away give 30 s and more."""
END_SECONDS = 30
"""How long after it the process has ended, whatever it is busy with."""


class Stopped(KeyboardInterrupt):
    """The run ended as its user wished, with a checkpoint of where it was."""


class Stop:
    """Whether a run is to end; threads of its process share it.

    Args:
        thread: the one that the run is in; None is the main thread.
        ends_process: whether the process is the run's own, and ends with it.
    """

    def __init__(self, thread: int | None = None, ends_process: bool = True) -> None:
        self._asked, self._ending, self._saved = threading.Event(), False, False
        self._thread, self.ends_process = thread, ends_process
        self.signalled = False
        """Whether a signal asked, from outside."""
        self._problem = ""
        self._timers: list[threading.Timer] = []

    @property
    def wanted(self) -> bool:
        """Whether somebody asked for the end."""
        return self._asked.is_set()

    def ask(self) -> None:
        """Ask for the end, at the next step."""
        self._asked.set()

    def withdraw(self) -> None:
        """Take the wish back, once what it was about has ended and something else follows."""
        self._asked.clear()
        self._ending = self._saved = False

    @property
    def ending(self) -> bool:
        """Whether the run's thread was told to end what it does."""
        return self._ending

    def end(self, saved: bool) -> None:
        """End what the run's thread does, once: all is ``saved``, or will not be; for another thread."""
        if self._ending:
            return
        self._ending, self._saved = True, saved
        self.ask()
        if self._thread is None:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        else:
            interrupt(self._thread)

    def fail(self, problem: str) -> None:
        """End what the run's thread does, once, with a sentence for its user; for another thread."""
        if not self._ending:
            self._problem = problem
            self.end_process_after(END_SECONDS, problem, 2)
            self.end(saved=False)

    def interruption(self) -> BaseException:
        """Return what the run's thread ends with."""
        if self._problem:
            return UserError(self._problem)
        return Stopped() if self._saved else KeyboardInterrupt()

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something after some time, unless ``forget`` comes first."""
        self._timers.append(threading.Timer(seconds, act))
        self._timers[-1].daemon = True
        self._timers[-1].start()

    def end_process_after(self, seconds: float, last_words: str, code: int) -> None:
        """End the process after some time whatever it does, where it is the run's own."""
        if self.ends_process:
            self.after(seconds, lambda: _end_process(last_words, code))

    def forget(self) -> None:
        """Do nothing any more of what was to come."""
        for timer in self._timers:
            timer.cancel()


_LOADERS_END = "DataLoader worker"  # begins what torch says of its loader processes
_of_main_thread: list[Stop] = []  # of the outermost ``stoppable`` there


@contextlib.contextmanager
def stoppable(ends_process: bool = True) -> Iterator[Stop]:
    """Let SIGINT, SIGTERM and SIGHUP ask the ``Stop`` that this gives, while it lasts; a second one interrupts.

    So does a first one after ``SAVE_SECONDS``. Processes forked meanwhile, such as the loader's, leave it to their
    parent. Inside another ``stoppable`` this gives the outer one's. In a thread that is not the main one signals never
    arrive: there it is for what ends the run from within, such as a lost node.

    Args:
        ends_process: whether the process is the run's own: then it is ended after ``END_SECONDS`` whatever it does. A
            notebook's kernel is not.
    """
    if threading.current_thread() is not threading.main_thread():
        with _in_its_thread(Stop(threading.get_ident(), ends_process=False)) as stop:
            yield stop
    elif _of_main_thread:
        yield _of_main_thread[0]
    else:
        stop = Stop(ends_process=ends_process)
        _of_main_thread.append(stop)
        try:
            with _heeding_signals(stop, ends_process):
                yield stop
        except RuntimeError as error:
            if stop.wanted and _LOADERS_END in str(error):  # the signal went to them too
                raise stop.interruption() from error
            raise
        finally:
            _of_main_thread.clear()


@contextlib.contextmanager
def _in_its_thread(stop: Stop) -> Iterator[Stop]:
    """Give ``stop``, and end with what it says where it has ended this thread's work."""
    try:
        yield stop
    except KeyboardInterrupt as error:
        if stop.ending:
            raise stop.interruption() from error
        raise
    finally:
        stop.forget()


@contextlib.contextmanager
def _heeding_signals(stop: Stop, ends_process: bool) -> Iterator[None]:
    """Let signals ask ``stop``; in the main thread."""
    owner = os.getpid()
    how_long = f", and the process ends within {END_SECONDS} s" if ends_process else ""
    how_long = f"in {SAVE_SECONDS} s at most{how_long}"

    def handle(number: int, _: FrameType | None) -> None:
        if os.getpid() != owner:
            return
        stop.signalled = stop.signalled or not stop.ending  # ``end`` signals too
        if stop.wanted:
            raise stop.interruption()
        stop.ask()
        # torch's own handler raises where a loader process ends: the signal may have gone to these as well
        before.setdefault(signal.SIGCHLD, signal.signal(signal.SIGCHLD, lambda *_: None))
        again = "Ctrl-C" if ends_process else "interrupt"
        name = signal.Signals(number).name
        _say(f"{name}: a checkpoint is written after this step, {how_long}; a second {again} ends it at once")
        stop.after(SAVE_SECONDS, lambda: stop.end(saved=False))
        ended = f"ended after {END_SECONDS} s; the same command goes on after the last checkpoint"
        stop.end_process_after(END_SECONDS, ended, 130)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # ignored under nohup: then a lost terminal ends nothing
        numbers.append(signal.SIGHUP)
    before: dict[int, Any] = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        stop.forget()
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not set from Python


def interrupt(thread: int) -> None:
    """Raise KeyboardInterrupt in a thread of this process, before its next line of Python."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt))


def _end_process(last_words: str, code: int) -> None:
    _say(last_words)
    os._exit(code)


def _say(text: str) -> None:
    """Write to stderr as a signal's handler may: whatever else is just being written."""
    with contextlib.suppress(OSError):  # the terminal is gone
        os.write(2, f"\n{text}\n".encode())
