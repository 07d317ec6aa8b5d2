"""Waiting until a cluster can hold the workers: for nodes that join it, or that its autoscaler starts."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal

from raydistill.events import Note
from raydistill.ray_session import refuse_what_cannot_be_had, shortage
from raydistill.stopping import Stop

if TYPE_CHECKING:
    from raydistill.events import Listener

import ray

_POLL_SECONDS = 1
_MOST_PENDING = "TUNE_MAX_PENDING_TRIALS_PG"
_PENDING_ON_A_CLUSTER = 200  # as many as Ray lets wait where it knows all points itself
_FOR_NODES_THAT_JOIN, _FOR_AN_AUTOSCALER = 60, 900  # seconds; a GPU machine that must fetch an image takes minutes


def wait_for_room(
    setting: str,
    num_workers: int,
    wanted: Mapping[str, float],
    advice: str,
    seconds: int | Literal["auto"],
    listener: Listener,
    stop: Stop,
) -> None:
    """Return once the cluster can hold the workers, busy or not; say what is waited for, and for how long.

    Args:
        setting: what the user would change.
        num_workers: how many workers there are to be.
        wanted: what each of them needs, all of it on one node.
        advice: what to do where they cannot be had.
        seconds: the longest wait (``scaling.wait_seconds``).
        listener: hears what is waited for.
        stop: ends the wait.

    Raises:
        UserError: when the time is over; at once where Ray runs on this machine only, as no node joins it.
    """
    lacking = shortage(num_workers, wanted)
    if not lacking:
        return
    if not os.environ.get("RAY_ADDRESS"):
        refuse_what_cannot_be_had(setting, num_workers, wanted, advice)
    started, autoscaled = time.monotonic(), False
    limit = _FOR_NODES_THAT_JOIN if seconds == "auto" else seconds
    listener(Note(f"{setting}: {lacking}; waiting up to {limit} s for nodes (scaling.wait_seconds)", warning=True))
    with _asked_for(num_workers, wanted):
        while shortage(num_workers, wanted):
            if stop.wanted:
                raise stop.interruption()
            if not autoscaled and _autoscaler_at_work():
                autoscaled = True
                limit = _FOR_AN_AUTOSCALER if seconds == "auto" else seconds
                listener(Note(f"the cluster's autoscaler is starting nodes: waiting up to {limit} s for them"))
            if time.monotonic() - started >= limit:
                waited = f"waited {limit} s for nodes (scaling.wait_seconds)"
                refuse_what_cannot_be_had(setting, num_workers, wanted, f"{waited}; {advice}")
            time.sleep(_POLL_SECONDS)


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
def _asked_for(num_workers: int, wanted: Mapping[str, float]) -> Iterator[None]:
    """Let an autoscaler see what is needed. A placement group, since Ray takes it back even from a killed driver."""
    demand = ray.util.placement_group([dict(wanted)] * num_workers)
    try:
        yield
    finally:
        ray.util.remove_placement_group(demand)


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
