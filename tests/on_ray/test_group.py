"""How the end of a group of workers is told, and what it is sent; without Ray running."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import ray.train
from ray import cloudpickle
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
from ray.tune.integration import ray_train

from raydistill.config.own import Carried
from raydistill.errors import UserError
from raydistill.on_ray import group as module
from raydistill.on_ray import trial
from raydistill.on_ray.board import Board
from raydistill.on_ray.group import Group, reason_of, run_group
from raydistill.on_ray.run import RunOrder
from raydistill.on_ray.trial import SweepOrder, TrialOrder
from raydistill.runs.stopping import Stop
from raydistill.storage.output import Output
from tests.small import small_run

LOST = ray.train.WorkerGroupError(
    "failed", {1: WorkerHealthCheckFailedError("failed", ray.exceptions.ActorDiedError())}
)
MISTAKE = ray.train.WorkerGroupError("failed", {1: ZeroDivisionError("division by zero")})
RAY_LOST = ray.exceptions.ActorDiedError()


class _Board:
    """A board without an actor."""

    def __init__(self, told: str | None = None) -> None:
        self.error = SimpleNamespace(remote=lambda _: told)


def _group(board: Any, name: str = "p0000-seed0") -> Group:
    return Group(name, 2, {"CPU": 1}, max_failures=3, hang_seconds=60, storage="", board=board)


def _that_ends_with(error: Exception | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Ray Train's trainer end at once, in success or with an error."""

    def fit() -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(module, "_trainer", lambda *_: SimpleNamespace(fit=fit))
    monkeypatch.setattr(module.ray, "get", lambda answer: answer)


def test_a_group_ends_with_the_error_of_its_user_that_a_worker_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray starts the workers again, which see it and return: a success for Ray."""
    _that_ends_with(None, monkeypatch)
    with pytest.raises(UserError, match=r"^the disk is full$"):
        run_group(_group(_Board("the disk is full")), SimpleNamespace(), Stop())  # type: ignore[arg-type]
    run_group(_group(_Board()), SimpleNamespace(), Stop())  # type: ignore[arg-type]


def test_lost_workers_are_a_sentence_and_a_mistake_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    _that_ends_with(LOST, monkeypatch)
    with pytest.raises(UserError, match=r"^scaling.max_failures: 3 losses of workers survived, then worker 1 was lost"):
        run_group(_group(_Board()), SimpleNamespace(), Stop())  # type: ignore[arg-type]
    _that_ends_with(MISTAKE, monkeypatch)
    with pytest.raises(ray.train.WorkerGroupError):
        run_group(_group(_Board()), SimpleNamespace(), Stop())  # type: ignore[arg-type]


def test_errors_of_one_launch_are_none_of_another(tmp_path: Path) -> None:
    board = Board()
    board.fail("p0000-seed0-a", "the disk is full")
    board.fail("p0000-seed0-a", "another worker says more")
    assert board.error("p0000-seed0-a") == "the disk is full"
    assert board.error("p0000-seed0-b") is None


def _sweep_order(output: Path, board: Any = None) -> SweepOrder:
    return SweepOrder(
        Output.at(str(output)),
        "AP",
        population=False,
        brackets=False,
        shipped={},
        group=_group(board, "sweep"),
        next_round=0,
        own=Carried(()),
    )


def _failure_after(error: Exception, output: Path, monkeypatch: pytest.MonkeyPatch, before: str = "") -> str:
    """Return what a trial's directory holds of its failure when its group ends with an error."""
    order = _sweep_order(output, _Board())
    file = order.trial("p0000-seed0").failure
    if before:
        file.parent.mkdir(parents=True)
        file.write_text(before)
    _that_ends_with(error, monkeypatch)
    monkeypatch.setattr(ray_train, "TuneReportCallback", object)  # it asks for a trial of Ray Tune's around it
    trial.group_trial({"trial": "p0000-seed0"}, order)
    return file.read_text()


def test_a_trial_whose_workers_were_lost_fails_with_the_sentence_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = _failure_after(LOST, tmp_path, monkeypatch)
    assert failure.startswith("scaling.max_failures: 3 losses of workers survived, then worker 1 was lost: its process")
    assert failure.count("\n") == 1


def test_what_a_worker_wrote_of_a_trials_failure_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _failure_after(UserError("short"), tmp_path, monkeypatch, "longer\ntraceback\n") == "longer\ntraceback\n"


def test_a_mistake_in_code_is_a_line_and_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, rest = _failure_after(MISTAKE, tmp_path, monkeypatch).split("\n", 1)
    assert first == "worker 1 failed: division by zero"
    assert "Training failed due to worker errors" in rest


def test_a_trial_whose_ray_was_lost_is_left_to_ray_tune_which_starts_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ray.exceptions.ActorDiedError):
        _failure_after(RAY_LOST, tmp_path, monkeypatch)
    assert not _sweep_order(tmp_path).trial("p0000-seed0").failure.exists()


def test_orders_arrive_as_they_were_sent(tmp_path: Path) -> None:
    sweep = _sweep_order(tmp_path)
    for order in (
        RunOrder(small_run(tmp_path), Output.at(str(tmp_path)), None, "teacher", {}),
        sweep,
        TrialOrder("p0000-seed0", sweep),
    ):
        assert cloudpickle.loads(cloudpickle.dumps(order)) == order


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.0.0.2]:55", "lost its"),
        ("NCCL Error 6: remote process exited or there was a network error", "lost its connection to another worker"),
        (
            "[Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7) ran for 60000 ms",
            "waited scaling.",
        ),
        ("CUDA error: an illegal memory access", "failed: RuntimeError: CUDA error"),
    ],
)
def test_what_befell_a_worker_of_several_has_its_words(text: str, said: str) -> None:
    assert reason_of(RuntimeError(text), 2).startswith(said)
    assert reason_of(RuntimeError(text), 1).startswith("failed: RuntimeError: ")
