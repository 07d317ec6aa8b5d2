"""Whether the processors of a cluster compute with bf16: asked on every node before a sweep's first trial."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from raydistill.on_ray.room import Demand
from raydistill.on_ray.session import POLL_SECONDS

if TYPE_CHECKING:
    from raydistill.runs.stopping import Stop

import ray
import ray.util.scheduling_strategies

_PATIENCE_SECONDS = 120  # a node imports torch to answer; on a slow one that is busy it takes half a minute


def all_nodes_compute_bf16(demand: Demand, stop: Stop) -> bool:
    """Return whether the processor of every node that can hold one of the workers computes with bf16.

    A node that does not answer does not, nor does a cluster without such nodes. Nodes that join later are not asked: a
    sweep keeps what was decided.
    """
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and demand.fits(node["Resources"])]
    waiting = answers = [_asked(node) for node in nodes]
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while waiting and time.monotonic() < deadline:
        if stop.wanted:
            raise stop.interruption()
        _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=POLL_SECONDS)
    return bool(answers) and not waiting and all(map(_answered, answers))


def _asked(node: str) -> ray.ObjectRef:
    """Ask a node, however busy it is: the question needs no resources."""
    strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=strategy)(_computes_bf16).remote()


def _computes_bf16() -> bool:
    """Run on the node that is asked."""
    from raydistill.detectors.frozen import computes_bf16

    return computes_bf16()


def _answered(answer: ray.ObjectRef) -> bool:
    try:
        return bool(ray.get(answer))
    except ray.exceptions.RayError:  # the node was lost, or cannot import what it takes
        return False
