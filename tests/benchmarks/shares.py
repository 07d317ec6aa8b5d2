"""Where the time of a distilling step goes."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch.distributed as dist
from torch import Tensor

from raydistill.config.precision import Precision
from raydistill.detectors.base import Detector
from raydistill.detectors.teacher import Teacher, TeacherPass
from raydistill.detectors.values import AnchorAnswers, Answers, Regions
from raydistill.methods.values import StepLosses
from raydistill.structures import Batch
from raydistill.training.distiller import Distiller
from raydistill.training.loop import take_step
from raydistill.training.metrics import FiniteWatch, MetricSums
from raydistill.training.resume import in_ddp
from tests.benchmarks.cases import Bench
from tests.benchmarks.timing import in_turn


def shares(bench: Bench, seconds: dict[str, list[float]], rounds: int, now: Callable[[], float]) -> dict[str, float]:
    """Return the parts of the step with all levels, as multiples of the plain step.

    ``student`` is the plain step with the RoIAlign that the recipe names, ``terms`` what neither that nor the teacher
    explains: adapters, losses and their gradients. ``ddp`` is
    the wrapper in a group of one: hooks and copies, without a network. ``data_wait`` is by the wall clock.
    """
    plain = statistics.median(seconds["plain"])
    student = statistics.median(seconds.get("plain_fast_roi", seconds["plain"]))
    step = statistics.median(seconds["all_levels"])
    teacher, logging = _inside_a_step(bench, rounds, now)
    return {
        "student": student / plain,
        "teacher": teacher / plain,
        "terms": (step - student - teacher) / plain,
        "logging": logging / plain,
        "ddp": _ddp(bench, rounds, now) / plain,
        "data_wait": _data_wait(bench, rounds) / plain,
    }


_COMPUTED = {"features", "proposals", "regions"}  # of a ``TeacherPass``, when they are first asked for


@dataclass
class Stopwatch:
    """Adds up the seconds of parts of a step."""

    now: Callable[[], float]
    spent: dict[str, float] = field(default_factory=dict)
    _running: set[str] = field(default_factory=set)

    @contextmanager
    def on(self, part: str) -> Iterator[None]:
        """Count what happens inside as ``part``, once where it is in itself."""
        if part in self._running:
            yield
            return
        started = self.now()
        self._running.add(part)
        try:
            yield
        finally:
            self._running.remove(part)
            self.spent[part] = self.spent.get(part, 0.0) + self.now() - started


class TimedTeacher(Teacher):
    """A teacher whose answers are timed."""

    def __init__(self, detector: Detector, precision: Precision, watch: Stopwatch) -> None:
        super().__init__(detector, precision)
        self._watch = watch

    def look(self, batch: Batch) -> TeacherPass:
        """Return what the teacher makes of a batch, each part timed when it is asked for."""
        return TimedPass(self, batch, self._watch)


class TimedPass(TeacherPass):
    """What the teacher says about a batch, timed; what it asks itself on the way counts once."""

    def __init__(self, teacher: Teacher, batch: Batch, watch: Stopwatch) -> None:
        super().__init__(teacher, batch)
        self._watch = watch

    def __getattribute__(self, name: str) -> Any:
        """Time the parts that compute something."""
        if name in _COMPUTED and name not in vars(self):
            with self._watch.on("teacher"):
                return super().__getattribute__(name)
        return super().__getattribute__(name)

    def answer(self, regions: Regions) -> Answers:
        """Answer, timed."""
        with self._watch.on("teacher"):
            return super().answer(regions)

    def answer_anchors(self, indices: Tensor) -> AnchorAnswers:
        """Answer, timed."""
        with self._watch.on("teacher"):
            return super().answer_anchors(indices)


@dataclass
class TimedSums(MetricSums):
    """Sums whose keeping is timed."""

    watch: Stopwatch = field(kw_only=True)

    def add(self, losses: StepLosses) -> None:
        """Add, timed."""
        with self.watch.on("logging"):
            super().add(losses)


@dataclass
class TimedFiniteWatch(FiniteWatch):
    """A watch over the losses that is timed itself."""

    watch: Stopwatch = field(kw_only=True)

    def add(self, losses: StepLosses, step: str, images: str, remedy: Callable[[], str]) -> None:
        """Watch, timed."""
        with self.watch.on("logging"):
            super().add(losses, step, images, remedy)


def _inside_a_step(bench: Bench, rounds: int, now: Callable[[], float]) -> tuple[float, float]:
    """Return the seconds of a step in the teacher and in keeping the numbers."""
    watch = Stopwatch(now)
    sums = TimedSums(watch=watch)
    state = bench.begin(Distiller(bench.student, bench.teacher, bench.config, bench.precision))
    if state.distiller.distills:
        state.distiller.teacher = TimedTeacher(bench.teacher, bench.precision, watch)
    state.watch = TimedFiniteWatch(watch=watch)
    for _ in range(rounds):
        take_step(state, [bench.batch], 1.0, 0, sums)
    return watch.spent.get("teacher", 0.0) / rounds, watch.spent["logging"] / rounds


def _ddp(bench: Bench, rounds: int, now: Callable[[], float]) -> float:
    """Return the seconds that DDP's hooks and copies add to a step."""
    state, sums = bench.states["all_levels"], MetricSums()
    own = bench.begin(Distiller(copy.deepcopy(bench.student), bench.teacher, bench.config, bench.precision))
    with _group_of_one():
        own.wrapped = in_ddp(own.distiller, bench.worker)
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
