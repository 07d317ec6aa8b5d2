"""The cost of a distillation step as multiples of the plain student step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from raydistill.config import Config
from raydistill.errors import UserError
from raydistill.runs.worker import Worker
from tests.benchmarks.cases import Bench, CaseOptions
from tests.benchmarks.commands import add_step, count, parser_of, recipe_of, show, worker_with
from tests.benchmarks.handwritten import tar_settings
from tests.benchmarks.memory import peak_memory
from tests.benchmarks.shares import shares
from tests.benchmarks.timing import Clock, Spread, clock, in_turn, ratios, table_of


@dataclass(frozen=True)
class StepOptions:
    """How steps are measured."""

    rounds: int = 5
    clock: Clock = "cpu"
    trace: Path | None = None
    cases: CaseOptions = field(default_factory=CaseOptions)
    only: tuple[str, ...] = ()  # steps that are timed, beside the plain one; none: all, and where time goes


def main(arguments: Sequence[str]) -> None:
    """Measure what the command line says."""
    parser = parser_of("step", "Time plain and distilling steps of a recipe in turn, at learning rate 0, on one batch.")
    add_step(parser)
    parser.add_argument("--trace", metavar="OUT", help="write a torch.profiler trace of one step")
    students = "also K students per pass of the teacher"
    parser.add_argument("--students", type=count, nargs="*", default=[], metavar="K", help=students)
    only = "time these steps alone, and not where the time goes (all_levels, filling, known_memory, known_disk ...)"
    parser.add_argument("--only", nargs="*", default=[], metavar="STEP", help=only)
    options = parser.parse_intermixed_args(arguments)
    trace = Path(options.trace) if options.trace else None
    cases = CaseOptions(options.made_up, tuple(options.students))
    measured = StepOptions(options.rounds, options.clock, trace, cases, tuple(options.only))
    result = measure_step(recipe_of(options), worker_with(options.threads), measured)
    show(as_text(result), result, options.json)


def measure_step(config: Config, worker: Worker, options: StepOptions) -> dict[str, Any]:
    """Time plain and distilling steps of ``config`` in turn, at learning rate 0, on one batch.

    Raises:
        UserError: when the recipe's nets or data do not fit, a loss is not finite, or there is no step of a name.
    """
    bench = Bench(config, worker, options.cases)
    now = clock(options.clock, worker.device)
    cases = bench.cases()
    if options.only:
        if unknown := [name for name in options.only if name not in cases]:
            raise UserError(f"--only: must be of {', '.join(cases)}, got {unknown[0]}")
        cases = {name: run for name, run in cases.items() if name in ("plain", *options.only)}
    seconds = in_turn(cases, options.rounds, now)
    for number in options.cases.students if not options.only else ():  # seconds of one student's step
        seconds[f"{number}_students"] = [value / number for value in seconds[f"{number}_students"]]
    bench.check_losses()
    result = {
        "device": str(worker.device),
        "threads": torch.get_num_threads(),
        "clock": "wall" if worker.device.type == "cuda" else options.clock,
        "batch_size": len(bench.batch[0]),
        "image_size": [config.input.min_size, config.input.max_size],
        "teacher": config.teacher.short_name,
        "student": config.student.short_name,
        "regions_source": tar_settings(config).regions.source,
        "data": bench.data_name,
        "teacher_precision": bench.precision,
        "notes": bench.notes,
        "rounds": options.rounds,
        "losses": bench.totals,
        "seconds": {name: Spread.of(values).as_dict() for name, values in seconds.items()},
        "ratios": {name: spread.as_dict() for name, spread in ratios(seconds, "plain").items()},
    }
    if not options.only:
        result["shares"] = shares(bench, seconds, options.rounds, now)
        result["peak_memory_mib"] = {name: peak_memory(cases[name], worker.device) for name in ("plain", "all_levels")}
    if options.trace is not None:
        _trace(cases.get("all_levels", cases["plain"]), options.trace, worker.device)
    return result


def _trace(run: Callable[[], object], path: Path, device: torch.device) -> None:
    """Write a trace of one step for Perfetto or chrome://tracing."""
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=kinds) as profile:
        run()
    profile.export_chrome_trace(str(path))


def as_text(result: dict[str, Any]) -> str:
    """Return the measurement as a table."""
    lines = [
        f"{result['teacher']} -> {result['student']}, {result['image_size'][0]} px, {result['batch_size']} images "
        f"({result['data']}), sharing {result['regions_source']}, {result['device']}, {result['threads']} threads, "
        f"{result['clock']} seconds, {result['rounds']} rounds, teacher in {result['teacher_precision']}",
        *result["notes"],
        "",
        *table_of(result["seconds"], {"plain": result["ratios"]}),
    ]
    if "shares" not in result:
        return "\n".join(lines)
    lines += ["", "where the time goes, as multiples of the plain step:"]
    lines += [f"  {name:<14}{value:>8.3f}" for name, value in result["shares"].items()]
    lines += ["", "peak memory: " + ", ".join(f"{n} {m:.0f} MiB" for n, m in result["peak_memory_mib"].items())]
    return "\n".join(lines)
