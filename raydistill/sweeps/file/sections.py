"""The settings of a sweep: what is searched, how, how often and on what."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from raydistill.config.base import Fraction, Millions, Number, Processes, Section, Seed, Text, Whole
from raydistill.config.tree import Tree
from raydistill.sweeps.file.space import Point, Space

_IN_HOURS = {"d": 24.0, "h": 1.0, "m": 1 / 60, "min": 1 / 60, "s": 1 / 3600}
_DURATION = re.compile(r"((\d+(?:\.\d+)?)\s*(d|h|min|m|s)\s*)+")
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(d|h|min|m|s)")


def _hours(value: Any) -> Any:
    """Return a text such as ``1h30m`` in hours; numbers stay.

    >>> _hours("1h30m"), _hours("90 min"), _hours(8)
    (1.5, 1.5, 8)
    """
    if not isinstance(value, str):
        return value
    if not _DURATION.fullmatch(value.strip()):
        raise PydanticCustomError("duration", "Input should be hours, or a text such as 8h, 1h30m or 45m")
    return sum(float(number) * _IN_HOURS[unit] for number, unit in _PART.findall(value))


Hours = Annotated[Number, BeforeValidator(_hours)]


class GridSearch(Section):
    """Every combination of the values."""

    method: Literal["grid"]


class AblationSearch(Section):
    """The base as it is, and every value of every setting with all others as in the base: one change at a time."""

    method: Literal["ablation"]


class RandomSearch(Section):
    """Points drawn independently of each other and of the results."""

    method: Literal["random"]
    seed: Seed = 0


class OptunaSearch(Section):
    """Points that Optuna's TPE sampler suggests from the results so far."""

    method: Literal["optuna"]
    seed: Seed = 0
    startup_trials: Millions = 10
    """Points drawn at random before the sampler trusts its model."""


Search = Annotated[GridSearch | AblationSearch | RandomSearch | OptunaSearch, Field(discriminator="method")]


class NoScheduler(Section):
    """Every trial trains to its end."""

    name: Literal["none"]


class AshaScheduler(Section):
    """Successive halving: at each rung the best ``1 / reduction_factor`` go on."""

    name: Literal["asha"]
    grace_period: Millions = 1
    """Epochs that every trial may train."""
    reduction_factor: Annotated[Whole, Field(ge=2, le=10**6)] = 3


class MedianScheduler(Section):
    """A trial ends early when its best score lies below the median of the others' averages at the same epoch."""

    name: Literal["median"]
    grace_period: Millions = 1
    """Epochs that every trial may train."""
    min_trials: Millions = 3
    """Trials that must have come as far before one is compared with them."""


class PbtScheduler(Section):
    """Population based training: the worst trials go on from the best ones' weights with changed settings."""

    name: Literal["pbt"]
    interval: Millions = 1
    """Epochs between two changes."""
    quantile: Annotated[Number, Field(gt=0, le=0.5)] = 0.25
    """Share of the trials that is replaced, and share that they are replaced from."""
    resample: Fraction = 0.25
    """Probability that a changed setting is drawn anew instead of made a fifth larger or smaller."""


class Pb2Scheduler(Section):
    """As ``pbt``, but a model of what scores have gained so far chooses the settings; needs the extra ``pb2``."""

    name: Literal["pb2"]
    interval: Millions = 1
    """Epochs between two changes."""
    quantile: Annotated[Number, Field(gt=0, le=0.5)] = 0.25
    """Share of the trials that is replaced, and share that they are replaced from."""


class HyperbandScheduler(Section):
    """Successive halving in several brackets that trade trials for epochs; those of a bracket wait for each other."""

    name: Literal["hyperband"]
    reduction_factor: Annotated[Whole, Field(ge=2, le=10**6)] = 3
    """At each halving the best ``1 / reduction_factor`` of a bracket go on."""


Scheduler = Annotated[
    NoScheduler | AshaScheduler | MedianScheduler | HyperbandScheduler | PbtScheduler | Pb2Scheduler,
    Field(discriminator="name"),
]
Population = PbtScheduler | Pb2Scheduler
"""Schedulers under which settings change while a trial trains."""


class Resources(Section):
    """What one trial gets."""

    num_workers: Processes = 1
    cpus_per_worker: Processes | Annotated[Number, Field(ge=0.01, lt=1)] = 1
    """A fraction lets several trials share a CPU."""
    gpus_per_worker: Annotated[Number, Field(ge=0, le=10_000)] | Literal["auto"] = "auto"
    """A fraction lets several trials of one worker share a GPU; ``auto``: one where there is one for every worker."""


class Sweep(Section):
    """A sweep over settings of one base, as loaded: its paths are absolute."""

    base: Text
    """A recipe's name, or a YAML file."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Changes of the base that hold for every trial, section by section."""
    output: Text
    metric: Literal["AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"] = "AP"
    mode: Literal["max", "min"] = "max"
    search: Search = GridSearch(method="grid")
    num_trials: Annotated[Whole, Field(ge=1, le=10_000)] | None = None
    """Points of a random or an Optuna search, those under ``points`` included; a grid has as many as it has."""
    points: tuple[Point, ...] = ()
    """Settings that are known to be good, or recipes with them: the first points, whatever the search.

    What a point leaves out is as in the base.
    """
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    """Every point is trained once under each."""
    time_budget: Annotated[Hours, Field(gt=0, le=100_000)] | None = None
    """Hours, or a text such as 90m, that the command may work, all calls together; then trials leave a checkpoint."""
    target: Annotated[Number, Field(gt=1, le=100)] | None = None
    """Points of ``metric`` at which the sweep ends, once the mean of a searched point over all seeds is as good."""
    keep: Annotated[Whole, Field(ge=1, le=10_000)] | None = None
    """How many of the best points keep their weights, beside the controls; unset: all do. Scores are never removed."""
    failed: Literal["retry", "only", "leave"] = "retry"
    """Whether trials that failed before are tried again with the others, ``only`` they are, or they are left."""
    scheduler: Scheduler = NoScheduler(name="none")
    resources: Resources = Resources()
    max_concurrent: Millions | Literal["auto"] = "auto"
    space: Space = Field(default_factory=dict)
    """What is searched; nothing: the base alone, under all seeds."""


SWEEP = Tree(Sweep, {"search": "method", "scheduler": "name"})
