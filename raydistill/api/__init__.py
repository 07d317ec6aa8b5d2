"""What ``import raydistill as rd`` offers: the commands as functions, with Python values in and results out.

Settings are given as on the command line, and checked with the same words; a mistake raises ``UserError``. Ctrl-C, or
interrupting a notebook's kernel, ends a run with a checkpoint and raises ``KeyboardInterrupt``; the same call goes on.
Several threads may each have a run; only one in the main thread can be interrupted.
"""

from raydistill.api.data import inspect, score
from raydistill.api.nets import detect, draw, load
from raydistill.api.paths import StrPath
from raydistill.api.training import distill, sweep, trainable
from raydistill.results import BestPoint, Confirmed, Run, SweepRun

__all__ = [
    "BestPoint",
    "Confirmed",
    "Run",
    "StrPath",
    "SweepRun",
    "detect",
    "distill",
    "draw",
    "inspect",
    "load",
    "score",
    "sweep",
    "trainable",
]
