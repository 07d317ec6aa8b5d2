"""Files on storage that fails: for a while, or for good; and the versions of a file."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from raydistill.errors import UserError
from raydistill.runs.weights_file import load, save
from raydistill.storage import retry
from raydistill.storage.atomic import append_line, write_atomically
from raydistill.storage.files import versions
from raydistill.storage.retry import WAITS


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were waited, without waiting."""
    seconds: list[float] = []
    monkeypatch.setattr(retry.time, "sleep", seconds.append)
    return seconds


def _failing(function: Callable[..., Any], number: int, times: int) -> Callable[..., Any]:
    """Return ``function`` with a system's error in its first calls."""
    left = [times]

    def call(*given: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(number, os.strerror(number))
        return function(*given)

    return call


# Storage that fails ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
def test_storage_that_fails_for_a_while_is_waited_for(
    number: int,
    tmp_path: Path,
    waited: list[float],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(os, "fsync", _failing(os.fsync, number, times=2))
    save(tmp_path / "state.pt", {"epoch": 3})
    assert load(tmp_path / "state.pt") == {"epoch": 3}
    assert waited == [0.5, 2.0]
    assert "state.pt: storage fails" in caplog.text
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]


def test_what_torch_makes_of_an_error_of_the_storage_is_waited_for_too(tmp_path: Path, waited: list[float]) -> None:
    """torch.save raises a RuntimeError of its own where a write has failed."""
    left = [1]

    class Unsteady:
        def __init__(self, file: Any) -> None:
            self._file = file

        def write(self, data: Any) -> int:
            if left[0] and self._file.tell() > 1000:
                left[0] = 0
                raise OSError(errno.EIO, "Input/output error")
            return int(self._file.write(data))

        def flush(self) -> None:
            self._file.flush()

    path = tmp_path / "state.pt"
    write_atomically(path, lambda file: torch.save({"weight": torch.arange(1000.0)}, Unsteady(file)))
    assert torch.equal(load(path)["weight"], torch.arange(1000.0))
    assert (waited, left) == ([0.5], [0])


def test_storage_that_stays_away_is_a_sentence_after_half_a_minute(
    tmp_path: Path, waited: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", _failing(os.fsync, errno.EIO, times=99))
    with pytest.raises(UserError, match=r"file: cannot be written .*Input/output error.*; what was there is intact"):
        write_atomically(tmp_path / "file", lambda file: file.write(b"new"))
    assert waited == list(WAITS)
    assert sum(waited) < 60
    assert (tmp_path / "file").read_bytes() == b"old"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT])
def test_what_only_the_user_can_mend_is_not_waited_for(
    number: int, tmp_path: Path, waited: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", _failing(os.fsync, number, times=1))
    with pytest.raises(UserError, match="cannot be written"):
        write_atomically(tmp_path / "file", lambda file: file.write(b"new"))
    assert waited == []


# Lines ----------------------------------------------------------------------------------------------------------------
def test_a_line_is_added_once_though_storage_fails_in_the_middle_of_it(
    tmp_path: Path, waited: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, write = tmp_path / "new" / "lines", os.write
    append_line(path, "one")
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:2]))  # as a disk that is nearly full
    monkeypatch.setattr(os, "fsync", _failing(os.fsync, errno.EIO, times=2))
    append_line(path, "another")
    assert path.read_text() == "one\nanother\n"
    assert waited == [0.5, 2.0]


def test_a_line_that_cannot_be_added_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, write = tmp_path / "lines", os.write
    append_line(path, "one")
    written = [5]

    def filling(handle: int, data: bytes) -> int:
        if not written[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written[0] = 0
        return write(handle, data[:5])

    monkeypatch.setattr(os, "write", filling)
    with pytest.raises(OSError, match="No space left"):
        append_line(path, "another")
    assert path.read_text() == "one\n"


# Versions -------------------------------------------------------------------------------------------------------------
def _write(path: Path, text: str, keep: int) -> None:
    write_atomically(path, lambda file: file.write(text.encode()), keep)


def test_as_many_versions_as_wanted_stay_newest_first(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    for number in range(5):
        _write(path, str(number), keep=3)
    assert [file.read_text() for file in versions(path)] == ["4", "3", "2"]
    assert [file.name for file in versions(path)] == ["checkpoint.pt", "checkpoint.1.pt", "checkpoint.2.pt"]
    assert len([*tmp_path.iterdir()]) == 3


def test_fewer_versions_than_before_are_wanted_and_stay(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    for number in range(12):
        _write(path, str(number), keep=11)
    assert [file.read_text() for file in versions(path)] == [str(number) for number in reversed(range(1, 12))]
    _write(path, "12", keep=2)
    assert [file.read_text() for file in versions(path)] == ["12", "11"]


def test_other_files_are_no_versions_and_are_never_removed(tmp_path: Path) -> None:
    others = ["best.pt", "last.pt", "checkpoint.pt.damaged", "checkpoint.old.pt", "checkpoint2.pt", ".checkpoint.9.pt"]
    for name in others:
        (tmp_path / name).write_text(name)
    for number in range(4):
        _write(tmp_path / "checkpoint.pt", str(number), keep=2)
    assert [file.read_text() for file in versions(tmp_path / "checkpoint.pt")] == ["3", "2"]
    assert all((tmp_path / name).read_text() == name for name in others)


@pytest.mark.parametrize("renames", [1, 2, 3])
def test_whoever_is_killed_between_two_versions_leaves_those_before(
    renames: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, left, replace = tmp_path / "checkpoint.pt", [renames], Path.replace
    for number in range(3):
        _write(path, str(number), keep=3)

    def ending(self: Path, target: Path) -> Path:
        left[0] -= 1
        if not left[0]:
            raise SystemExit
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", ending)
    with pytest.raises(SystemExit):
        _write(path, "3", keep=3)
    monkeypatch.undo()
    assert [file.read_text() for file in versions(path)] == ["2", "1"]
    _write(path, "3", keep=3)
    assert [file.read_text() for file in versions(path)] == ["3", "2", "1"]
