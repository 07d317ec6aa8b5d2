"""Files of a stage written in a thread, from copies of its tensors, while the training goes on."""

from __future__ import annotations

import contextlib
import copy
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from raydistill.errors import first_line
from raydistill.runs.stopping import Stopped, interrupt

_log = logging.getLogger(__name__)
_LOOK_SECONDS = 0.2  # between looks whether this thread was interrupted
_END_SECONDS = 3.0  # for a write to end where somebody wants to leave; then for it to clear away what it has begun


class Writing:
    """What is being written: one thing at most, and what went wrong with it until somebody has heard of it."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def begin(self, write: Callable[[], object]) -> None:
        """Run ``write`` in a thread, once what was begun before is done.

        Raises:
            UserError: as ``finish`` does.
        """
        self.finish()

        def run() -> None:
            try:
                write()
            except BaseException as error:  # noqa: BLE001  (handed on)
                self._error = error

        self._thread = threading.Thread(target=run, name="writes checkpoints", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Return when all that was begun is written.

        Raises:
            UserError: what went wrong, in the words in which the write itself raised it.
        """
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(_LOOK_SECONDS)
        self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    @contextlib.contextmanager
    def finished(self) -> Iterator[None]:
        """Let nothing be left to write when what is inside has ended, however it does.

        Who interrupts it does not wait long: then the write ends too, and leaves what was there before.
        """
        try:
            yield
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and not isinstance(error, Stopped):
                self._break_off()
            try:
                self.finish()
            except Exception as other:  # noqa: BLE001  (the first error counts)
                _log.warning("%s", first_line(other))
            raise
        self.finish()

    def _break_off(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None and thread.ident is not None:
            thread.join(_END_SECONDS)
            if thread.is_alive():
                interrupt(thread.ident)
                thread.join(_END_SECONDS)
        self._error = None


def copied(state: Any) -> Any:
    """Return a copy of a state dict, or of anything else of dicts, lists and tuples, with its tensors on the CPU.

    What is copied keeps its kind, so that a file of the copy reads as one of ``state`` does.
    """
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        made = copy.copy(state)
        for key, value in state.items():
            made[key] = copied(value)
        return made
    if type(state) in (list, tuple):
        return type(state)(copied(value) for value in state)
    return state
