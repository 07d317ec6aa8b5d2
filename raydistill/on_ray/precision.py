"""Whether the processors of a cluster compute with bf16: asked on every node before a sweep's first trial."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from raydistill.on_ray.room import Demand
from raydistill.on_ray.session import POLL_SECONDS
from raydistill.runs.events import Note

if TYPE_CHECKING:
    from raydistill.runs.events import Listener
    from raydistill.runs.stopping import Stop

import ray
import ray.util.scheduling_strategies

_PATIENCE_SECONDS = 300  # a node imports torch to answer: seconds, minutes where it is busy


def all_nodes_compute_bf16(demand: Demand, listener: Listener, stop: Stop) -> bool:
    """Return whether the processor of every node that can hold one of the workers computes with bf16.

    A node that does not answer is taken for one that does not, which ``listener`` hears; so is a cluster without such
    nodes. Nodes that join later are not asked: a sweep keeps what was decided.
    """
    here = ray.get_runtime_context().get_node_id()
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and demand.fits(node["Resources"])]
    waiting = answers = [_asked(node) for node in nodes if node != here]
    # this process need not wait until another one has imported torch
    found: list[bool | None] = [_computes_bf16()] if here in nodes else []
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while waiting and time.monotonic() < deadline:
        if stop.wanted:
            raise stop.interruption()
        _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=POLL_SECONDS)
    found += [None if answer in waiting else _answer(answer) for answer in answers]
    if silent := found.count(None):
        text = f"{silent} of {len(nodes)} nodes did not say whether they compute with bf16: taken for no"
        listener(Note(text, warning=True))
    return bool(found) and all(found)


def _asked(node: str) -> ray.ObjectRef:
    """Ask a node, however busy it is: the question needs no resources."""
    strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=strategy)(_computes_bf16).remote()


def _computes_bf16() -> bool:
    """Say it of the machine that this runs on."""
    from raydistill.detectors.frozen import computes_bf16

    return computes_bf16()


def _answer(answer: ray.ObjectRef) -> bool | None:
    try:
        return bool(ray.get(answer))
    except ray.exceptions.RayError:  # the node was lost, or cannot import what it takes
        return None
