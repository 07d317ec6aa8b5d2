"""Who is at work in an output directory."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from raydistill.errors import UserError
from raydistill.runs.directory import RunDirectory
from raydistill.storage.lock import locked
from raydistill.storage.output import Output
from raydistill.storage.owner import Owner, this_process
from tests.outputs import refuse_other_settings, write_settings
from tests.small import REPOSITORY, small_run

HOLDER = """
import os, sys, time
from raydistill.storage.output import Output
with Output.at(sys.argv[1]).opened():
    if os.fork() == 0:
        time.sleep(60)
    print("at work", os.getpid(), flush=True)
    time.sleep(60)
"""


def _refused(output: Path) -> bool:
    try:
        with Output.at(str(output)).opened():
            return False
    except UserError as error:
        assert str(error).startswith(f"{output}: another command is at work there")
        return True


def test_a_killed_command_holds_nothing_though_its_loader_process_still_lives(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], cwd=REPOSITORY, stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline().startswith(b"at work")
        time.sleep(0.2)
        assert _refused(tmp_path)
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        assert not _refused(tmp_path)
    finally:
        os.killpg(holder.pid, signal.SIGKILL)


def test_the_lock_ends_with_the_work_also_where_that_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Output.at(str(tmp_path)).opened():
        assert _refused(tmp_path)
        raise ZeroDivisionError
    assert not _refused(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["1e5", "1.5e3", "+1e3", "yes", "null", "0o17", "12:30:45", "2020-01-01", "a: b", " x ", "x\u2028y", "é", "~"],
)
def test_the_same_settings_are_the_same_run_whatever_a_class_or_a_split_is_called(name: str, tmp_path: Path) -> None:
    data = {"format": "voc", "root": str(tmp_path), "train_split": name, "classes": [name, "other"]}
    config = small_run(tmp_path / "run", f"data={json.dumps(data)}")
    write_settings(config, "baseline")
    RunDirectory(tmp_path / "run" / "baseline").result.write_text("{}")
    refuse_other_settings(config)
    with pytest.raises(UserError, match="seed=0 then, 1 now"):
        refuse_other_settings(config.model_copy(update={"seed": 1}))


WRONG: dict[str, Callable[[Path], None]] = {
    "a pipe": lambda path: os.mkfifo(path),
    "a link to a pipe": lambda path: (os.mkfifo(path.with_name("pipe")), path.symlink_to(path.with_name("pipe")))[1],
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": lambda path: path.mkdir(),
    "a socket": lambda path: socket.socket(socket.AF_UNIX).bind(str(path)),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_file_in_place_of_the_lock_is_a_sentence(name: str, tmp_path: Path) -> None:
    WRONG[name](tmp_path / ".lock")
    told = r"(\.lock: must be a file that commands lock, got|must be a directory to write)"
    with pytest.raises(UserError, match=told), locked(tmp_path, None, lambda _: None):
        pass


@pytest.mark.parametrize("content", [b"", b"mine\n", bytes(99), b"\xff\xfe", b"[" * 9999, b'{"id": 5}'])
def test_whatever_the_lock_holds_it_is_taken_where_nobody_has_it(content: bytes, tmp_path: Path) -> None:
    (tmp_path / ".lock").write_bytes(content)
    with locked(tmp_path, None, lambda _: None):
        found = Owner.read((tmp_path / ".lock").read_bytes())
        assert found is not None and found.alive and found.here and found.process == os.getpid()
        assert _refused(tmp_path)


def test_a_lock_of_a_command_that_is_no_more_is_waited_for(tmp_path: Path) -> None:
    """What it started holds the lock a moment longer."""
    code = """
import fcntl, os, sys, time
file = os.open(sys.argv[1], os.O_RDWR)
fcntl.flock(file, fcntl.LOCK_EX)
print("at work", flush=True)
time.sleep(float(sys.argv[2]))
"""
    gone = subprocess.Popen(["true"])
    gone.wait()
    owner = replace(this_process(), process=gone.pid, born="7")
    (tmp_path / ".lock").write_bytes(owner.written())
    arguments = [sys.executable, "-c", code, str(tmp_path / ".lock"), "0.7"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline()
        started = time.monotonic()
        assert not _refused(tmp_path)
        assert 0.2 < time.monotonic() - started < 10
