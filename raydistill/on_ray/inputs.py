"""A look at what training needs: before Ray is started, or in one task where only the cluster sees it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import ray
import ray.util.scheduling_strategies

from raydistill.errors import UserError, counted
from raydistill.on_ray.room import Demand
from raydistill.on_ray.session import POLL_SECONDS
from raydistill.runs.stopping import Stop
from raydistill.storage.mirror import named
from raydistill.storage.store import is_remote
from raydistill.training.inputs import Inputs

_PATIENCE_SECONDS = 300  # a node reads the annotations to answer; after that the workers find out themselves


def check_inputs_here(inputs: Inputs) -> Inputs:
    """Check what this machine sees of the files, before Ray is started; return what only the cluster may see.

    Raises:
        UserError: naming what is wrong.
    """
    on_a_cluster = bool(os.environ.get("RAY_ADDRESS"))
    here, there = inputs.parted(lambda place: not on_a_cluster or (not is_remote(place) and Path(place).exists()))
    here.check()
    return there


def check_inputs_there(inputs: Inputs, demand: Demand, stop: Stop) -> None:
    """Check the files on a node that can hold one of the workers; where none answers, the workers will tell.

    Raises:
        UserError: naming what is wrong.
    """
    own = ray.get_runtime_context().get_node_id()
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and demand.fits(node["Resources"])]
    if not inputs or not nodes:
        return
    node = min(nodes, key=lambda name: name == own)  # another one than this machine, which does not see them
    strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
    answer = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=strategy)(_problem).remote(inputs)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not ray.wait([answer], timeout=POLL_SECONDS)[0]:
        if stop.wanted:
            raise stop.interruption()
        if time.monotonic() > deadline:
            return
    try:
        problem = ray.get(answer)
    except ray.exceptions.RayError:  # the node was lost
        return
    if problem:
        raise UserError(problem)


def check_devices(setting: str, gpus: float, precision: str) -> None:
    """Make sure that a Ray which is to be started on this machine will find what is asked for.

    Args:
        setting: what the user would change.
        gpus: that all workers need together at least.
        precision: ``training.precision``.

    Raises:
        UserError: where there are fewer, or none for a precision that needs one.
    """
    if os.environ.get("RAY_ADDRESS") or not (gpus or precision == "fp16"):
        return
    there = _gpus_here()
    if there < gpus:
        got = f"{counted(there, 'GPU')} where {gpus:g} are wanted"
        raise UserError(f"{setting}: must be what this machine has, got {got}; lower it or leave it out")
    if precision == "fp16" and not there:
        raise UserError("training.precision: fp16 needs a GPU, got none; use bf16 or fp32")


def _gpus_here() -> int:
    """Return how many GPUs Ray will find on this machine; it looks without torch."""
    from ray._private.accelerators import get_accelerator_manager_for_resource

    manager = get_accelerator_manager_for_resource("GPU")
    there: int = manager.get_current_node_num_accelerators()
    visible = manager.get_current_process_visible_accelerator_ids()
    return there if visible is None else min(there, len(visible))


def _problem(inputs: Inputs) -> str:
    """Return what is wrong with the files on the machine that this runs on; empty: nothing."""
    try:
        inputs.check()
    except UserError as error:
        return named(str(error))
    return ""
