"""The configuration tree: sections with their defaults and ranges, one loader, one override syntax."""

from raydistill.config.bundled import RECIPES, SWEEPS
from raydistill.config.loader import dump, load_config, parse_overrides
from raydistill.config.sections import (
    AutoData,
    CocoData,
    Config,
    Decay,
    Detector,
    Downloads,
    FilesData,
    Loader,
    OwnData,
    ShapesData,
    Teacher,
    Training,
    VocData,
)

__all__ = [
    "RECIPES",
    "SWEEPS",
    "AutoData",
    "CocoData",
    "Config",
    "Decay",
    "Detector",
    "Downloads",
    "FilesData",
    "Loader",
    "OwnData",
    "ShapesData",
    "Teacher",
    "Training",
    "VocData",
    "dump",
    "load_config",
    "parse_overrides",
]
