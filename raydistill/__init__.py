"""raydistill: distil object detectors with task-adaptive regularization, on one machine or on a Ray cluster.

What it offers to Python comes with its first use, so that ``import raydistill as rd`` takes no time:

>>> import raydistill as rd
>>> sorted(name for name in dir(rd) if name.islower() and not name.startswith("_"))
['detect', 'distill', 'draw', 'inspect', 'load', 'report', 'score', 'sweep', 'trainable']
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raydistill import report
    from raydistill.api import (
        BestPoint,
        Confirmed,
        Run,
        SweepRun,
        detect,
        distill,
        draw,
        inspect,
        load,
        score,
        sweep,
        trainable,
    )
    from raydistill.data.own import Dataset
    from raydistill.detectors.base import Detector
    from raydistill.errors import UserError
    from raydistill.methods.base import Method

__version__ = "0.1.0"

VERSION = f"raydistill {__version__}"
"""What ``--version`` prints."""

__all__ = [
    "VERSION",
    "BestPoint",
    "Confirmed",
    "Dataset",
    "Detector",
    "Method",
    "Run",
    "SweepRun",
    "UserError",
    "__version__",
    "detect",
    "distill",
    "draw",
    "inspect",
    "load",
    "report",
    "score",
    "sweep",
    "trainable",
]

_OF_API = (
    "BestPoint",
    "Confirmed",
    "Run",
    "SweepRun",
    "detect",
    "distill",
    "draw",
    "inspect",
    "load",
    "score",
    "sweep",
    "trainable",
)
_MODULE_OF = dict.fromkeys(_OF_API, "raydistill.api")
_MODULE_OF |= {
    "Dataset": "raydistill.data.own",
    "Detector": "raydistill.detectors.base",
    "Method": "raydistill.methods.base",
    "UserError": "raydistill.errors",
}


def __dir__() -> list[str]:
    return list(__all__)


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name == "report":
            return importlib.import_module("raydistill.report")
        if name in _MODULE_OF:
            return getattr(importlib.import_module(_MODULE_OF[name]), name)
        raise AttributeError(f"module 'raydistill' has no attribute {name!r}")
