"""What the board remembers of the workers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from raydistill.on_ray import board as module
from raydistill.on_ray.board import Board


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


def test_a_worker_that_leaves_is_at_work_no_more(clock: SimpleNamespace) -> None:
    board = Board()
    board.begin("run", 0, "a")
    board.begin("run", 1, "b")
    board.leave("run", 1)
    assert board.at_work()
    assert board.places() == {("run", 0): "a"}
    board.leave("run", 0)
    assert not board.at_work()


def test_a_worker_that_was_killed_is_at_work_no_more_after_a_time(clock: SimpleNamespace) -> None:
    """It cannot say so itself, and the driver would wait for its checkpoint."""
    board = Board()
    board.begin("alive", 0, "a")
    board.begin("killed", 0, "a")
    clock.seconds = 29
    assert not board.stopping("alive")
    clock.seconds = 58
    assert board.at_work()
    board.leave("alive", 0)
    assert not board.at_work()


def test_the_workers_of_a_lost_node_are_forgotten_and_no_others(clock: SimpleNamespace) -> None:
    board = Board()
    for name, node in (("p0000_s0", "a"), ("p0001_s0", "b"), ("p0002_s0", "a")):
        board.begin(name, 0, node)
    board.forget("a")
    assert board.places() == {("p0001_s0", 0): "b"}
    assert board.at_work()
    board.forget("b")
    assert not board.at_work()
