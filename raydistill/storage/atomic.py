"""Files written whole or not at all, and there after a power cut."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from raydistill.errors import UserError
from raydistill.storage.files import Remote, make_way
from raydistill.storage.retry import patiently


@contextlib.contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """Give a temporary file that takes the place of ``path`` at the end; where that is not reached nothing is left."""
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        Path(part).replace(path)
    finally:
        Path(part).unlink(missing_ok=True)


def append_line(path: Path, line: str, remote: Remote | None = None) -> None:
    """Add a line to a file, durably, also on ``remote``; storage that fails for a while is waited for.

    Raises:
        OSError: when that fails; the file is then as it was.
        UserError: when ``remote`` cannot be used; what it had before is then intact.
    """

    def attempt() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            before = os.fstat(handle).st_size
            try:
                rest = f"{line}\n".encode()
                while rest:
                    rest = rest[os.write(handle, rest) :]
                os.fsync(handle)
            except OSError:
                os.ftruncate(handle, before)
                raise
        finally:
            os.close(handle)

    patiently(attempt, path)
    if remote is not None:
        remote.put(path)


def sync_folder(folder: Path) -> None:
    """Make it durable that a file has its name, where the system can do that."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(handle)


PART = ".part"  # how files end that are being written


def write_atomically(
    path: Path, write: Callable[[IO[bytes]], None], keep: int = 1, remote: Remote | None = None
) -> None:
    """Let ``write`` fill a temporary file beside ``path``, make it durable and put it in place, also on ``remote``.

    Storage that fails for a while is waited for, and ``write`` called again. With ``keep`` that many versions stay: the
    new one and the ones before it, see ``files.versions``.

    Raises:
        UserError: when the disk is full or the place cannot be written, also on ``remote``; what was
            at ``path`` before is then intact.
    """

    def attempt() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
        try:
            with os.fdopen(handle, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
            if keep > 1:
                make_way(path, keep, remote)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)

    try:
        patiently(attempt, path)
    except (OSError, RuntimeError) as error:  # torch.save turns an error of the disk into a RuntimeError
        raise UserError(
            f"{path}: cannot be written ({error}); what was there is intact; make room or choose another output"
        ) from error
    if remote is not None:
        remote.put(path)


def write_text(path: Path, text: str, remote: Remote | None = None) -> None:
    """Write ``text`` as UTF-8."""
    write_atomically(path, lambda file: file.writelines([text.encode()]), remote=remote)


def write_json(path: Path, value: Any, remote: Remote | None = None) -> None:
    """Write ``value`` as indented JSON."""
    write_text(path, json.dumps(value, indent=2), remote)
