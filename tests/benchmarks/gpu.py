"""All that a GPU can tell, in one command: steps, the teacher's types, the loader, and what makes the GPU wait."""

from __future__ import annotations

import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from raydistill.config import Config, load_config
from raydistill.data.build import build_datasets
from raydistill.data.loading.augmentation import build_augmentation
from raydistill.data.loading.loaders import TrainingLoader
from raydistill.errors import UserError
from raydistill.runs.worker import Worker
from tests.benchmarks import engines, feeding, step
from tests.benchmarks.cases import Bench, CaseOptions
from tests.benchmarks.commands import count, parser_of, show, worker_with
from tests.benchmarks.engines import measure_engines
from tests.benchmarks.feeding import images_per_cpu_second, made_up_photographs
from tests.benchmarks.step import StepOptions, measure_step

_BASE = (
    *("teacher.weights=random", "student.weights=random", "loader.num_workers=0", "scaling.num_workers=1"),
    *("training.batch_size=2", "distillation.teacher_precision=auto"),
)
_OURS = str(Path("raydistill"))


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    recipe: str = "coco_r101_r50"
    overrides: tuple[str, ...] = _BASE
    changes: tuple[tuple[str, ...], ...] = (
        ("training.precision=fp32", "methods.tar.regions.source=both"),
        ("training.precision=bf16", "methods.tar.regions.source=both"),
        ("training.precision=bf16", "methods.tar.regions.source=student"),
    )
    """Of the recipe, for the steps."""
    rounds: int = 15
    photograph: tuple[int, int] = (640, 480)
    compiled: bool = True

    def config(self, changes: Sequence[str] = ()) -> Config:
        """Return the recipe with changes."""
        return load_config(self.recipe, [*self.overrides, *changes])


def main(arguments: Sequence[str]) -> None:
    """Measure all of it, on images of noise.

    Raises:
        UserError: without a GPU.
    """
    parser = parser_of("gpu", "Measure on a GPU: steps, teacher's types, torch.compile, loader, waiting; minutes.")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings to change")
    parser.add_argument("--recipe", default=Plan.recipe, help="by default %(default)s")
    parser.add_argument("--rounds", type=count, default=Plan.rounds, metavar="N", help="times each case is measured")
    parser.add_argument("--without-compile", action="store_true", help="leave torch.compile out: it takes minutes")
    options = parser.parse_intermixed_args(arguments)
    if not torch.cuda.is_available():
        raise UserError(
            "gpu: must run where torch sees a GPU, got none; the verbs step, engines and data measure a processor"
        )
    plan = Plan(
        options.recipe, (*_BASE, *options.overrides), rounds=options.rounds, compiled=not options.without_compile
    )
    result = measure_gpu(plan, worker_with(1))
    show(as_text(result), result, options.json)


def measure_gpu(plan: Plan, worker: Worker) -> dict[str, Any]:
    """Measure on the worker's device what is worth knowing of a GPU; on a processor that is good for tests."""
    options = StepOptions(plan.rounds, cases=CaseOptions(made_up=True))
    steps = {" ".join(changes): measure_step(plan.config(changes), worker, options) for changes in plan.changes}
    first = plan.config(plan.changes[0])
    per_core = _per_core(plan)
    rates = {
        name: measured["batch_size"] / measured["seconds"]["all_levels"]["median"] for name, measured in steps.items()
    }
    return {
        "device": _name(worker.device),
        "steps": steps,
        "teacher": measure_engines(first, worker, plan.rounds, made_up=True, compiled=plan.compiled),
        "waiting": waiting(first, worker),
        "images_per_second": rates,
        "images_per_cpu_second": per_core,
    }


def as_text(result: dict[str, Any]) -> str:
    """Return all tables."""
    blocks = [result["device"]]
    blocks += [f"## {name}\n\n{step.as_text(measured)}" for name, measured in result["steps"].items()]
    blocks.append(f"## The teacher's maps\n\n{engines.as_text(result['teacher'])}")
    lines = [f"{name:<12}{_shares(found)}" for name, found in result["waiting"].items()]
    blocks.append("\n".join(["## Times that a step waits for the GPU: ours, others'", "", *lines]))
    text = feeding.as_text(result["images_per_cpu_second"], result["images_per_second"].values())
    blocks.append(f"## Feeding\n\n{text}, in the order of the steps above")
    return "\n\n".join(blocks)


def _shares(found: dict[str, int] | None) -> str:
    return "not counted" if found is None else f"{found['ours']}, {found['others']}"


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _per_core(plan: Plan) -> float:
    """Return the images per CPU second of the loader, from JPEGs."""
    with tempfile.TemporaryDirectory() as folder:
        drawn = made_up_photographs(Path(folder) / "photographs", *plan.photograph, number=16)
        config = plan.config(drawn)
        train, _ = build_datasets(config.data, config.downloads)
        augment = build_augmentation(config.augmentation)
        loader = TrainingLoader(train, config.training.batch_size, config.seed, augment, config.loader)
        return images_per_cpu_second(part for parts in loader.epoch(0) for part in parts)


def waiting(config: Config, worker: Worker) -> dict[str, dict[str, int] | None]:
    """Return how often steps wait for the GPU, plain, with the teacher left out, and with all terms."""
    bench = Bench(config, worker, CaseOptions(made_up=True))
    cases = bench.cases()
    return {name: waits_of(cases[name], worker.device) for name in ("plain", "terms_off", "all_levels")}


def waits_of(run: Callable[[], object], device: torch.device) -> dict[str, int] | None:
    """Return how often ``run`` waits for the GPU, by whose code; None where there is none."""
    run()  # the first step sets up
    if device.type != "cuda":
        return None
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return by_whom(caught)


def by_whom(caught: Sequence[warnings.WarningMessage]) -> dict[str, int]:
    """Count torch's warnings of a wait by whose code it was."""
    waits = [warning for warning in caught if "synchroniz" in str(warning.message)]
    found = Counter("ours" if _OURS in Path(warning.filename).parts else "others" for warning in waits)
    return {whose: found[whose] for whose in ("ours", "others")}
