"""Waiting for a cluster that cannot hold the workers yet; without starting Ray, and without its minutes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from raydistill.config import load_config
from raydistill.errors import UserError
from raydistill.on_ray import room, run
from raydistill.on_ray.room import Demand
from raydistill.runs.events import Event, Note
from raydistill.runs.stopping import Stop
from tests.outputs import write_settings


@dataclass
class _Cluster:
    """A cluster whose nodes, autoscaler and clock are the test's."""

    nodes: Callable[[float], list[dict[str, float]]]
    starting: Callable[[float], bool] = lambda _: False
    clock: float = 0.0
    asked: list[list[dict[str, float]]] = field(default_factory=list)
    taken_back: int = 0
    heard: list[Event] = field(default_factory=list)
    stop: Stop = field(default_factory=Stop)

    def wait(self, num_workers: int, seconds: int | Literal["auto"] = "auto") -> None:
        demand = Demand("resources", num_workers, {"CPU": 2, "GPU": 1}, "lower it")
        room.wait_for_room(demand, seconds, self.heard.append, self.stop)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> _Cluster:
    """A head without GPUs in a cluster that RAY_ADDRESS names."""
    it = _Cluster(lambda _: [{"CPU": 1.0}])

    def ask(bundles: list[dict[str, float]]) -> None:
        it.asked.append(bundles)

    def take_back(_: Any) -> None:
        it.taken_back += 1

    def sleep(seconds: float) -> None:
        it.clock += seconds

    def status(_: str) -> SimpleNamespace:
        return SimpleNamespace(pending_launches=[1] * it.starting(it.clock), pending_nodes=[], failed_launches=[])

    ray = room.ray
    monkeypatch.setenv("RAY_ADDRESS", "somewhere:6379")
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": node} for node in it.nodes(it.clock)])
    monkeypatch.setattr(ray.util, "placement_group", ask)
    monkeypatch.setattr(ray.util, "remove_placement_group", take_back)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(gcs_address="somewhere:6379"))
    monkeypatch.setitem(sys.modules, "ray.autoscaler.v2.sdk", SimpleNamespace(get_cluster_status=status))
    monkeypatch.setattr(room, "time", SimpleNamespace(monotonic=lambda: it.clock, sleep=sleep))
    return it


def _gpu_nodes_at(*seconds: float) -> Callable[[float], list[dict[str, float]]]:
    return lambda now: [{"CPU": 1.0}, *({"CPU": 4.0, "GPU": 1.0} for moment in seconds if now >= moment)]


def test_where_there_is_room_nothing_is_asked_for_or_said(cluster: _Cluster) -> None:
    cluster.nodes = _gpu_nodes_at(0, 0)
    cluster.wait(2)
    assert (cluster.clock, cluster.asked, cluster.heard) == (0, [], [])


def test_nodes_that_join_end_the_wait(cluster: _Cluster) -> None:
    cluster.nodes = _gpu_nodes_at(7, 20)
    cluster.wait(2)
    assert cluster.clock == 20
    assert cluster.asked == [[{"CPU": 2, "GPU": 1}, {"CPU": 2, "GPU": 1}]]
    assert cluster.taken_back == 1


def test_ctrl_c_ends_the_wait(cluster: _Cluster) -> None:
    def nodes(now: float) -> list[dict[str, float]]:
        if now >= 3:
            cluster.stop.ask()
        return [{"CPU": 1.0}]

    cluster.nodes = nodes
    with pytest.raises(KeyboardInterrupt):
        cluster.wait(1)
    assert (cluster.clock, cluster.taken_back) == (3, 1)


def test_what_is_asked_what_there_is_and_for_how_long_is_said_before_the_wait(cluster: _Cluster) -> None:
    cluster.nodes = _gpu_nodes_at(1)
    cluster.wait(1)
    assert cluster.heard == [
        Note(
            "resources: 1 worker of 2 CPU and 1 GPU for nodes of 1 CPU 0 GPU, which hold 0; waiting up to 60 s for "
            "nodes (scaling.wait_seconds)",
            warning=True,
        )
    ]


