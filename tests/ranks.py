"""Several ranks on this machine, each a process with gloo, as Ray would start them."""

from __future__ import annotations

import multiprocessing
import tempfile
import uuid
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from raydistill.runs.worker import Worker
from tests.small import PATIENCE

# A server imports everything once and never computes: its forks start in no time.
PROCESSES = multiprocessing.get_context("forkserver")
PRELOADED = ("raydistill.training.stages", "tests.ranks", "tests.small")
PROCESSES.set_forkserver_preload([*PRELOADED])


def start_ranks(
    function: Callable[..., None], world_size: int, *arguments: Any, seconds: float = PATIENCE
) -> list[BaseProcess]:
    """Start ``function(worker, *arguments)`` on every rank; a rank waits no longer than ``seconds`` for another."""
    rendezvous = Path(tempfile.gettempdir()) / f"rendezvous-{uuid.uuid4().hex}"
    processes: list[BaseProcess] = [
        PROCESSES.Process(target=_on_rank, args=(rank, world_size, str(rendezvous), seconds, function, arguments))
        for rank in range(world_size)
    ]
    for process in processes:
        process.start()
    return processes


def on_ranks(function: Callable[..., None], world_size: int, *arguments: Any) -> list[int | None]:
    """Run ``function(worker, *arguments)`` on every rank to its end, and return the exit codes."""
    processes = start_ranks(function, world_size, *arguments)
    for process in processes:
        process.join(PATIENCE)
        process.kill()
        process.join()
    return [process.exitcode for process in processes]


def _on_rank(
    rank: int, world_size: int, rendezvous: str, seconds: float, function: Callable[..., None], arguments: tuple[Any]
) -> None:
    torch.set_num_threads(1)
    if world_size > 1:
        limit = timedelta(seconds=seconds)
        dist.init_process_group("gloo", f"file://{rendezvous}", limit, rank=rank, world_size=world_size)
    function(Worker(rank, world_size), *arguments)
