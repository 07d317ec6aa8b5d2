"""Standard streams that may be closed, full, or read by somebody who has left: no work ends for them."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TextIO


class ForgivingStream:
    """A stream that is written to as long as it takes anything; after that it takes all, and shows nothing."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.problem: Exception | None = None

    def write(self, text: str) -> int:
        """Write, if that works."""
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush, if that works."""
        self._try(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        """Be the stream in all else."""
        return getattr(self._stream, name)

    def _try(self, act: Any) -> None:
        if self.problem is not None:
            return
        try:
            act()
        except (OSError, ValueError) as error:  # ValueError: it was closed
            self.problem = error
            with contextlib.suppress(OSError, ValueError):  # what is still buffered must go somewhere at the end
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, self._stream.fileno())
                os.close(nothing)


@dataclass(frozen=True)
class Streams:
    """What a command shows its results and its progress on."""

    out: ForgivingStream
    err: ForgivingStream

    @property
    def problem(self) -> str:
        """Say why results could not be shown; empty where they could, or where their reader wanted no more."""
        self.out.flush()
        found = self.out.problem
        if found is None or isinstance(found, BrokenPipeError):
            return ""
        reason = found.strerror if isinstance(found, OSError) and found.strerror else found
        return f"stdout: must take what is shown, got: {reason}; part of it is lost, all files are written"


@contextlib.contextmanager
def forgiving_streams() -> Iterator[Streams]:
    """Let stdout and stderr be forgiving while this lasts; those that are closed are opened, to show nothing."""
    closed = [descriptor for descriptor in (0, 1, 2) if not _is_open(descriptor)]
    for descriptor in closed:  # else the next file that is opened would be taken for it
        opened = os.open(os.devnull, os.O_RDWR)
        if opened != descriptor:
            os.dup2(opened, descriptor)
            os.close(opened)
    before = sys.stdout, sys.stderr
    streams = Streams(*(ForgivingStream(_open_stream(stream, fd)) for stream, fd in zip(before, (1, 2), strict=True)))
    sys.stdout, sys.stderr = streams.out, streams.err
    if 1 in closed:
        streams.err.write("stdout: is closed: what would be shown there is not\n")
    try:
        yield streams
    finally:
        streams.out.flush()
        streams.err.flush()
        sys.stdout, sys.stderr = before


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _open_stream(stream: TextIO | None, descriptor: int) -> TextIO:
    """Return Python's stream; it has none where the system's was closed."""
    if stream is not None:
        return stream
    return open(descriptor, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
