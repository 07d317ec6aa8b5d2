"""Python runs this as it starts where this folder is on its path: in every process of a command that is disturbed.

Steps are counted in the folder that ``FAULTS_FOLDER`` names, by the workers that Ray starts too: they inherit it.
``FAULTS_OUT_OF_MEMORY`` ("step rank") is a fault of one of them.
"""

from __future__ import annotations

import os
import runpy
import sys
import time
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType


class _Disturb(MetaPathFinder):
    """Changes modules of raydistill as they are imported."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        changes = {
            "raydistill.training.loop": _count,
            "raydistill.report": _write_no_report,
            "ray._private.services": _start_patiently,
        }
        spec = PathFinder.find_spec(name, path) if name in changes else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def executed(module: ModuleType) -> None:
            execute(module)
            changes[name](module)

        spec.loader.exec_module = executed  # type: ignore[method-assign]
        return spec


def _count(engine: ModuleType) -> None:
    from tests.faults.inside import OutOfMemory, take_counted_steps

    told = os.environ.get("FAULTS_OUT_OF_MEMORY", "")
    take_counted_steps(
        engine, Path(os.environ["FAULTS_FOLDER"]), OutOfMemory(*map(int, told.split())) if told else None
    )


def _write_no_report(report: ModuleType) -> None:
    """Only read: writing takes longer than the training."""
    report.write_report = report.load  # type: ignore[attr-defined]


def _start_patiently(services: ModuleType) -> None:
    """Let Ray's own processes take their time to start where the machine is busy: Ray would give up after 30 s."""
    original = services.get_node

    def get_node(*given: object) -> object:
        deadline = time.monotonic() + 300
        while True:
            try:
                return original(*given)
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise

    services.get_node = get_node  # type: ignore[attr-defined]


if "FAULTS_FOLDER" in os.environ:
    sys.meta_path.insert(0, _Disturb())
if os.environ.get("RAYDISTILL_TEST_BF16"):  # Python runs one such file only
    runpy.run_path(str(Path(__file__).parents[2] / "forced_bf16" / "sitecustomize.py"))
