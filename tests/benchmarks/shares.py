"""Where the time of a distilling step goes."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from raydistill.training.distiller import Distiller
from raydistill.training.loop import take_step
from raydistill.training.metrics import MetricSums
from tests.benchmarks.cases import Bench
from tests.benchmarks.timing import in_turn


def shares(bench: Bench, seconds: dict[str, list[float]], rounds: int, now: Callable[[], float]) -> dict[str, float]:
    """Return the parts of the step with all levels, as multiples of the plain step.

    ``terms`` is what neither the plain step nor the teacher explains: adapters, losses and their gradients. ``ddp`` is
    the wrapper in a group of one: hooks and copies, without a network. ``data_wait`` is by the wall clock.
    """
    plain = statistics.median(seconds["plain"])
    step = statistics.median(seconds["all_levels"])
    teacher, logging = _inside_a_step(bench, rounds, now)
    return {
        "student": 1.0,
        "teacher": teacher / plain,
        "terms": (step - plain - teacher) / plain,
        "logging": logging / plain,
        "ddp": _ddp(bench, rounds, now) / plain,
        "data_wait": _data_wait(bench, rounds) / plain,
    }


def _inside_a_step(bench: Bench, rounds: int, now: Callable[[], float]) -> tuple[float, float]:
    """Return the seconds of a step in the teacher and in keeping the numbers."""
    state, sums = bench.states["all_levels"], MetricSums()
    teacher = state.distiller.teacher
    spent = {"teacher": 0.0, "logging": 0.0}
    watched: list[tuple[Any, str, str]] = [(sums, "add", "logging"), (state.watch, "add", "logging")]
    if teacher is not None:
        watched += [(teacher, name, "teacher") for name in ("look", "answer", "answer_anchors", "sample_regions")]
    for owner, name, kind in watched:
        setattr(owner, name, _timed(getattr(owner, name), spent, kind, now))
    for _ in range(rounds):
        take_step(state, [bench.batch], 1.0, 0, sums)
    for owner, name, _ in watched:
        delattr(owner, name)
    return spent["teacher"] / rounds, spent["logging"] / rounds


def _timed(
    function: Callable[..., Any], spent: dict[str, float], kind: str, now: Callable[[], float]
) -> Callable[..., Any]:
    def run(*arguments: Any, **named: Any) -> Any:
        started = now()
        try:
            return function(*arguments, **named)
        finally:
            spent[kind] += now() - started

    return run


def _ddp(bench: Bench, rounds: int, now: Callable[[], float]) -> float:
    """Return the seconds that DDP's hooks and copies add to a step."""
    state, sums = bench.states["all_levels"], MetricSums()
    own = copy.copy(state)
    own.distiller = Distiller(copy.deepcopy(bench.student), bench.teacher, bench.config, bench.precision)
    own.distiller.to(bench.worker.device)
    with _group_of_one():
        own.wrapped = DistributedDataParallel(own.distiller, broadcast_buffers=False)
        cases = {
            "without": lambda: take_step(state, [bench.batch], 1.0, 0, sums),
            "with": lambda: take_step(own, [bench.batch], 1.0, 0, sums),
        }
        seconds = in_turn(cases, rounds, now)
        del own.wrapped
    pairs = zip(seconds["with"], seconds["without"], strict=True)
    return statistics.median(with_ddp - without for with_ddp, without in pairs)


@contextmanager
def _group_of_one() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        dist.destroy_process_group()


def _data_wait(bench: Bench, rounds: int) -> float:
    """Return the seconds by the wall clock that a step waits for its batch, the first left out."""
    state, sums = bench.states["all_levels"], MetricSums()
    waited = []
    batches = bench.loader.epoch(0)
    for _ in range(min(rounds + 1, bench.loader.steps_per_epoch)):
        started = time.perf_counter()
        parts = next(batches)
        waited.append(time.perf_counter() - started)
        take_step(state, parts, 1.0, 0, sums)
    return statistics.median(waited[1:] or waited)
