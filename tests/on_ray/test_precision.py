"""Which nodes are asked what their processor computes with, and what their answers come to; once on a real Ray."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from raydistill.on_ray import precision
from raydistill.on_ray.precision import all_nodes_compute_bf16
from raydistill.on_ray.room import Demand
from raydistill.on_ray.session import connected
from raydistill.runs.stopping import Stop

TRIAL = Demand("resources", 1, {"CPU": 2}, "lower it")
OLD, NEW, LOST, SILENT = "old", "new", "lost", "silent"


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
    asked = cluster(*nodes)
    assert all_nodes_compute_bf16(TRIAL, Stop()) is all_compute
    assert asked == list(nodes)


def test_nodes_that_are_dead_or_too_small_for_a_trial_are_not_asked(cluster: Callable[..., list[str]]) -> None:
    asked = cluster(NEW, ("dead", 4.0), (OLD, 1.0), (OLD, 0.0))
    assert all_nodes_compute_bf16(TRIAL, Stop())
    assert asked == [NEW]


def test_a_wish_to_stop_ends_the_wait(cluster: Callable[..., list[str]]) -> None:
    cluster(SILENT)
    stop = Stop()
    stop.ask()
    with pytest.raises(KeyboardInterrupt):
        all_nodes_compute_bf16(TRIAL, stop)


@pytest.mark.ray
def test_a_real_node_answers_though_its_cpus_are_taken() -> None:
    import ray

    from raydistill.detectors.frozen import computes_bf16

    with connected(1):
        everything = Demand("resources", 1, {"CPU": ray.cluster_resources()["CPU"]}, "lower it")
        group = ray.util.placement_group([dict(everything.wanted)])
        ray.get(group.ready())
        assert all_nodes_compute_bf16(everything, Stop()) is computes_bf16()
