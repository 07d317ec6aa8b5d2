"""Ctrl-C and SIGTERM: a checkpoint at the next step, an end in time, and no difference in what comes out."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raydistill.errors import UserError
from raydistill.inference import evaluation
from raydistill.on_ray import node as node_module
from raydistill.on_ray import session, watch
from raydistill.on_ray import stopping as stopping_module
from raydistill.on_ray.room import Demand, Queue
from raydistill.runs import stopping, weights_file
from raydistill.runs.events import Event, Listener, Note
from raydistill.runs.stopping import END_SECONDS, SAVE_SECONDS, Stop, Stopped, stoppable
from raydistill.runs.worker import Worker
from raydistill.training import loop, stages
from tests.outputs import output_of
from tests.ranks import on_ranks
from tests.small import PATIENCE, REPOSITORY, Stage, metrics_of, repeatable, same_weights, small_run, weights_of
from tests.training.test_resume import THREE_STEPS

SIGNALS = (signal.SIGINT, signal.SIGTERM)


# Signals --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("number", SIGNALS)
def test_a_first_signal_asks_and_says_how_long_it_takes(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    with stoppable() as stop:
        assert not stop.wanted
        os.kill(os.getpid(), number)
        assert stop.wanted
    said = capfd.readouterr().err
    assert f"{number.name}: a checkpoint is written after this step, in {SAVE_SECONDS} s at most" in said
    assert f"the process ends within {END_SECONDS} s; a second Ctrl-C ends it at once" in said


def test_a_second_signal_ends_at_once() -> None:
    with pytest.raises(KeyboardInterrupt) as caught, stoppable():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("it went on")
    assert not isinstance(caught.value, Stopped)


def test_handlers_and_clocks_are_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    monkeypatch.setattr(stopping, "SAVE_SECONDS", 0.1)
    with stoppable():
        os.kill(os.getpid(), signal.SIGINT)
    assert [signal.getsignal(number) for number in SIGNALS] == before
    time.sleep(0.2)  # nobody interrupts


@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN])
def test_a_lost_terminal_asks_too_unless_it_is_to_be_ignored(handler: signal.Handlers) -> None:
    before = signal.signal(signal.SIGHUP, handler)
    try:
        with stoppable() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.wanted is (handler is signal.SIG_DFL)
        assert signal.getsignal(signal.SIGHUP) == handler
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_checkpoint_that_takes_too_long_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "SAVE_SECONDS", 0.1)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), stoppable():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(PATIENCE)
    assert time.monotonic() - started < PATIENCE


STUBBORN = """
import os, signal, time
from raydistill.runs import stopping
stopping.SAVE_SECONDS, stopping.END_SECONDS = 0.1, 0.3
with stopping.stoppable():
    os.kill(os.getpid(), signal.SIGINT)
    while True:
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            pass
"""


def test_a_process_that_does_not_end_is_ended() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", STUBBORN], cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert answer.returncode == 130
    assert "the same command goes on after the last checkpoint" in answer.stderr


def test_loader_processes_leave_ctrl_c_to_their_parent(capfd: pytest.CaptureFixture[str]) -> None:
    with stoppable() as stop:
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGINT)
            os._exit(7 if stop.wanted else 3)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert capfd.readouterr().err == ""


def test_another_thread_can_end_it_with_a_sentence() -> None:
    with pytest.raises(UserError, match="the machine is gone"), stoppable() as stop:
        threading.Thread(target=stop.fail, args=["the machine is gone"]).start()
        time.sleep(PATIENCE)


@pytest.mark.parametrize(
    ("nodes", "lost"),
    [
        ([{"NodeID": "other", "Alive": True}, {"NodeID": "own", "Alive": False}], True),
        ([{"NodeID": "other", "Alive": False}, {"NodeID": "own", "Alive": True}], False),
        ([], False),  # the head is only being asked
    ],
)
def test_a_driver_whose_node_is_dead_ends_with_a_sentence(
    nodes: list[dict[str, Any]], lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_module, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(session.ray, "nodes", lambda: nodes)
    monkeypatch.setattr(session.ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "own"))
    ends = pytest.raises(UserError, match="Ray was lost on this machine") if lost else contextlib.nullcontext()
    with ends, stoppable() as stop, node_module.node_watched(stop):
        time.sleep(PATIENCE if lost else 0.2)


# A process that is not a command's own -------------------------------------------------------------------------------
def test_a_process_of_the_users_is_never_ended(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(stopping, "END_SECONDS", 0.05)
    monkeypatch.setattr(stopping, "_end_process", lambda _, code: ended.append(code))
    with stoppable(ends_process=False) as stop:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
    assert stop.wanted
    assert "a second interrupt ends it at once" in capfd.readouterr().err
    with pytest.raises(UserError, match="the machine is gone"), stoppable(ends_process=False) as stop:
        threading.Thread(target=stop.fail, args=["the machine is gone"]).start()
        time.sleep(30)
    assert ended == []


def test_inside_a_commands_it_is_the_commands() -> None:
    with stoppable() as outer, stoppable(ends_process=False) as inner:
        assert inner is outer
    with stoppable(ends_process=False) as later:
        assert later is not outer


def _in_a_thread(work: Callable[[Stop], None]) -> BaseException | None:
    """Do ``work`` in a thread with a stop of its own, and return what it raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            with stoppable() as stop:
                work(stop)
        except BaseException as error:  # noqa: BLE001
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    return raised[0] if raised else None


