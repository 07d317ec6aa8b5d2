"""Sweep files: read, checked as a whole and turned into points and settings of trials; without Ray or torch."""

from raydistill.sweeps.file.changes import differences, grown, pooled_exactly, precision_then
from raydistill.sweeps.file.confirmation import Confirmation
from raydistill.sweeps.file.growth import Extent
from raydistill.sweeps.file.loader import load_sweep
from raydistill.sweeps.file.sections import (
    AblationSearch,
    AshaScheduler,
    GridSearch,
    HyperbandScheduler,
    MedianScheduler,
    NoScheduler,
    OptunaSearch,
    Pb2Scheduler,
    PbtScheduler,
    Population,
    RandomSearch,
    Resources,
    Sweep,
)
from raydistill.sweeps.file.space import Chooser, Dimension, Point, Space, draw, point_text
from raydistill.sweeps.file.trials import (
    Control,
    LoadedSweep,
    controls,
    is_control,
    signature,
    trial_config,
    with_regions_pooled_exactly,
    with_teachers_precision,
)
from raydistill.sweeps.file.written import dump_sweep

__all__ = [
    "AblationSearch",
    "AshaScheduler",
    "Chooser",
    "Confirmation",
    "Control",
    "Dimension",
    "Extent",
    "GridSearch",
    "HyperbandScheduler",
    "LoadedSweep",
    "MedianScheduler",
    "NoScheduler",
    "OptunaSearch",
    "Pb2Scheduler",
    "PbtScheduler",
    "Point",
    "Population",
    "RandomSearch",
    "Resources",
    "Space",
    "Sweep",
    "controls",
    "differences",
    "draw",
    "dump_sweep",
    "grown",
    "is_control",
    "load_sweep",
    "point_text",
    "pooled_exactly",
    "precision_then",
    "signature",
    "trial_config",
    "with_regions_pooled_exactly",
    "with_teachers_precision",
]
