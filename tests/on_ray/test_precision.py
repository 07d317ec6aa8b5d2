"""Which nodes are asked what their processor computes with, and what their answers come to; once on a real Ray."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from raydistill.on_ray import precision
from raydistill.on_ray.precision import all_nodes_compute_bf16
from raydistill.on_ray.room import Demand
from raydistill.on_ray.session import connected
from raydistill.runs.stopping import Stop
from raydistill.runs.worker import Worker
from tests.cluster.nodes import Cluster
from tests.ranks import on_ranks
from tests.small import Listener

TRIAL = Demand("resources", 1, {"CPU": 2}, "lower it")
HERE, OLD, NEW, LOST, SILENT = "here", "old", "new", "lost", "silent"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Take names of nodes of 4 CPUs, or names and CPUs; return the list of those that are asked."""
    ray, clock = precision.ray, iter(range(0, 10**6, 50))
    asked: list[str] = []

    def ask(node: str) -> str:
        asked.append(node)
        return node

    def get(node: str) -> bool:
        if node == LOST:
            raise ray.exceptions.RayError("its node died")
        return node == NEW

    def wait(answers: list[str], **_: Any) -> tuple[list[str], list[str]]:
        return [], [node for node in answers if node == SILENT]

    def there(*nodes: str | tuple[str, float]) -> list[str]:
        pairs = [node if isinstance(node, tuple) else (node, 4.0) for node in nodes]
        listing = [{"NodeID": name, "Alive": name != "dead", "Resources": {"CPU": cpus}} for name, cpus in pairs]
        monkeypatch.setattr(ray, "nodes", lambda: listing)
        return asked

    monkeypatch.setattr(precision, "_asked", ask)
    monkeypatch.setattr(precision.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(ray, "get", get)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: HERE))
    monkeypatch.setattr(ray, "wait", wait)
    return there


@pytest.mark.parametrize(
    ("nodes", "all_compute"),
    [
        ((NEW, NEW), True),
        ((NEW, OLD), False),
        ((NEW, LOST), False),
        ((NEW, SILENT), False),
        ((), False),
    ],
)
def test_every_node_must_say_so(nodes: tuple[str, ...], all_compute: bool, cluster: Callable[..., list[str]]) -> None:
    asked, listener = cluster(*nodes), Listener()
    assert all_nodes_compute_bf16(TRIAL, listener, Stop()) is all_compute
    assert asked == list(nodes)
    silent = LOST in nodes or SILENT in nodes
    assert listener.warnings == ("1 of 2 nodes did not say whether they compute with bf16: taken for no" * silent)


@pytest.mark.parametrize("computes", [True, False])
def test_the_commands_own_node_is_looked_at_without_a_task(
    computes: bool, cluster: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_computes_bf16", lambda: computes)
    asked = cluster(HERE, NEW)
    assert all_nodes_compute_bf16(TRIAL, Listener(), Stop()) is computes
    assert asked == [NEW]


def test_nodes_that_are_dead_or_too_small_for_a_trial_are_not_asked(cluster: Callable[..., list[str]]) -> None:
    asked = cluster(NEW, ("dead", 4.0), (OLD, 1.0), (OLD, 0.0))
    assert all_nodes_compute_bf16(TRIAL, Listener(), Stop())
    assert asked == [NEW]


def test_a_wish_to_stop_ends_the_wait(cluster: Callable[..., list[str]]) -> None:
    cluster(SILENT)
    stop = Stop()
    stop.ask()
    with pytest.raises(KeyboardInterrupt):
        all_nodes_compute_bf16(TRIAL, Listener(), stop)


def _ask_a_busy_node(_: Worker, environment: dict[str, str]) -> None:
    import ray

    os.environ.update(environment)
    precision._computes_bf16 = lambda: True  # without torch, whose import takes long there
    with connected(1):
        (node,) = ray.nodes()
        assert ray.util.placement_group([{"CPU": node["Resources"]["CPU"]}]).wait(60)
        assert precision._answer(precision._asked(node["NodeID"])) is True


@pytest.mark.ray
def test_a_real_node_answers_though_its_cpus_are_taken(head: Cluster) -> None:
    assert on_ranks(_ask_a_busy_node, 1, head.users) == [0]