def _busy() -> None:
    for _ in range(1000):
        time.sleep(0.01)


def test_in_a_thread_signals_are_left_alone_and_another_thread_can_end_it() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]

    def save(stop: Stop) -> None:
        assert [signal.getsignal(number) for number in SIGNALS] == before
        threading.Thread(target=stop.end, args=[True]).start()
        _busy()

    def lose(stop: Stop) -> None:
        threading.Thread(target=stop.fail, args=["the machine is gone"]).start()
        _busy()

    assert isinstance(_in_a_thread(save), Stopped)
    lost = _in_a_thread(lose)
    assert isinstance(lost, UserError)
    assert str(lost) == "the machine is gone"


# Training -------------------------------------------------------------------------------------------------------------
def _stage(folder: Path, *settings: str, worker: Worker | None = None) -> Stage:
    return Stage(small_run(folder, *THREE_STEPS, *settings), "baseline", worker or Worker())


def _asking_at(stop: Stop, at_step: int) -> Callable[..., Any]:
    """Return ``take_step``, during which somebody asks for the end."""
    original = loop.take_step

    def step(*given: Any) -> Any:
        if given[3] == at_step:
            stop.ask()
        return original(*given)

    return step


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """A run that nobody stopped."""
    stage = _stage(tmp_path_factory.mktemp("whole"))
    stage.fit()
    return stage


def _assert_same(one: Stage, other: Stage) -> None:
    assert repeatable(one.lines()) == repeatable(other.lines())
    assert same_weights(weights_of(one.run.last), weights_of(other.run.last))


