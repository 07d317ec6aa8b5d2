"""Who is at work in an output directory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raydistill.errors import UserError
from raydistill.storage.lock import locked
from tests.small import REPOSITORY

HOLDER = """
import os, sys, time
from pathlib import Path
from raydistill.storage.lock import locked
with locked(Path(sys.argv[1])):
    if os.fork() == 0:
        time.sleep(60)
    print("at work", os.getpid(), flush=True)
    time.sleep(60)
"""


def _refused(output: Path) -> bool:
    try:
        with locked(output):
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
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        assert _refused(tmp_path)
        raise ZeroDivisionError
    assert not _refused(tmp_path)
