"""Work in a process of its own: what it says, what it makes, and every way in which it ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raydistill.driver import Send, run_apart
from raydistill.errors import UserError
from raydistill.runs.stopping import Stop, Stopped, stoppable


def count(number: int, send: Send, stop: Stop) -> dict[str, Any]:
    """Work that says something and makes something."""
    for step in range(number):
        send(step)
    return {"pid": os.getpid(), "address": os.environ.get("RAY_ADDRESS"), "first": sys.path[0], "stops": stop.wanted}


def wait_for_the_end(marker: str, send: Send, stop: Stop) -> None:
    """Work that takes until it is to end, and then saves something."""
    send("begun")
    while not stop.wanted:
        time.sleep(0.01)
    Path(marker).write_text("saved")
    raise Stopped


def refuse(_: None, send: Send, stop: Stop) -> None:
    raise UserError("seed: must be another, got 3")


def fail(_: None, send: Send, stop: Stop) -> None:
    raise ZeroDivisionError("no luck")


def vanish(_: None, send: Send, stop: Stop) -> None:
    os.write(2, b"a word before it ends\n")
    os._exit(7)


def test_work_elsewhere_is_heard_here_in_order_and_what_it_makes_comes_back() -> None:
    heard: list[int] = []
    made = run_apart(count, 3, heard.append, Stop())
    assert heard == [0, 1, 2]
    assert made["pid"] != os.getpid()
    assert made["stops"] is False


def test_it_joins_the_ray_that_this_process_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    context = SimpleNamespace(gcs_address="10.0.0.1:6379")
    ray = SimpleNamespace(is_initialized=lambda: True, get_runtime_context=lambda: context)
    monkeypatch.setitem(sys.modules, "ray", ray)
    assert run_apart(count, 0, print, Stop())["address"] == "10.0.0.1:6379"
    ray.is_initialized = lambda: False
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert run_apart(count, 0, print, Stop())["address"] is None


def test_errors_of_the_users_and_ours_come_back_as_such() -> None:
    with pytest.raises(UserError, match=r"^seed: must be another, got 3$"):
        run_apart(refuse, None, print, Stop())
    with pytest.raises(RuntimeError, match=r"(?s) in fail\n.*ZeroDivisionError: no luck"):
        run_apart(fail, None, print, Stop())
    with pytest.raises(RuntimeError, match=r"has ended by itself:\na word before it ends"):
        run_apart(vanish, None, print, Stop())


def test_an_interrupt_here_lets_it_save_there(tmp_path: Path) -> None:
    with pytest.raises(Stopped), stoppable(ends_process=False) as stop:
        run_apart(wait_for_the_end, str(tmp_path / "marker"), lambda _: os.kill(os.getpid(), signal.SIGINT), stop)
    assert (tmp_path / "marker").read_text() == "saved"


def test_what_the_listener_raises_ends_it(tmp_path: Path) -> None:
    def listen(_: str) -> None:
        raise ZeroDivisionError

    started = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        run_apart(wait_for_the_end, str(tmp_path / "marker"), listen, Stop())
    assert time.monotonic() - started < 30
    assert not (tmp_path / "marker").exists()


def test_several_threads_may_each_have_one() -> None:
    made: list[int] = []

    def work() -> None:
        made.append(run_apart(count, 1, print, Stop())["pid"])

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(set(made)) == 2