@pytest.mark.parametrize("step", [1, 2, 5])
def test_a_run_is_stopped_after_the_step_at_work_and_ends_as_if_it_had_not_been(
    step: int, whole: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = _stage(tmp_path)
    monkeypatch.setattr(loop, "take_step", _asking_at(stage.worker.stop, step))
    with pytest.raises(Stopped):
        stage.fit()
    monkeypatch.undo()
    saved = weights_file.load(stage.run.checkpoint)
    assert (saved["epoch"], saved["step"]) == (step // 3, step % 3 + 1)
    place = f"baseline: stopped in epoch {step // 3 + 1} after step {step % 3 + 1} of 3; its checkpoint is written"
    assert place in stage.listener.text
    again = _stage(tmp_path)
    again.fit()
    _assert_same(whole, again)


def test_a_run_is_stopped_in_an_evaluation_and_takes_no_step_again(
    whole: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = _stage(tmp_path)
    original = loop.evaluate

    def evaluate(*given: Any, **named: Any) -> Any:
        stage.worker.stop.ask()
        return original(*given, **named)

    monkeypatch.setattr(evaluation, "_SECONDS_BETWEEN_SIGNS", 0.0)
    monkeypatch.setattr(loop, "evaluate", evaluate)
    with pytest.raises(Stopped):
        stage.fit()
    monkeypatch.undo()
    assert weights_file.load(stage.run.checkpoint)["step"] == 3
    assert not stage.run.metrics.exists()
    again = _stage(tmp_path)
    again.fit()
    _assert_same(whole, again)


def test_between_two_stages_nothing_new_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    worker = Worker()

    def run(_: Any, stage: str) -> None:
        begun.append(stage)
        worker.stop.ask()

    monkeypatch.setattr(stages, "_run_stage", run)
    monkeypatch.setattr(stages, "_rehearse", lambda _: None)
    with pytest.raises(Stopped):
        stages.run_stages(
            small_run(tmp_path), output_of(small_run(tmp_path)), worker, lambda run: Stage(small_run(tmp_path)).reporter
        )
    assert begun == ["teacher"]


TWO_RANKS = ("student.norm=batch", "training.batch_size=4")


def _on_rank(worker: Worker, folder: str, asking_rank: int) -> None:
    if worker.rank == asking_rank:
        loop.take_step = _asking_at(worker.stop, 1)  # type: ignore[assignment]
    with contextlib.suppress(Stopped):
        _stage(Path(folder), *TWO_RANKS, worker=worker).fit()
        sys.exit(3)


def test_all_workers_stop_after_the_same_step_whichever_was_asked(tmp_path: Path) -> None:
    assert on_ranks(_on_rank, 2, str(tmp_path), 1) == [0, 0]
    saved = weights_file.load(_stage(tmp_path).run.checkpoint)
    assert (saved["epoch"] * 3 + saved["step"], len(saved["random"])) == (3, 2)  # asked in step 2: known after step 3


# Ray's side, without Ray ----------------------------------------------------------------------------------------------
class _Board:
    """A board in this process, whose methods are called as an actor's."""

    def __init__(self) -> None:
        from raydistill.on_ray.board import Board

        inner = Board()
        for name in ("put", "take", "begin", "leave", "at_work", "stop", "stopping", "places"):
            setattr(self, name, SimpleNamespace(remote=getattr(inner, name)))


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A board, with Ray's ``get`` replaced by nothing, on a cluster of one node."""
    node = {"NodeID": "own", "Alive": True, "Resources": {"CPU": 1.0}}
    monkeypatch.setattr(session.ray, "get", lambda value: value)
    monkeypatch.setattr(session.ray, "nodes", lambda: [node])
    monkeypatch.setattr(session.ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "own"))
    monkeypatch.setattr(watch, "has_unmet_requests", lambda: False)
    for name in ("SAVE_SECONDS", "END_SECONDS"):  # the clock would end this process
        monkeypatch.setattr(stopping, name, PATIENCE)
    for module in (session, watch, stopping_module):
        monkeypatch.setattr(module, "POLL_SECONDS", 0.02)
    before = {*threading.enumerate()}
    yield _Board()
    for thread in {*threading.enumerate()} - before:  # what follows the board would ask a real one
        if "follow" in thread.name:
            thread.join(PATIENCE)


def _shown(board: Any, listener: Listener, stop: Stop) -> contextlib.AbstractContextManager[None]:
    queue = Queue(Demand("scaling.num_workers", 1, {"CPU": 1}, "lower it"), "auto", listener)
    return watch.shown(board, queue, listener, stop)


def test_the_wish_to_stop_reaches_a_worker_and_the_driver_ends_when_it_has_saved(board: Any) -> None:
    worker, heard = Worker(), list[Event]()

    def work() -> None:
        with stopping_module.heeding(board, "run", worker):
            while not worker.stop.wanted:
                time.sleep(0.01)
            board.put.remote(Note("saved"))
            raise Stopped

    with pytest.raises(Stopped), stoppable() as stop, _shown(board, heard.append, stop):
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)
        session.in_a_thread(lambda: time.sleep(PATIENCE))
    assert heard == [Note("saved")]
    assert thread.is_alive()  # Ray would take its end for success


def test_a_driver_whose_workers_have_not_begun_ends_soon(board: Any) -> None:
    started = time.monotonic()
    with pytest.raises(Stopped), stoppable() as stop, _shown(board, lambda _: None, stop):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(PATIENCE)
    assert time.monotonic() - started < PATIENCE


def test_a_worker_that_ends_is_not_waited_for(board: Any) -> None:
    with stopping_module.heeding(board, "run", Worker()):
        assert board.at_work.remote()
    with pytest.raises(ZeroDivisionError), stopping_module.heeding(board, "run", Worker()):
        raise ZeroDivisionError
    assert not board.at_work.remote()


@pytest.fixture
def terminated(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Whether SIGTERM came to this process, which heeds it as a worker of Ray does."""
    event, before = threading.Event(), signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(stopping_module, "_terminated", event)
    stopping_module._take_sigterm(None)
    yield event
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("rank", [0, 1])
def test_sigterm_to_a_worker_asks_for_a_checkpoint_and_then_ray_is_to_start_another(
    rank: int, board: Any, terminated: threading.Event
) -> None:
    worker = Worker(rank, 2)
    with pytest.raises(stopping_module.TerminatedError), stopping_module.heeding(board, "run", worker):
        os.kill(os.getpid(), signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE
        while not worker.stop.wanted:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        raise Stopped
    assert terminated.is_set()
    assert not board.at_work.remote()


def test_a_worker_whose_driver_is_stopped_too_waits_for_the_end(board: Any, terminated: threading.Event) -> None:
    """As where everything gets SIGTERM: an error would start the workers again."""
    terminated.set()
    board.stop.remote()

    def work() -> None:
        with stopping_module.heeding(board, "run", Worker()):
            raise Stopped

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()


def test_what_is_run_in_a_thread_raises_here() -> None:
    with pytest.raises(ZeroDivisionError):
        session.in_a_thread(lambda: 1 / 0)


def test_metrics_of_a_stopped_run_hold_no_half_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = _stage(tmp_path)
    monkeypatch.setattr(loop, "take_step", _asking_at(stage.worker.stop, 4))
    with pytest.raises(Stopped):
        stage.fit()
    assert [line["epoch"] for line in metrics_of(stage.run)] == [1]


@pytest.mark.parametrize("wanted", [True, False])
def test_loader_processes_that_a_signal_to_the_group_ends_are_an_interruption(wanted: bool) -> None:
    with pytest.raises(KeyboardInterrupt if wanted else RuntimeError), stoppable() as stop:
        if wanted:
            stop.ask()
        raise RuntimeError("DataLoader worker (pid 692) is killed by signal: Terminated. ")
    with pytest.raises(RuntimeError, match="shapes"), stoppable() as stop:
        stop.ask()
        raise RuntimeError("shapes")
