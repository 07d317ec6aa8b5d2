"""Waiting for room on a cluster: for nodes that join it or that its autoscaler starts, or behind others' work."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import ray
import ray.util.scheduling_strategies

from raydistill.errors import UserError, counted
from raydistill.runs.events import Note
from raydistill.runs.stopping import Stop

if TYPE_CHECKING:
    from raydistill.runs.events import Listener


Seconds = int | Literal["auto"]
"""``scaling.wait_seconds`` and ``scaling.elastic_wait_seconds``."""
_POLL_SECONDS = 1
_MOST_PENDING = "TUNE_MAX_PENDING_TRIALS_PG"
_PENDING_ON_A_CLUSTER = 200  # as many as Ray lets wait where it knows all points itself
_FOR_NODES_THAT_JOIN, _FOR_AN_AUTOSCALER = 60, 900  # seconds; a GPU machine that must fetch an image takes minutes
_FOR_A_LOST_NODE = _FOR_AN_AUTOSCALER
_FOR_ALL_OF_AN_AUTOSCALER = 300  # seconds; an elastic run takes in later nodes at the price of a restart
_FOR_THE_COORDINATOR = 60  # seconds; where no run came before, its process has to be started
_PATIENCE_SECONDS = 10  # room that is there is given within it
_SAID_AFTER = (30, 120, 300)  # seconds; then at every multiple of the last


def wait_for_room(demand: Demand, seconds: Seconds, listener: Listener, stop: Stop) -> None:
    """Return once the cluster can hold the workers, busy or not; say what is waited for, and for how long.

    Args:
        demand: the workers.
        seconds: the longest wait.
        listener: hears what is waited for.
        stop: ends the wait.

    Raises:
        UserError: when the time is over; at once where Ray runs on this machine only, as no node joins it.
    """
    waited = _wait(demand, _Limit("scaling.wait_seconds", seconds, _FOR_AN_AUTOSCALER), listener, stop)
    demand.refuse_what_cannot_be_had(waited)


def wait_for_all(demand: Demand, seconds: Seconds, listener: Listener, stop: Stop) -> None:
    """Return once the cluster can hold all workers of an elastic run, or the time is over; nothing is raised then.

    Ray would begin with the first node that holds the fewest workers, and start them again when others have joined.
    """
    if seconds == 0:
        return
    _wait(demand, _Limit("scaling.elastic_wait_seconds", seconds, _FOR_ALL_OF_AN_AUTOSCALER), listener, stop)


@dataclass(frozen=True)
class _Limit:
    """The longest wait, as a setting gives it."""

    setting: str
    seconds: Seconds
    of_autoscaler: int
    """Where the setting leaves it open and an autoscaler starts nodes."""

    def now(self, autoscaled: bool) -> int:
        if self.seconds == "auto":
            return self.of_autoscaler if autoscaled else _FOR_NODES_THAT_JOIN
        return self.seconds


def _wait(demand: Demand, limit: _Limit, listener: Listener, stop: Stop) -> str:
    """Wait for room until the time is over, where nodes may come at all; return how long that was, if it was in vain.

    The whole demand is asked for meanwhile, so that an autoscaler starts all nodes at the same time.
    """
    lacking = demand.shortage()
    if not lacking or not os.environ.get("RAY_ADDRESS"):
        return ""
    started, autoscaled = time.monotonic(), False
    listener(_waiting_for_nodes(demand, lacking, limit.now(autoscaled), limit.setting))
    with _asked_for(demand):
        while demand.shortage():
            if stop.wanted:
                raise stop.interruption()
            if not autoscaled and _autoscaler_at_work():
                autoscaled = True
                seconds = limit.now(autoscaled)
                listener(Note(f"the cluster's autoscaler is starting nodes: waiting up to {seconds} s for them"))
            if time.monotonic() - started >= limit.now(autoscaled):
                return f"waited {limit.now(autoscaled)} s for nodes ({limit.setting})"
            time.sleep(_POLL_SECONDS)
    return ""


@dataclass
class Queue:
    """Follows workers that Ray has been asked to start and has no room for yet, as others or a loss took it.

    A cluster that is large enough is waited for as long as it takes, unless the user set a limit; one that has become
    too small for a time. Either is said soon, and again from time to time.
    """

    demand: Demand
    seconds: Seconds
    listener: Listener
    _since: float | None = None
    _say_after: float = 0

    def look(self, waiting: bool) -> str:
        """Say what is waited for, where nothing is at work; return why the wait is given up, else an empty text."""
        now = time.monotonic()
        if not waiting:
            self._since = None
            return ""
        if self._since is None:
            self._since, self._say_after = now, _SAID_AFTER[0]
        waited = now - self._since
        lacking = self.demand.shortage()
        limit = self._limit(lacking)
        if limit is not None and waited >= limit:
            why = lacking or f"{self.demand} where {_free(self.demand)}"
            return (
                f"{self.demand.setting}: must get room on the Ray cluster, got {why}; waited {limit} s "
                f"(scaling.wait_seconds); {self.demand.advice}, then repeat the command"
            )
        if waited >= self._say_after:
            self.listener(_waiting_for_nodes(self.demand, lacking, limit) if limit and lacking else self._busy(limit))
            self._say_after = _next(waited)
        return ""

    def _limit(self, lacking: str) -> int | None:
        if self.seconds == "auto":
            return _FOR_A_LOST_NODE if lacking else None
        return max(self.seconds, _PATIENCE_SECONDS)

    def _busy(self, limit: int | None) -> Note:
        how_long = "as long as it takes; scaling.wait_seconds sets a limit"
        if limit is not None:
            how_long = f"up to {limit} s (scaling.wait_seconds)"
        text = f"the Ray cluster is busy: {self.demand} asked for, {_free(self.demand)}; waiting {how_long}"
        return Note(f"{self.demand.setting}: {text}", warning=True)


def let_ray_count_nodes() -> None:
    """Let Ray look now which nodes there are; an elastic run is about to begin.

    The coordinator that tells it lives as long as the cluster and looks every 20 s: a run would begin with workers for
    a node that was lost meanwhile, or without those for one that has joined.
    """
    from ray.data._internal.cluster_autoscaler import default_autoscaling_coordinator

    coordinator = default_autoscaling_coordinator.get_or_create_autoscaling_coordinator()
    with contextlib.suppress(ray.exceptions.RayError):  # Ray goes by what it knew
        looked = coordinator.get_reserved_resources.remote("raydistill", recompute=True)
        ray.get(looked, timeout=_FOR_THE_COORDINATOR)


def has_unmet_requests() -> bool:
    """Return whether this job has asked Ray for room that it has not been given."""
    job = ray.get_runtime_context().get_job_id()
    groups = ray.util.placement_group_table().items()
    return any(group["state"] in ("PENDING", "RESCHEDULING") and key.endswith(job) for key, group in groups)


def _next(waited: float) -> float:
    """Return when a wait is spoken of again.

    >>> [_next(waited) for waited in (30, 120, 301, 600)]
    [120, 300, 600, 900]
    """
    last = _SAID_AFTER[-1]
    return next((seconds for seconds in _SAID_AFTER if seconds > waited), (waited // last + 1) * last)


def _waiting_for_nodes(demand: Demand, lacking: str, limit: int, setting: str = "scaling.wait_seconds") -> Note:
    return Note(f"{demand.setting}: {lacking}; waiting up to {limit} s for nodes ({setting})", warning=True)


def _free(demand: Demand) -> str:
    """Say what the whole cluster has free of what is asked for."""
    free, there = ray.available_resources(), ray.cluster_resources()
    parts = (f"{free.get(kind, 0):g} of {there.get(kind, 0):g} {kind}" for kind in demand.wanted)
    return f"{' and '.join(parts)} are free"


@contextlib.contextmanager
def many_pending(places: int) -> Iterator[None]:
    """Let Ray Tune ask for the actors of many trials at once: with a search it would ask for one after the other.

    That is how fast a big cluster fills, and all that an autoscaler sees. Only where the points are known beforehand: a
    search that learns is asked when there is room.

    Args:
        places: how many trials fit on what is there now; on a cluster more may be.
    """
    if _MOST_PENDING in os.environ:
        yield
        return
    os.environ[_MOST_PENDING] = str(max(1, places, _PENDING_ON_A_CLUSTER if os.environ.get("RAY_ADDRESS") else 0))
    try:
        yield
    finally:
        del os.environ[_MOST_PENDING]


@contextlib.contextmanager
def _asked_for(demand: Demand) -> Iterator[None]:
    """Let an autoscaler see what is needed. A placement group, since Ray takes it back even from a killed driver."""
    group = ray.util.placement_group([dict(demand.wanted)] * demand.num_workers)
    try:
        yield
    finally:
        ray.util.remove_placement_group(group)


def _autoscaler_at_work() -> bool:
    """Return whether the cluster has an autoscaler that starts nodes, or has tried to.

    Ray 2.60 tells it of its second autoscaler, which ``ray up`` and KubeRay use; a cluster without one has none of
    these lists.
    """
    from ray.autoscaler.v2.sdk import get_cluster_status

    try:
        status = get_cluster_status(ray.get_runtime_context().gcs_address)
    except ray.exceptions.RpcError:
        return False  # the head is busy: it is asked again
    return bool(status.pending_launches or status.pending_nodes or status.failed_launches)


def nodes() -> list[dict[str, float]]:
    """Return the resources of each living node."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def places_for(wanted: Mapping[str, float]) -> int:
    """Return how many workers that each want ``wanted`` the cluster can hold at once."""
    return sum(min(int(node.get(kind, 0) / amount + 1e-9) for kind, amount in wanted.items()) for node in nodes())