@pytest.mark.parametrize(("seconds", "longest"), [("auto", 60), (5, 5), (0, 0)])
def test_a_cluster_that_stays_too_small_is_given_up(
    cluster: _Cluster, seconds: int | Literal["auto"], longest: int
) -> None:
    with pytest.raises(UserError) as caught:
        cluster.wait(1, seconds)
    assert str(caught.value) == (
        "resources: must fit into the Ray cluster, got 1 worker of 2 CPU and 1 GPU for nodes of 1 CPU 0 GPU, which "
        f"hold 0; waited {longest} s for nodes (scaling.wait_seconds); lower it"
    )
    assert cluster.clock == longest
    assert cluster.taken_back == 1


@pytest.mark.parametrize(("seconds", "longest"), [("auto", 900), (200, 200)])
def test_an_autoscaler_gets_the_time_it_needs_and_that_is_said_once(
    cluster: _Cluster, seconds: int | Literal["auto"], longest: int
) -> None:
    cluster.starting = lambda now: 10 <= now < 30  # then the cloud has none left
    with pytest.raises(UserError, match=f"waited {longest} s"):
        cluster.wait(1, seconds)
    assert cluster.heard[1:] == [
        Note(f"the cluster's autoscaler is starting nodes: waiting up to {longest} s for them")
    ]


def test_an_autoscaler_that_brings_the_nodes_is_waited_for(cluster: _Cluster) -> None:
    cluster.starting = lambda now: now < 400
    cluster.nodes = _gpu_nodes_at(400)
    cluster.wait(1)
    assert cluster.clock == 400


