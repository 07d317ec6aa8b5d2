"""A look at what training needs: before Ray is started, or in one task where only the cluster sees it."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
import ray.util.scheduling_strategies

from raydistill.config import Config, ShapesData
from raydistill.errors import UserError, counted
from raydistill.on_ray.room import Demand
from raydistill.on_ray.session import POLL_SECONDS
from raydistill.runs.events import Listener, Note
from raydistill.runs.stopping import Stop
from raydistill.storage.mirror import named
from raydistill.storage.output import Output
from raydistill.storage.store import is_remote
from raydistill.training.inputs import Inputs

Answer = tuple[str, list[Note]]
"""A problem, empty where there is none, and what else there is to say."""
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
    if inputs:
        _ask_a_node(_problem, (inputs,), demand, stop, _PATIENCE_SECONDS)


def claim_data_there(
    config: Config, output: Output, metric: str, demand: Demand, listener: Listener, stop: Stop
) -> None:
    """Compare the data with those that a sweep was begun with, on a node that can hold one of the workers, once.

    Raises:
        UserError: naming what changed, or where ``metric`` has nothing to score.
    """
    if not isinstance(config.data, ShapesData):  # those follow from the settings, which were compared
        for note in _ask_a_node(_claim, (config, output, metric), demand, stop, math.inf):
            listener(note)


def _ask_a_node(
    question: Callable[..., Answer], given: tuple[Any, ...], demand: Demand, stop: Stop, patience: float
) -> list[Note]:
    """Return the notes of a question that is answered on a node which can hold one of the workers.

    Raises:
        UserError: with the problem that was found there.
    """
    own = ray.get_runtime_context().get_node_id()
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and demand.fits(node["Resources"])]
    if not nodes:
        return []
    node = min(nodes, key=lambda name: name == own)  # another one than this machine, which does not see them
    strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
    answer = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=strategy)(question).remote(*given)
    deadline = time.monotonic() + patience
    while not ray.wait([answer], timeout=POLL_SECONDS)[0]:
        if stop.wanted:
            raise stop.interruption()
        if time.monotonic() > deadline:
            return []
    try:
        problem, notes = ray.get(answer)
    except ray.exceptions.RayError:  # the node was lost
        return []
    if problem:
        raise UserError(problem)
    return list(notes)


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


def _problem(inputs: Inputs) -> Answer:
    """Return what is wrong with the files on the machine that this runs on; empty: nothing."""
    try:
        inputs.check()
    except UserError as error:
        return named(str(error)), []
    return "", []


def _claim(config: Config, output: Output, metric: str) -> Answer:
    """Compare the data on the machine that this runs on, and look whether ``metric`` can exist on them."""
    from raydistill.data.build import build_splits
    from raydistill.runs.notices import log_to_notes
    from raydistill.runs.worker import Worker
    from raydistill.training.same_data import claim_data
    from raydistill.training.scored import refuse_missing_metric

    notes: list[Note] = []
    try:
        with log_to_notes(notes.append, Worker()):
            splits = build_splits(config.data, config.downloads)
            claim_data(output, splits, begun=True)
            refuse_missing_metric(metric, config, splits)
    except UserError as error:
        return named(str(error)), notes
    return "", notes
