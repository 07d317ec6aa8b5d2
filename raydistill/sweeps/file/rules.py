"""What must hold between the keys of a sweep, and which settings may not be searched."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Iterator

from raydistill.config.course import changeable
from raydistill.config.precision import TEACHER_PRECISION
from raydistill.config.sections import Config
from raydistill.config.tree import leaves
from raydistill.sweeps.file.sections import (
    AshaScheduler,
    HyperbandScheduler,
    MedianScheduler,
    NoScheduler,
    OptunaSearch,
    Pb2Scheduler,
    Population,
    Resources,
    Sweep,
)
from raydistill.sweeps.file.space import Dimension, Space

_NOT_COMPARABLE = "trials on other images could not be compared"
_REFUSED = {
    "output": "the sweep gives every trial a directory of its own",
    "seed": "use seeds: every point is trained under each of them",
    "scaling": "use resources: they are the same for every trial",
    "evaluation": "all trials are scored in the same way",
    "checkpoint": "it has no influence on a result",
    "logging": "it has no influence on a result",
    "loader": "it has no influence on a result worth searching",
    "data": _NOT_COMPARABLE,
    "input": _NOT_COMPARABLE,
    "teacher": "one teacher is shared by the whole sweep; trials with others could not be compared",
    "distillation.baseline": "the sweep trains the student alone itself, as a control",
    "distillation.preflight": "it has no influence on a result",
    "distillation.teacher_engine": "it has no influence on a result beyond rounding",
}


def refused(name: str, dimension: Dimension) -> str:
    """Return why a setting may not be searched; empty when it may."""
    values = dimension.values if dimension.discrete else (None,)
    for leaf in dict.fromkeys(leaf for value in values for leaf, _ in leaves(name, value)):
        for start, reason in _REFUSED.items():
            if leaf == start or leaf.startswith(f"{start}."):
                inside = "" if leaf == name else f" with {leaf} in it"
                return f"cannot be searched{inside}: {reason}"
    if any((leaf, inner) == (TEACHER_PRECISION, "auto") for value in values for leaf, inner in leaves(name, value)):
        return "cannot be auto in a search, as that is one of the others; name those"
    return ""


def rules(sweep: Sweep, config: Config | None, wrong: Collection[str] = ()) -> list[str]:
    """Return what does not fit together in a sweep.

    Args:
        sweep: the sweep, with defaults for its wrong keys.
        config: its base, if that could be read.
        wrong: the wrong keys.
    """
    problems = [] if "search" in wrong else [*_of_the_search(sweep)]
    problems += [*_of_the_resources(sweep.resources), *_of_the_scheduler(sweep, config)]
    if len(set(sweep.seeds)) < len(sweep.seeds):
        problems.append(f"seeds: must all differ, got {list(sweep.seeds)}")
    if config is not None and not config.distills:
        problems.append(
            f"base: must distil, as the controls compare distillation with and without decay; got 0 for all of "
            f"{', '.join(config.weights) or 'methods'}"
        )
    if config is not None and not isinstance(sweep.scheduler, NoScheduler):
        problems += _of_the_epochs(sweep, config)
    return problems


def _of_the_search(sweep: Sweep) -> Iterator[str]:
    method = sweep.search.method
    if method in ("grid", "ablation"):
        if sweep.num_trials is not None:
            yield f"num_trials: must be left out with search {method}, which takes every point, got {sweep.num_trials}"
        for name, dimension in sweep.space.items():
            if not dimension.discrete:
                yield f"space.{name}: must be grid or choice with search {method}, got {dimension.kind}; use random"
            if dimension.when and method == "ablation":
                yield f"space.{name}: must have no conditions with search ablation, which changes one setting at a time"
    elif not sweep.space:
        yield f"space: must hold at least one setting with search {method}, got none"
    elif sweep.num_trials is None:
        yield f"num_trials: must be given with search {method}"
    elif sweep.num_trials < len(sweep.points):
        yield f"num_trials: must be at least {len(sweep.points)}, the number of points given, got {sweep.num_trials}"


def _of_the_resources(resources: Resources) -> Iterator[str]:
    gpus = resources.gpus_per_worker
    if gpus == "auto" or gpus.is_integer():
        return
    if gpus > 1:
        yield f"resources.gpus_per_worker: must be a whole number above 1, got {gpus:g}"
    elif resources.num_workers > 1:
        yield (
            f"resources.gpus_per_worker: must be a whole number with {resources.num_workers} workers per trial, got "
            f"{gpus:g}; trials of one worker can share a GPU"
        )


def _of_the_epochs(sweep: Sweep, config: Config) -> Iterator[str]:
    """Yield why a scheduler, which compares trials at equal epochs, finds nothing to compare."""
    scheduler, epochs, every = sweep.scheduler, config.training.epochs, config.evaluation.every
    if every >= epochs:
        yield (
            f"scheduler: {scheduler.name} needs more than one evaluation per trial; evaluation.every must be below "
            f"training.epochs = {epochs}, got {every}"
        )
    if isinstance(scheduler, AshaScheduler | MedianScheduler) and scheduler.grace_period >= epochs:
        yield f"scheduler.grace_period: must be below training.epochs = {epochs}, got {scheduler.grace_period}"
    if isinstance(scheduler, Population) and scheduler.interval >= epochs:
        yield f"scheduler.interval: must be below training.epochs = {epochs}, got {scheduler.interval}"


def _of_the_scheduler(sweep: Sweep, config: Config | None) -> Iterator[str]:
    if isinstance(sweep.scheduler, NoScheduler):
        return
    for name, dimension in sweep.space.items():
        values = dimension.values if dimension.discrete else (None,)
        if any(leaf == "training.epochs" for value in values for leaf, _ in leaves(name, value)):
            yield (
                f"space.{name}: training.epochs cannot be searched with scheduler {sweep.scheduler.name}, which "
                "compares trials at equal epochs"
            )
    if isinstance(sweep.scheduler, Population):
        yield from _of_a_population(sweep, config)
    if isinstance(sweep.scheduler, Pb2Scheduler) and importlib.util.find_spec("sklearn") is None:
        yield "scheduler: pb2 needs the package scikit-learn; pip install 'raydistill[pb2]', or use pbt"
    if isinstance(sweep.scheduler, HyperbandScheduler):
        yield from _of_brackets(sweep)


def _of_brackets(sweep: Sweep) -> Iterator[str]:
    """Yield what stands in the way of trials that wait for each other."""
    if isinstance(sweep.search, OptunaSearch):
        yield (
            "search: must be known beforehand with scheduler hyperband, whose brackets hold all trials from the start, "
            "got optuna; use random or grid, or scheduler asha"
        )
    if sweep.resources.num_workers > 1:
        workers = sweep.resources.num_workers
        yield f"resources.num_workers: must be 1 with scheduler hyperband, got {workers}; or use asha"


def _of_a_population(sweep: Sweep, config: Config | None) -> Iterator[str]:
    """Yield what stands in the way of changing settings while a trial runs."""
    scheduler = sweep.scheduler.name
    if sweep.search.method != "random":
        alternative = "; or use asha or median" if isinstance(sweep.search, OptunaSearch) else ""
        yield f"search: must be random with scheduler {scheduler}, got {sweep.search.method}{alternative}"
    if len(sweep.seeds) > 1:
        yield f"seeds: must be one with scheduler {scheduler}, got {len(sweep.seeds)}"
    if sweep.resources.num_workers > 1:
        yield f"resources.num_workers: must be 1 with scheduler {scheduler}, got {sweep.resources.num_workers}"
    if sweep.num_trials == 1:
        yield f"num_trials: must be at least 2 with scheduler {scheduler}, which replaces the worst by the best, got 1"
    if config is not None and config.schedule:
        yield f"schedule: must be left out with scheduler {scheduler}, which changes settings itself"
    if config is not None:
        yield from _changeable(sweep.space, changeable(config), scheduler)


def _changeable(space: Space, changing: Collection[str], scheduler: str) -> Iterator[str]:
    for name, dimension in space.items():
        if name not in changing and not _is_a_weight(name):
            yield (
                f"space.{name}: cannot change during training, as scheduler {scheduler} would have it; what can is "
                f"{', '.join(changing)}"
            )
        elif scheduler == "pb2" and dimension.discrete:
            yield f"space.{name}: must be a range with scheduler pb2, whose model chooses within one; or use pbt"
        elif dimension.when:
            yield f"space.{name}: must have no conditions with scheduler {scheduler}"
        elif not all(isinstance(value, int | float) and not isinstance(value, bool) for value in dimension.values):
            yield f"space.{name}: must hold numbers only with scheduler {scheduler}, got {list(dimension.values)}"
        elif _is_a_weight(name) and 0 in dimension.values and dimension.kind not in ("uniform", "loguniform"):
            yield (
                f"space.{name}: must stay above 0 with scheduler {scheduler}, got {list(dimension.values)}: a student "
                "without the term cannot go on from one with it"
            )


def _is_a_weight(name: str) -> bool:
    """Return whether a setting is the weight of a method's term, also of a method that the base does not run."""
    return name.startswith("methods.") and name.endswith(".weight")