@dataclass(frozen=True)
class Demand:
    """Workers that need room on the cluster at the same time."""

    setting: str
    """What the user would change."""
    num_workers: int
    wanted: Mapping[str, float]
    """What each of them needs, all of it on one node."""
    advice: str
    """What to do where they cannot be had."""

    def __str__(self) -> str:
        """Return what is asked for."""
        each = " and ".join(f"{amount:g} {kind}" for kind, amount in self.wanted.items())
        return f"{counted(self.num_workers, 'worker')} of {each}"

    def fits(self, resources: Mapping[str, float]) -> bool:
        """Return whether a node with these ``resources`` can hold one of them."""
        return all(resources.get(kind, 0) >= amount for kind, amount in self.wanted.items())

    def shortage(self) -> str:
        """Return what is asked for and what there is, where the cluster cannot hold it; else an empty text."""
        places = places_for(self.wanted)
        if places >= self.num_workers:
            return ""
        there = ", ".join(f"{node.get('CPU', 0):g} CPU {node.get('GPU', 0):g} GPU" for node in nodes())
        return f"{self} for nodes of {there}, which hold {places}"

    def refuse_what_cannot_be_had(self, waited: str = "") -> None:
        """Raise when the cluster can never hold the workers; Ray itself would wait for ever."""
        lacking = self.shortage()
        if lacking:
            reasons = "; ".join(part for part in (lacking, waited, self.advice) if part)
            raise UserError(f"{self.setting}: must fit into the Ray cluster, got {reasons}")
