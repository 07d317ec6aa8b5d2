"""What the system or a library says when a machine is at its end, in a sentence."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import traceback
from pathlib import Path

from raydistill.errors import first_line

_ADVICE = {
    errno.EMFILE: "allow more open files (ulimit -n), or lower loader.num_workers",
    errno.ENFILE: "the whole system has too many open files",
    errno.ENOMEM: "free memory, or allow more (ulimit -v)",
    errno.EAGAIN: "allow more processes and threads (ulimit -u)",
    errno.ENOSPC: "make room on the disk, or set TMPDIR to another one",
    errno.EDQUOT: "make room in the quota",
    errno.EROFS: "choose a place that can be written",
    errno.EACCES: "correct its permissions",
}
_PHRASES = {  # of what libraries raise for the same reasons, as errors of other kinds
    "failed to map segment": errno.ENOMEM,
    "cannot allocate memory": errno.ENOMEM,
    "can't allocate memory": errno.ENOMEM,
    "unable to allocate": errno.ENOMEM,
    "not enough memory": errno.ENOMEM,
    "unable to mmap": errno.ENOMEM,
    "can't start new thread": errno.EAGAIN,
    "resource temporarily unavailable": errno.EAGAIN,
    "too many open files": errno.EMFILE,
    "ancdata": errno.EMFILE,
    "no space left on device": errno.ENOSPC,
    "shared memory": errno.ENOSPC,
}
_RAY = "ray."
_LOADER = "DataLoader worker"


def in_a_sentence(error: Exception) -> str:
    """Return what a system's or library's error says, and what to do; empty for an error of any other kind."""
    text = " ".join(first_line(error).split())[:300]
    if isinstance(error, MemoryError):
        return f"memory: must hold what is computed, got: {text or 'none is left'}; {_ADVICE[errno.ENOMEM]}"
    number = error.errno if isinstance(error, OSError) and error.errno else _number_of(str(error))
    if isinstance(error, OSError) or (
        number is not None and isinstance(error, RuntimeError | ImportError | SystemError)
    ):
        advice = _ADVICE.get(number or 0, "look at the system and repeat the command")
        return f"system: must give what is asked of it, got: {text}; {advice}"
    if _LOADER in text:
        return f"loader: its processes must live as long as the training, got: {text}; repeat the command"
    if type(error).__module__.startswith(_RAY):
        return f"ray: must go on working, got: {type(error).__name__}: {text}; repeat the command"
    return ""


def keep_traceback(error: BaseException) -> str:
    """Write the traceback into a file and return its name; empty where there is no place for it."""
    with contextlib.suppress(OSError, RuntimeError, MemoryError):
        handle, name = tempfile.mkstemp(prefix="raydistill-", suffix=".txt")
        os.close(handle)
        Path(name).write_text("".join(traceback.format_exception(error)), encoding="utf-8", errors="backslashreplace")
        return name
    return ""


def _number_of(text: str) -> int | None:
    lowered = text.lower()
    return next((number for phrase, number in _PHRASES.items() if phrase in lowered), None)
