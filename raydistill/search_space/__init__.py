"""Sweep files: read, checked as a whole and turned into points and settings of trials; without Ray or torch."""

from raydistill.search_space.changes import differences
from raydistill.search_space.loader import dump_sweep, load_sweep
from raydistill.search_space.sections import (
    AblationSearch,
    AshaScheduler,
    GridSearch,
    MedianScheduler,
    NoScheduler,
    OptunaSearch,
    PbtScheduler,
    RandomSearch,
    Resources,
    Sweep,
)
from raydistill.search_space.space import Chooser, Dimension, Point, Space, draw, point_text
from raydistill.search_space.trials import Control, LoadedSweep, controls, is_control, signature, trial_config

__all__ = [
    "AblationSearch",
    "AshaScheduler",
    "Chooser",
    "Control",
    "Dimension",
    "GridSearch",
    "LoadedSweep",
    "MedianScheduler",
    "NoScheduler",
    "OptunaSearch",
    "PbtScheduler",
    "Point",
    "RandomSearch",
    "Resources",
    "Space",
    "Sweep",
    "controls",
    "differences",
    "draw",
    "dump_sweep",
    "is_control",
    "load_sweep",
    "point_text",
    "signature",
    "trial_config",
]
