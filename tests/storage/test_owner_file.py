"""A folder on storage that locks no files: a file there says which command is at work."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from raydistill.errors import UserError
from raydistill.storage import flocks, owner_file
from raydistill.storage import owner as owner_module
from raydistill.storage.cache import ObjectCache
from raydistill.storage.output import Output
from raydistill.storage.owner import Owner
from raydistill.storage.owner_file import owned
from tests.small import PATIENCE

STRANGER = Owner("theirs", "elsewhere", 42, "another machine", "7")
DEAD = Owner("theirs", "here", 2**22 + 1, owner_module._machine(), "7")


@pytest.fixture(autouse=True)
def _no_locks_and_short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(flocks.fcntl, "flock", refuse)
    monkeypatch.setattr(owner_file, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(owner_file, "LOST_SECONDS", 1.0)
    monkeypatch.setattr(owner_file, "_LOOK_SECONDS", 0.02)


def _ignore(_: str) -> None:
    pass


def _leave(folder: Path, owner: Owner) -> None:
    (folder / ".owner").write_bytes(owner.written().ljust(1000))


def _named(folder: Path) -> Owner:
    return Owner(**json.loads((folder / ".owner").read_text()))


def test_an_output_there_keeps_a_second_command_away_and_says_how(tmp_path: Path) -> None:
    with Output.at(str(tmp_path)).opened():
        said = rf"^{tmp_path}: another command is at work there \(process {os.getpid()} on .*\); wait for it or choose"
        with pytest.raises(UserError, match=rf"{said}.*this storage locks no files: {tmp_path}/.owner"):
            Output.at(str(tmp_path)).opened().__enter__()
    with Output.at(str(tmp_path)).opened():
        pass
    assert sorted(file.name for file in tmp_path.iterdir()) == [".lock"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.EIO])
def test_whatever_the_storage_says_of_locks_it_has_none(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(flocks.fcntl, "flock", refuse)
    with Output.at(str(tmp_path)).opened():
        assert _named(tmp_path).process == os.getpid()


def test_a_killed_command_of_this_machine_is_no_obstacle(tmp_path: Path) -> None:
    _leave(tmp_path, DEAD)
    with owned(tmp_path, _ignore):
        assert _named(tmp_path).process == os.getpid()
    assert [*tmp_path.iterdir()] == []


def test_a_command_elsewhere_that_shows_a_sign_of_life_refuses_a_second_one(tmp_path: Path) -> None:
    _leave(tmp_path, STRANGER)
    refused = threading.Event()

    def show_signs() -> None:
        for beat in itertools.count(1):
            if refused.wait(0.1):
                return
            _leave(tmp_path, dataclasses.replace(STRANGER, beat=beat))

    signs = threading.Thread(target=show_signs)
    signs.start()
    with pytest.raises(UserError, match=r"another command is at work there \(process 42 on elsewhere\)"):
        owned(tmp_path, _ignore).__enter__()
    refused.set()
    signs.join()
    assert _named(tmp_path).host == "elsewhere"


def test_a_command_elsewhere_without_a_sign_of_life_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _leave(tmp_path, STRANGER)
    with owned(tmp_path, _ignore):
        assert _named(tmp_path).process == os.getpid()
    assert "process 42 on elsewhere was at work there; a sign of life of it is waited for, 1 s at most" in caplog.text


def _tries(folder: Path, times: int) -> list[str]:
    """Let so many commands begin at once, and return what those hear that are refused."""
    together = threading.Barrier(times)

    def begin(_: int) -> str:
        together.wait()
        try:
            held.enter_context(owned(folder, _ignore))
        except UserError as error:
            return str(error)
        return ""

    with contextlib.ExitStack() as held, ThreadPoolExecutor(times) as pool:
        return sorted(filter(None, pool.map(begin, range(times))))


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("before", [None, DEAD, STRANGER])
def test_of_eight_that_begin_together_one_is_let_in(
    before: Owner | None, links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:
        monkeypatch.setattr(owner_file.os, "link", _refuse_link)
    if before is not None:
        _leave(tmp_path, before)
    refused = _tries(tmp_path, 8)
    assert len(refused) == 7
    assert all("another command is at work there" in said for said in refused)
    assert [*tmp_path.iterdir()] == []


def _refuse_link(*_: object) -> None:
    raise PermissionError(errno.EPERM, "no links here")


def test_one_that_was_killed_as_it_took_a_place_is_no_obstacle(tmp_path: Path) -> None:
    _leave(tmp_path, DEAD)
    (tmp_path / f".owner.{DEAD.id}").write_bytes(dataclasses.replace(DEAD, id="a third").written())
    with owned(tmp_path, _ignore):
        assert _named(tmp_path).process == os.getpid()


def test_of_two_processes_one_works_and_the_next_comes_after_it_is_killed(tmp_path: Path) -> None:
    code = (
        "import fcntl, sys, time; from pathlib import Path\n"
        "from raydistill.storage.output import Output\n"
        "def refuse(*_): raise OSError(38, 'not here')\n"
        "fcntl.flock = refuse\n"
        "with Output.at(sys.argv[1]).opened():\n"
        "    print('in', flush=True); time.sleep(1000)\n"
    )
    first = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None and first.stdout.readline() == "in\n"
    with pytest.raises(UserError, match=rf"another command is at work there \(process {first.pid} on "):
        Output.at(str(tmp_path)).opened().__enter__()
    first.kill()
    first.wait()
    with Output.at(str(tmp_path)).opened():
        assert _named(tmp_path).process == os.getpid()


def _until(seen: Iterator[bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not next(seen):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_holder_shows_signs_of_life(tmp_path: Path) -> None:
    with owned(tmp_path, _ignore):
        assert _named(tmp_path).beat == 0
        _until(_named(tmp_path).beat > 1 for _ in itertools.count())


def test_a_command_that_lost_its_folder_hears_who_has_it_and_leaves_it_to_that_one(tmp_path: Path) -> None:
    heard: list[str] = []
    with owned(tmp_path, heard.append):
        new = tmp_path / "new"
        new.write_bytes(STRANGER.written())
        new.rename(tmp_path / ".owner")
        _until(bool(heard) for _ in itertools.count())
    assert "got: process 42 on elsewhere has taken the folder over; repeat the command" in heard[0]
    assert _named(tmp_path) == STRANGER


def test_a_command_that_lost_its_folder_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    monkeypatch.setattr("raydistill.storage.output.os.kill", lambda _, number: sent.append(number))
    with Output.at(str(tmp_path)).opened():
        (tmp_path / ".owner").unlink()
        _until(bool(sent) for _ in itertools.count())
    assert sent == [signal.SIGINT]


def test_a_file_that_is_none_of_ours_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / ".owner").write_text("something else")
    with pytest.raises(UserError, match=r"\.owner: must name the command at work there, holds something else; remove"):
        owned(tmp_path, _ignore).__enter__()


def test_copies_of_objects_are_kept_there_too(tmp_path: Path) -> None:
    cache = ObjectCache(str(tmp_path / "cache"), 1000)
    with cache.open("s3://bucket/a", 3, lambda path: path.write_bytes(b"abc")) as file:
        assert file.read() == b"abc"
