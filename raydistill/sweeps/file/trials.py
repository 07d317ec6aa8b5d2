"""A loaded sweep and the complete settings of its trials: points and controls."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from raydistill.config.course import largest_weights, with_settings, without
from raydistill.config.loader import CONFIG, validate, with_absolute_paths
from raydistill.config.pooling import ROI_ALIGN, with_exact_pooling
from raydistill.config.precision import TEACHER_PRECISION, Precision, with_precision
from raydistill.config.sections import OF_DISTILLATION, Config
from raydistill.config.tree import nested
from raydistill.errors import one_error
from raydistill.sweeps.file.confirmation import Confirmation
from raydistill.sweeps.file.growth import Extent
from raydistill.sweeps.file.sections import Resources, Sweep
from raydistill.sweeps.file.space import Point, point_text

Control = Literal["baseline", "constant"]
# Given by the sweep or the trial, or without influence on a result.
_NO_PART_OF_A_POINT: dict[str, Any] = {
    **dict.fromkeys(("output", "seed", "checkpoint", "scaling", "logging", "downloads"), True),
    "distillation": {"baseline", "preflight"},
}


@dataclass(frozen=True)
class LoadedSweep:
    """A sweep that was checked, its base read."""

    sweep: Sweep
    config: Config
    """The base with the sweep's settings and output; its scaling is the base's."""
    points: tuple[Point, ...] | None
    """What is searched, in order; None where the search finds its points on the way (Optuna)."""
    dropped: tuple[str, ...]
    """A sentence for each point that was left out, since another one or a control would give the same."""
    raw: dict[str, Any] = field(repr=False, default_factory=dict)
    """What ``config`` was built from: what was left open there may depend on what a point changes."""
    confirmation: Confirmation | None = None
    """What is trained again under fresh seeds, now that the sweep itself has ended; then nothing else is."""
    grown: tuple[Extent, ...] = ()
    """What the sweep covered before it grew, the first time first."""
    given: tuple[Point, ...] = ()
    """Points to begin with, where the search finds the others on the way."""
    all_points: tuple[Point, ...] | None = None
    """Every point there is, for a search that finds them on the way in a space of few."""
    data_found: str = ""
    """What the data were recognised as, in one line."""

    @property
    def num_trials(self) -> int:
        """How many trials there are, those of the two controls included."""
        if self.confirmation is not None:
            return 2 * len(self.confirmation.seeds)
        return (self.num_points + 2) * len(self.sweep.seeds)

    @property
    def num_points(self) -> int:
        """How many points are searched."""
        if self.points is not None:
            return len(self.points)
        asked = self.sweep.num_trials or 0
        return asked if self.all_points is None else min(asked, len(self.all_points))


def with_teachers_precision(loaded: LoadedSweep, precision: Precision) -> LoadedSweep:
    """Return the sweep with a teacher that answers in ``precision`` in every trial."""
    raw = CONFIG.merge(loaded.raw, nested({TEACHER_PRECISION: precision}))
    return replace(loaded, config=with_precision(loaded.config, precision), raw=raw)


def with_regions_pooled_exactly(loaded: LoadedSweep) -> LoadedSweep:
    """Return the sweep with torchvision's pooling in every trial."""
    raw = CONFIG.merge(loaded.raw, nested({ROI_ALIGN: "exact"}))
    return replace(loaded, config=with_exact_pooling(loaded.config), raw=raw)


def controls(loaded: LoadedSweep) -> dict[Control, Point]:
    """Return what every point is compared with: the student alone, and the base's weights without decay."""
    return controls_of(loaded.config)


def controls_of(config: Config) -> dict[Control, Point]:
    """Return the controls of a sweep with this base."""
    alone: Point = dict.fromkeys(config.weights, 0.0)
    constant: Point = {"decay.shape": "constant"}
    if config.distillation.initialize_from_teacher:
        alone["distillation.initialize_from_teacher"] = False
    if config.schedule:
        alone["schedule"], constant["schedule"] = without(config, OF_DISTILLATION), without(config, ("decay",))
    return {"baseline": alone, "constant": constant}


def trial_config(loaded: LoadedSweep, point: Point, seed: int, output: str | Path) -> Config:
    """Return the complete settings of one trial.

    Raises:
        UserError: naming what does not fit together at this point.
    """
    problems: list[str] = []
    config = validate(trial_settings(loaded.raw, loaded.sweep.resources, point, seed, str(output)), problems)
    if problems or config is None:
        raise one_error(problems, f"{point_text(point)}: settings that cannot be used")
    return with_absolute_paths(config)


def trial_settings(
    raw: Mapping[str, Any], resources: Resources, point: Point, seed: int = 0, output: str = "trial"
) -> dict[str, Any]:
    """Return the settings of a trial before they are checked."""
    fixed = {"seed": seed, "output": output, "distillation": {"baseline": False}, "scaling": _scaling(resources)}
    return CONFIG.merge(CONFIG.merge(raw, nested(point)), fixed)


def _scaling(resources: Resources) -> dict[str, Any]:
    """Return ``resources`` as a run's scaling; a share of a GPU is a GPU to the run."""
    gpus = resources.gpus_per_worker
    return {
        "num_workers": resources.num_workers,
        "min_workers": None,
        "elastic_wait_seconds": "auto",
        "cpus_per_worker": math.ceil(resources.cpus_per_worker),
        "use_gpu": gpus if gpus == "auto" else gpus > 0,
        "gpus_per_worker": 1 if gpus == "auto" else max(1, int(gpus)),
    }


def is_control(loaded: LoadedSweep, point: Point) -> bool:
    """Return whether training at ``point`` would repeat a control."""
    return signature(loaded, point) in {signature(loaded, control) for control in controls(loaded).values()}


def signature(loaded: LoadedSweep, point: Point) -> str:
    """Return a text that points share which give the same results.

    Raises:
        UserError: when the settings do not fit together at ``point``.
    """
    return signature_of(trial_config(loaded, point, 0, Path("trial")))


def signature_of(config: Config) -> str:
    """Return what has an influence on the student's training, as text: terms of weight 0 have none."""
    left_out = dict(_NO_PART_OF_A_POINT)
    if not config.distills:
        left_out |= dict.fromkeys(("teacher", *OF_DISTILLATION), True)
    else:
        methods = with_settings(config, largest_weights(config)).methods if config.schedule else config.methods
        left_out["methods"] = {
            name: settings.idle() if settings.runs else True for name, settings in methods.named().items()
        }
    return json.dumps(config.model_dump(mode="json", exclude=left_out), sort_keys=True)