def test_a_head_too_busy_to_answer_is_asked_again(cluster: _Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(_: str) -> None:
        raise room.ray.exceptions.RpcError("timed out")

    monkeypatch.setitem(sys.modules, "ray.autoscaler.v2.sdk", SimpleNamespace(get_cluster_status=busy))
    cluster.nodes = _gpu_nodes_at(3)
    cluster.wait(1)
    assert cluster.clock == 3


def test_a_ray_of_this_machine_alone_is_not_waited_for(cluster: _Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS")
    with pytest.raises(UserError, match="which hold 0; lower it"):
        cluster.wait(1, 500)
    assert (cluster.clock, cluster.asked, cluster.heard) == (0, [], [])


def test_an_interrupted_wait_leaves_no_demand_behind(cluster: _Cluster) -> None:
    def interrupt(_: float) -> bool:
        raise KeyboardInterrupt

    cluster.starting = interrupt
    with pytest.raises(KeyboardInterrupt):
        cluster.wait(1)
    assert cluster.taken_back == 1


def test_an_equal_share_of_the_cpus_is_that_of_the_nodes_that_came(cluster: _Cluster) -> None:
    config = load_config("quickstart", ["scaling.num_workers=2", "scaling.use_gpu=true"])
    cluster.nodes = lambda now: [{"CPU": 0.0}, *[{"CPU": 4.0, "GPU": 2.0}] * (now >= 5)]
    assert run._had(config, cluster.heard.append, cluster.stop).wanted == {"CPU": 2, "GPU": 1}
    assert cluster.asked == [[{"CPU": 1, "GPU": 1}, {"CPU": 1, "GPU": 1}]]


@pytest.mark.parametrize("value", ["-1", "1.5", "soon"])
def test_the_longest_wait_is_whole_seconds_or_auto(value: str) -> None:
    with pytest.raises(UserError, match=r"scaling\.wait_seconds"):
        load_config("quickstart", [f"scaling.wait_seconds={value}"])


def test_how_long_is_waited_is_no_part_of_a_run(tmp_path: Any) -> None:
    """A run begun before the setting existed, or with another wait, goes on."""
    written = []
    for seconds in ("auto", "5"):
        config = load_config("quickstart", [f"scaling.wait_seconds={seconds}", f"output={tmp_path / seconds}"])
        (tmp_path / seconds / "teacher").mkdir(parents=True)
        write_settings(config, "teacher")
        written.append((tmp_path / seconds / "teacher" / "config.yaml").read_text())
    assert written[0] == written[1]
    assert "wait_seconds" not in written[0]


# Workers that Ray was asked to start and has no room for --------------------------------------------------------------
def _queue(cluster: _Cluster, monkeypatch: pytest.MonkeyPatch, seconds: int | Literal["auto"]) -> room.Queue:
    monkeypatch.setattr(room.ray, "available_resources", lambda: {"CPU": 1.0})
    monkeypatch.setattr(room.ray, "cluster_resources", lambda: {"CPU": 9.0, "GPU": 2.0})
    demand = Demand("scaling.num_workers", 2, {"CPU": 4, "GPU": 1}, "lower it")
    return room.Queue(demand, seconds, cluster.heard.append)


def _look(queue: room.Queue, cluster: _Cluster, seconds: int) -> str:
    """Look every second for so long, or until the wait is given up."""
    for _ in range(seconds):
        if given_up := queue.look(waiting=True):
            return given_up
        cluster.clock += 1
    return ""


def test_a_busy_cluster_is_waited_for_as_long_as_it_takes_and_that_is_said_again_and_again(
    cluster: _Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.nodes = _gpu_nodes_at(0, 0)
    assert _look(_queue(cluster, monkeypatch, "auto"), cluster, 1300) == ""
    assert len(cluster.heard) == 6  # after 30, 120, 300, 600, 900 and 1200 s
    assert set(cluster.heard) == {
        Note(
            "scaling.num_workers: the Ray cluster is busy: 2 workers of 4 CPU and 1 GPU asked for, 1 of 9 CPU and 0 of "
            "2 GPU are free; waiting as long as it takes; scaling.wait_seconds sets a limit",
            warning=True,
        )
    }


def test_a_busy_cluster_is_given_up_after_the_users_own_limit(
    cluster: _Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.nodes = _gpu_nodes_at(0, 0)
    assert _look(_queue(cluster, monkeypatch, 100), cluster, 1000) == (
        "scaling.num_workers: must get room on the Ray cluster, got 2 workers of 4 CPU and 1 GPU where 1 of 9 CPU and "
        "0 of 2 GPU are free; waited 100 s (scaling.wait_seconds); lower it, then repeat the command"
    )
    assert cluster.clock == 100
    assert len(cluster.heard) == 1
    assert "waiting up to 100 s (scaling.wait_seconds)" in str(cluster.heard[0])


def test_a_cluster_that_lost_the_nodes_it_needs_is_given_up_after_a_time(
    cluster: _Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.nodes = _gpu_nodes_at(0)
    given_up = _look(_queue(cluster, monkeypatch, "auto"), cluster, 5000)
    assert (
        "got 2 workers of 4 CPU and 1 GPU for nodes of 1 CPU 0 GPU, 4 CPU 1 GPU, which hold 1; waited 900" in given_up
    )
    assert "waiting up to 900 s for nodes" in str(cluster.heard[0])


def test_what_gets_room_in_between_is_waited_for_anew(cluster: _Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.nodes = _gpu_nodes_at(0, 0)
    queue = _queue(cluster, monkeypatch, 50)
    assert _look(queue, cluster, 40) == ""
    assert queue.look(waiting=False) == ""
    assert _look(queue, cluster, 40) == ""
    assert len(cluster.heard) == 2


def test_room_that_is_given_at_once_is_no_wait_whatever_the_limit(
    cluster: _Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.nodes = _gpu_nodes_at(0, 0)
    assert _look(_queue(cluster, monkeypatch, 0), cluster, 9) == ""
    assert cluster.heard == []


def test_only_this_jobs_own_requests_count_as_unmet(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {"aa01000000": {"state": "CREATED"}, "bb02000000": {"state": "PENDING"}}
    monkeypatch.setattr(room.ray, "get_runtime_context", lambda: SimpleNamespace(get_job_id=lambda: "01000000"))
    monkeypatch.setattr(room.ray.util, "placement_group_table", lambda: table)
    assert not room.has_unmet_requests()
    table["cc01000000"] = {"state": "PENDING"}
    assert room.has_unmet_requests()


@pytest.mark.parametrize(
    ("nodes", "workers", "gpus", "cpus"),
    [
        ([{"CPU": 2.0}], 1, False, 2),
        ([{"CPU": 4.0}, {"CPU": 4.0}], 3, False, 2),
        ([{"CPU": 1.0}, {"CPU": 4.0}, {"CPU": 4.0}], 2, False, 4),  # the small one is left out
        ([{"CPU": 2.0}, {"CPU": 16.0, "GPU": 4.0}], 4, True, 4),  # a node without GPU has no say
    ],
)
def test_workers_get_as_many_cpus_as_all_of_them_can_have(
    cluster: _Cluster, nodes: list[dict[str, float]], workers: int, gpus: bool, cpus: int
) -> None:
    settings = ["training.batch_size=12", f"scaling.num_workers={workers}", f"scaling.use_gpu={gpus}"]
    cluster.nodes = lambda _: nodes
    assert run._had(load_config("quickstart", settings), cluster.heard.append, cluster.stop).wanted["CPU"] == cpus


def _elastic(cluster: _Cluster, seconds: int | Literal["auto"] = "auto") -> Demand:
    settings = ["training.batch_size=8", "scaling.num_workers=4", "scaling.min_workers=2", "scaling.use_gpu=true"]
    settings.append(f"scaling.elastic_wait_seconds={seconds}")
    return run._had(load_config("quickstart", settings), cluster.heard.append, cluster.stop)


def test_an_elastic_run_asks_for_all_its_workers_and_waits_until_the_last_node_has_come(cluster: _Cluster) -> None:
    cluster.nodes = _gpu_nodes_at(0, 0, 20, 40)
    assert _elastic(cluster).num_workers == 2
    assert (cluster.clock, cluster.taken_back) == (40, 1)
    assert cluster.asked == [[{"CPU": 1, "GPU": 1}] * 4]
    assert "waiting up to 60 s for nodes (scaling.elastic_wait_seconds)" in str(cluster.heard[0])


@pytest.mark.parametrize(
    ("seconds", "autoscaled", "longest"), [("auto", False, 60), ("auto", True, 300), (200, True, 200), (0, False, 0)]
)
def test_an_elastic_run_begins_with_what_is_there_when_its_wait_is_over(
    cluster: _Cluster, seconds: int | Literal["auto"], autoscaled: bool, longest: int
) -> None:
    cluster.nodes, cluster.starting = _gpu_nodes_at(0, 0, 0), lambda _: autoscaled
    had = _elastic(cluster, seconds)
    assert (had.num_workers, had.wanted) == (2, {"CPU": 4, "GPU": 1})
    assert cluster.clock == longest
    assert bool(cluster.heard) == (longest > 0)


def test_an_elastic_run_without_room_for_its_fewest_workers_is_given_up_after_both_waits(cluster: _Cluster) -> None:
    cluster.nodes = _gpu_nodes_at(0)
    with pytest.raises(UserError, match=r"got 2 workers of .*; waited 60 s for nodes \(scaling\.wait_seconds\)"):
        _elastic(cluster, 100)
    assert cluster.clock == 160


def test_ray_counts_a_node_that_joined_a_moment_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """With Ray's own coordinator, which looks by itself every 20 s, in this process."""
    from ray.data._internal.cluster_autoscaler import default_autoscaling_coordinator as of_ray

    nodes: list[dict[str, Any]] = []
    coordinator = of_ray._AutoscalingCoordinatorActor(
        send_resources_request=lambda *_, **__: None, get_cluster_nodes=lambda: nodes
    )
    asked = SimpleNamespace(get_reserved_resources=SimpleNamespace(remote=coordinator.get_reserved_resources))
    monkeypatch.setattr(of_ray, "get_or_create_autoscaling_coordinator", lambda: asked)
    monkeypatch.setattr(room.ray, "get", lambda value, timeout: value)
    nodes.append({"NodeID": "new", "Alive": True, "Resources": {"CPU": 2.0}})
    coordinator.request_resources("a run", [{"CPU": 1}] * 4, 60)
    assert coordinator.get_reserved_resources("a run") == {}
    room.let_ray_count_nodes()
    assert coordinator.get_reserved_resources("a run") == {"new": {"CPU": 2}}


@pytest.mark.parametrize(("address", "pending"), [("", 2), ("somewhere:6379", 200)])
def test_ray_asks_for_many_trials_at_once_where_all_points_are_known(
    address: str, pending: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.tune.execution.tune_controller import _get_max_pending_trials
    from ray.tune.search import Searcher, SearchGenerator

    monkeypatch.setenv("RAY_ADDRESS", address)
    search = SearchGenerator(Searcher(metric="score", mode="max"))
    assert _get_max_pending_trials(search) == 1
    with room.many_pending(2):
        assert _get_max_pending_trials(search) == pending
    assert _get_max_pending_trials(search) == 1


def test_how_many_trials_are_asked_for_at_once_can_be_said_in_rays_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNE_MAX_PENDING_TRIALS_PG", "7")
    with room.many_pending(2):
        assert os.environ["TUNE_MAX_PENDING_TRIALS_PG"] == "7"
    assert os.environ["TUNE_MAX_PENDING_TRIALS_PG"] == "7"
