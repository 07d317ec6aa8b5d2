"""What the driver says and does while workers run; without starting Ray."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from raydistill.errors import UserError
from raydistill.on_ray import room, watch
from raydistill.on_ray.board import Board
from raydistill.on_ray.room import Demand
from raydistill.runs.events import Event, Note
from raydistill.runs.stopping import Stop, Stopped


class _Remote:
    """A board whose methods are called as those of a Ray actor."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=getattr(self._board, name))


@dataclass
class _Driver:
    """A driver beside a cluster of two nodes that is made up."""

    board: Board = field(default_factory=Board)
    alive: dict[str, bool] = field(default_factory=lambda: {"a": True, "b": True})
    unmet: bool = False
    given_up: str = ""
    stop: Stop = field(default_factory=Stop)
    heard: list[Event] = field(default_factory=list)

    def run(self, work: Callable[[], None]) -> None:
        queue = room.Queue(Demand("scaling.num_workers", 1, {"CPU": 1}, "lower it"), "auto", self.heard.append)
        queue.look = lambda waiting: self.given_up if waiting else ""  # type: ignore[method-assign]
        with watch.shown(_Remote(self.board), queue, self.heard.append, self.stop):
            work()


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> _Driver:
    it = _Driver()

    def nodes() -> list[dict[str, Any]]:
        return [
            {"NodeID": name, "Alive": alive, "NodeManagerAddress": f"10.0.0.{name}", "Resources": {"CPU": 1.0}}
            for name, alive in it.alive.items()
        ]

    monkeypatch.setattr(watch.ray, "get", lambda value: value)
    monkeypatch.setattr(watch.ray, "nodes", nodes)
    monkeypatch.setattr(watch, "has_unmet_requests", lambda: it.unmet)
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(watch, "_LOOK_SECONDS", 0.02)
    return it


def _until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_the_workers_say_is_shown_to_the_last_word(driver: _Driver) -> None:
    driver.run(lambda: driver.board.put(Note("last")))
    assert driver.heard == [Note("last")]


def test_a_lost_node_is_named_once_with_what_was_at_work_there(driver: _Driver) -> None:
    driver.board.begin("run", 0, "a")
    driver.board.begin("run", 1, "b")

    def work() -> None:
        driver.alive["b"] = False
        _until(lambda: driver.heard)
        time.sleep(0.1)

    driver.run(work)
    assert driver.heard == [
        Note(
            "node 10.0.0.b was lost, and with it worker 1; training goes on from the last checkpoint once its workers "
            "are there again",
            warning=True,
        )
    ]


def test_a_node_that_none_of_ours_was_on_is_nobodys_loss(driver: _Driver) -> None:
    driver.board.begin("run", 0, "a")
    driver.alive["b"] = False
    driver.run(lambda: time.sleep(0.1))
    assert driver.heard == []


def _interrupted_work() -> None:
    """Wait as Ray's calls do; the watch ends it with a signal to the main thread."""
    threading.Event().wait(20)


@pytest.fixture
def _interruptible(driver: _Driver) -> Any:
    def handle(*_: object) -> None:
        raise driver.stop.interruption()

    before = signal.signal(signal.SIGINT, handle)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_a_wait_without_end_is_given_up_with_its_reason(driver: _Driver) -> None:
    driver.unmet, driver.given_up = True, "scaling.num_workers: must get room"
    with pytest.raises(UserError, match=r"^scaling\.num_workers: must get room$"):
        driver.run(_interrupted_work)


def test_what_waits_beside_work_that_goes_on_is_not_given_up(driver: _Driver) -> None:
    """Trials of a sweep wait for each other."""
    driver.unmet, driver.given_up = True, "must get room"
    driver.board.begin("p0000_s0", 0, "a")
    driver.run(lambda: time.sleep(0.1))


@pytest.mark.usefixtures("_interruptible")
def test_a_wish_to_stop_ends_the_work_once_all_is_saved(driver: _Driver) -> None:
    driver.board.begin("run", 0, "a")

    def save() -> None:
        _until(lambda: driver.board.stopping("run"))
        driver.board.put(Note("saved"))
        driver.board.leave("run", 0)

    threading.Thread(target=save, daemon=True).start()
    driver.stop.ask()
    with pytest.raises(Stopped):
        driver.run(_interrupted_work)
    assert driver.heard == [Note("saved")]
