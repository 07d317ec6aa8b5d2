"""A terminal that is closed or full, and a machine at its end: sentences, and no work is lost for them."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from raydistill import train
from raydistill.command import FAILED, run_command
from raydistill.runs.streams import ForgivingStream, forgiving_streams
from raydistill.runs.system_errors import in_a_sentence
from tests.small import REPOSITORY

PRINTING = f"{sys.executable} -m raydistill.train quickstart --print-config"
SHELLS: dict[str, tuple[str, int, str]] = {
    "stdout full": (f"{PRINTING} >/dev/full", 2, "stdout: must take what is shown, got: No space left on device; part"),
    "stdout closed": (f"{PRINTING} >&-", 0, "stdout: is closed: what would be shown there is not"),
    "stderr closed": (f"{PRINTING} 2>&- | grep -c epochs", 0, ""),
    "stderr full": (f"{PRINTING} sead=1 2>/dev/full", 2, ""),
    "nobody reads to the end": (f"set -o pipefail; {PRINTING} | head -c 1 >/dev/null", 0, ""),
    "all closed": (f"{PRINTING} <&- >&- 2>&-", 0, ""),
}


@pytest.mark.parametrize("name", SHELLS)
def test_streams_that_take_nothing_are_a_sentence_at_most(name: str) -> None:
    command, code, said = SHELLS[name]
    ended = subprocess.run(["bash", "-c", command], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (ended.returncode, "Traceback" in ended.stderr, "ignored" in ended.stderr) == (code, False, False)
    assert said in ended.stderr


class _Full:
    def __init__(self, error: Exception) -> None:
        self.error, self.calls = error, 0

    def write(self, _: str) -> int:
        self.calls += 1
        raise self.error

    def flush(self) -> None:
        raise self.error

    def fileno(self) -> int:
        raise OSError(errno.EBADF, "no descriptor")


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), BrokenPipeError(), ValueError("I/O on closed file")])
def test_progress_that_cannot_be_shown_ends_no_work(error: Exception) -> None:
    full: Any = _Full(error)
    stream = ForgivingStream(full)
    for _ in range(3):
        assert stream.write("epoch 1") == 7
        stream.flush()
    assert full.calls == 1 and stream.problem is error


def test_the_streams_are_as_before_afterwards(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    with forgiving_streams() as streams:
        assert (sys.stdout, sys.stderr) == (streams.out, streams.err)
        sys.stdout.write("a result\n")
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr().out == "a result\n"


class _OfRayError(Exception):
    """Stands for one of Ray's."""


_OfRayError.__module__ = "ray.exceptions"
SAID: dict[str, tuple[Exception, str]] = {
    "few files": (OSError(errno.EMFILE, "Too many open files"), r"system: .* Too many open files; .*ulimit -n"),
    "a full disk": (OSError(errno.ENOSPC, "No space left"), "system: .*; make room on the disk"),
    "no memory": (MemoryError(), "memory: .* none is left; free memory"),
    "no room for numpy": (MemoryError("Unable to allocate 8 GiB"), "memory: .*8 GiB; free memory"),
    "no room for a library": (ImportError("libtorch.so: failed to map segment from shared object"), "ulimit -v"),
    "no thread": (RuntimeError("can't start new thread"), r"system: .*; allow more processes and threads"),
    "no handle to send": (RuntimeError("received 0 items of ancdata"), r"ulimit -n"),
    "no shared memory": (RuntimeError("unable to open shared memory object </torch_1>"), "make room"),
    "a loader killed": (RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated."), "loader: its proc"),
    "a clock that jumps": (OSError(errno.EINVAL, "Invalid argument"), "system: .*; look at the system and repeat"),
    "Ray lost": (
        _OfRayError("the GCS is gone"),
        "ray: must go on working, got: _OfRayError: the GCS is gone; repeat the command",
    ),
}


@pytest.mark.parametrize("name", SAID)
def test_a_machine_at_its_end_is_a_sentence_and_the_traceback_is_kept(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error, said = SAID[name]
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def work() -> int:
        raise error

    assert run_command(work, train.STOPPED, train.INTERRUPTED) == FAILED
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "Traceback" not in told
    assert re.search(said, told)
    assert "the same command goes on after the last finished epoch" in told
    (file,) = tmp_path.iterdir()
    assert told.endswith(f"the traceback is in {file}\n") and "Traceback" in file.read_text()


@pytest.mark.parametrize("error", [ZeroDivisionError(), TypeError("x"), RuntimeError("shapes"), ImportError("name")])
def test_our_own_faults_keep_their_traceback(error: Exception) -> None:
    def work() -> int:
        raise error

    assert in_a_sentence(error) == ""
    with pytest.raises(type(error)):
        run_command(work)


def test_where_no_traceback_can_be_kept_the_sentence_stands_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def work() -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("tempfile.mkstemp", none)
    assert run_command(work) == FAILED
    assert capsys.readouterr().err.endswith("lower loader.num_workers\n")
