"""What is looked at before Ray is started, and what in a task; without Ray running."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raydistill import train, tune
from raydistill.config.sections import Downloads
from raydistill.errors import UserError
from raydistill.on_ray import inputs as module
from raydistill.on_ray import run, sweep
from raydistill.on_ray.inputs import check_devices, check_inputs_here, check_inputs_there, claim_data_there
from raydistill.on_ray.room import Demand
from raydistill.runs.stopping import Stop
from raydistill.training.inputs import Inputs
from tests.drawn import as_setting, draw
from tests.outputs import output_of
from tests.small import SMALL_RUN, small_run, small_sweep

DEMAND = Demand("scaling.num_workers", 1, {"CPU": 1}, "lower it")


def _weights(*names: str | Path) -> Inputs:
    return Inputs(None, tuple(("student.weights", str(name)) for name in names), Downloads())


def test_without_a_cluster_everything_must_be_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(UserError, match=r"^student\.weights: .*nowhere"):
        check_inputs_here(_weights(tmp_path / "nowhere"))


def test_what_this_machine_does_not_see_may_be_seen_by_the_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "somewhere:6379")
    (tmp_path / "here").touch()
    there = check_inputs_here(_weights(tmp_path / "here", tmp_path / "nowhere", "s3://bucket/weights.pt"))
    assert [Path(name).name for _, name in there.weights] == ["nowhere", "weights.pt"]
    (tmp_path / "folder").mkdir()  # it is here, and holds no weights
    with pytest.raises(UserError, match=r"must hold best\.pt or last\.pt"):
        check_inputs_here(_weights(tmp_path / "folder"))


class _Ray:
    """A cluster of this machine and of another one, whose tasks run here; it keeps where."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.exceptions = module.ray.exceptions

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(get_node_id=lambda: "driver")

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeID": name, "Alive": True, "Resources": {"CPU": 2.0}} for name in ("driver", "worker")]

    def remote(self, num_cpus: int, max_retries: int, scheduling_strategy: Any) -> Any:
        assert (num_cpus, max_retries) == (0, 0)
        self.asked.append(scheduling_strategy.node_id)
        return lambda function: SimpleNamespace(remote=function)

    def wait(self, refs: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        return refs, []

    def get(self, ref: Any) -> Any:
        return ref


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> _Ray:
    ray = _Ray()
    strategies = module.ray.util.scheduling_strategies
    monkeypatch.setattr(
        strategies, "NodeAffinitySchedulingStrategy", lambda node, soft: SimpleNamespace(node_id=node, soft=soft)
    )
    ray.util = module.ray.util  # type: ignore[attr-defined]
    monkeypatch.setattr(module, "ray", ray)
    return ray


def test_a_node_that_can_hold_a_worker_takes_the_look_and_its_error_arrives(cluster: _Ray, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").touch()
    check_inputs_there(_weights(tmp_path / "weights.pt"), DEMAND, Stop())
    with pytest.raises(UserError, match=r"^student\.weights: .*nowhere"):
        check_inputs_there(_weights(tmp_path / "nowhere"), DEMAND, Stop())
    assert cluster.asked == ["worker", "worker"]


def test_a_node_compares_the_data_of_a_sweep_and_its_notes_and_error_arrive(cluster: _Ray, tmp_path: Path) -> None:
    draw(tmp_path)
    config, notes = small_run(tmp_path / "sweep", as_setting(tmp_path)), list[Any]()
    claim_data_there(config, output_of(config), "AP", DEMAND, notes.append, Stop())
    assert any(note.text.startswith("data: nobody wrote down what they were when") for note in notes)
    (tmp_path / "val" / "2.png").write_bytes((tmp_path / "val" / "1.png").read_bytes())
    with pytest.raises(UserError, match=r"sweep: the data must be those .* train: other content of 1 image \(2\.png\)"):
        claim_data_there(config, output_of(config), "AP", DEMAND, notes.append, Stop())
    claim_data_there(small_run(tmp_path / "drawn"), output_of(config), "AP", DEMAND, notes.append, Stop())
    assert cluster.asked == ["worker", "worker"]  # drawn images follow from the settings


def test_nobody_is_asked_where_nothing_is_left_to_look_at(cluster: _Ray) -> None:
    check_inputs_there(_weights(), DEMAND, Stop())
    assert cluster.asked == []


def test_the_wish_to_stop_ends_the_wait_for_an_answer(
    cluster: _Ray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "wait", lambda refs, timeout: ([], refs))
    stop = Stop()
    stop.ask()
    with pytest.raises(KeyboardInterrupt):
        check_inputs_there(_weights(tmp_path), DEMAND, stop)


@pytest.mark.parametrize(
    ("gpus", "precision", "problem"),
    [
        (2, "fp32", r"^scaling\.use_gpu: must be what this machine has, got 1 GPU where 2 are wanted; lower it"),
        (1, "fp16", ""),
        (0, "fp32", ""),
    ],
)
def test_gpus_are_counted_before_ray_is_started(
    gpus: float, precision: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(module, "_gpus_here", lambda: 1)
    if not problem:
        check_devices("scaling.use_gpu", gpus, precision)
        return
    with pytest.raises(UserError, match=problem):
        check_devices("scaling.use_gpu", gpus, precision)
    monkeypatch.setenv("RAY_ADDRESS", "somewhere:6379")
    check_devices("scaling.use_gpu", gpus, precision)


def test_half_precision_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(module, "_gpus_here", lambda: 0)
    with pytest.raises(UserError, match=r"^training\.precision: fp16 needs a GPU"):
        check_devices("scaling.use_gpu", 0, "fp16")


def _never(*_: Any, **__: Any) -> Any:
    pytest.fail("Ray was started")


WRONG = ["data={format: coco, root: /nowhere/at/all}"]


def test_a_wrong_folder_of_data_ends_train_before_ray_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(run, "connected", _never)
    small = [setting for setting in SMALL_RUN if not setting.startswith("data.")]
    assert train.main(["quickstart", *small, *WRONG, "--output", str(tmp_path / "run")]) == 2
    assert "/nowhere/at/all" in capsys.readouterr().err.splitlines()[-1]


def test_a_wrong_folder_of_data_ends_tune_before_ray_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(sweep, "connected", _never)
    file = Path(small_sweep(tmp_path))
    file.write_text("\n".join(line for line in file.read_text().splitlines() if not line.startswith("  data.")))
    assert tune.main([str(file), *WRONG]) == 2
    assert "/nowhere/at/all" in capsys.readouterr().err.splitlines()[-1]
