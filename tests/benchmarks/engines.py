"""How fast a frozen teacher's feature maps come: each type, compiled or not, each engine that this machine has."""

from __future__ import annotations

import copy
import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from raydistill.config import Config
from raydistill.config.distillation import Engine
from raydistill.config.precision import Precision
from raydistill.detectors.base import Detector
from raydistill.detectors.frozen import check_compiler, computes_bf16
from raydistill.detectors.teacher import Teacher
from raydistill.errors import UserError
from raydistill.runs.directory import RunDirectory
from raydistill.runs.worker import Worker
from raydistill.structures import Batch, Features
from raydistill.training.fast_teacher import make_teacher_fast
from raydistill.training.job import Job
from raydistill.training.loop import make_loader
from tests.benchmarks.commands import add_step, parser_of, recipe_of, show, worker_with
from tests.benchmarks.images import training_images
from tests.benchmarks.nets import benchmark_net
from tests.benchmarks.timing import Clock, Spread, clock, in_turn, ratios, table_of

BASE = "torch, fp32"


@dataclass(frozen=True)
class Way:
    """A way to run a teacher."""

    precision: Precision
    engine: Engine = "torch"
    compiled: bool = False

    @property
    def name(self) -> str:
        """What it is called in a table."""
        return f"{'torch.compile' if self.compiled else self.engine}, {self.precision}"


_ON_A_CPU = (
    *(Way("fp32"), Way("bf16"), Way("fp32", compiled=True)),
    *(Way("fp32", "onnxruntime"), Way("fp32", "openvino"), Way("bf16", "openvino")),
)
_ON_A_GPU = (*(Way("fp32"), Way("bf16"), Way("fp16")), *(Way("fp32", compiled=True), Way("bf16", compiled=True)))


def main(arguments: Sequence[str]) -> None:
    """Measure what the command line says."""
    parser = parser_of("engines", "Time the feature maps of a recipe's teacher in turn, on one batch.")
    add_step(parser)
    parser.add_argument("--without-compile", action="store_true", help="leave torch.compile out: it takes minutes")
    parser.add_argument("--csv", metavar="OUT", help="add the numbers to a table")
    options = parser.parse_intermixed_args(arguments)
    worker = worker_with(options.threads)
    result = measure_engines(
        recipe_of(options), worker, options.rounds, options.clock, options.made_up, not options.without_compile
    )
    show(as_text(result), result, options.json)
    if options.csv:
        add_to_table(result, Path(options.csv))


def measure_engines(
    config: Config, worker: Worker, rounds: int, kind: Clock = "cpu", made_up: bool = True, compiled: bool = True
) -> dict[str, Any]:
    """Time the teacher's maps of one batch in turn, each way that this machine has.

    Raises:
        UserError: when the recipe's net or data do not fit.
    """
    train, note = training_images(config, made_up)
    job = Job("distilled", config, config.student, 1, RunDirectory(Path("benchmark")), train, train)
    images = make_loader(job, worker).sample_batch()
    if images is None:
        raise UserError("data: the first batches must show an object, got none")
    torch.manual_seed(config.seed)
    net = benchmark_net(config.teacher, config.input, train.classes, images, "teacher").to(worker.device)
    with torch.no_grad():
        batch = net.prepare(*worker.to_device(*images))
    asked, notes = {}, [note] if note else []
    for way in _ON_A_GPU if worker.device.type == "cuda" else _ON_A_CPU:
        if way.compiled and not compiled:
            continue
        try:
            asked[way.name] = _asking(net, config, way, batch, worker)
        except UserError as error:
            notes.append(f"{way.name} is left out: {error}")
    expected = asked[BASE]()
    off = {name: _off(run(), expected) for name, run in asked.items()}
    seconds = in_turn(asked, rounds, clock(kind, worker.device))
    return {
        "device": str(worker.device),
        "threads": torch.get_num_threads(),
        "clock": "wall" if worker.device.type == "cuda" else kind,
        "teacher": config.teacher.short_name,
        "batch": list(batch.images.shape),
        "rounds": rounds,
        "notes": notes,
        "off": off,
        "seconds": {name: Spread.of(values).as_dict() for name, values in seconds.items()},
        "ratios": {name: ratio.as_dict() for name, ratio in ratios(seconds, BASE).items()},
    }


def _asking(net: Detector, config: Config, way: Way, batch: Batch, worker: Worker) -> Callable[[], Features]:
    """Return what asks a copy of ``net``, once asked.

    Raises:
        UserError: where this machine has no such way.
    """
    if way.compiled:
        check_compiler(worker.device)
    if way.precision == "bf16" and worker.device.type == "cpu" and not computes_bf16():
        raise UserError("this processor only emulates bf16")
    changed = {"compile_teacher": way.compiled, "teacher_engine": way.engine}
    config = config.model_copy(update={"distillation": config.distillation.model_copy(update=changed)})
    detector = copy.deepcopy(net)
    make_teacher_fast(detector, config, way.precision, worker)
    teacher = Teacher(detector, way.precision)

    def ask() -> Features:
        return teacher.look(batch).features

    ask()
    return ask


def _off(found: Features, expected: Features) -> float:
    """Return the largest difference as a share of the largest value of its map."""
    return max(float((found[name].float() - maps).abs().max() / maps.abs().max()) for name, maps in expected.items())


def as_text(result: dict[str, Any]) -> str:
    """Return the measurement as a table."""
    return "\n".join(
        [
            f"{result['teacher']}, images {' x '.join(map(str, result['batch']))}, {result['device']}, "
            f"{result['threads']} threads, {result['clock']} seconds, {result['rounds']} rounds",
            *result["notes"],
            "",
            *table_of(result["seconds"], {BASE: result["ratios"]}),
            "",
            "largest difference, as a share of a map's largest value:",
            *(f"  {name:<24}{off:.1e}" for name, off in result["off"].items()),
        ]
    )


def add_to_table(result: dict[str, Any], file: Path) -> None:
    """Add a row per way to a CSV file, with a head where it is new."""
    fresh = not file.exists()
    with file.open("a", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        if fresh:
            names = ("teacher", "images", "way", "rounds", "seconds", "times_torch_fp32", "low", "high", "off")
            writer.writerow(names)
        for name, seconds in result["seconds"].items():
            ratio = result["ratios"].get(name, {"median": 1.0, "interval": (1.0, 1.0)})
            numbers = (ratio["median"], *ratio["interval"])
            size = "x".join(map(str, result["batch"]))
            writer.writerow(
                [
                    *(result["teacher"], size, name, result["rounds"], f"{seconds['median']:.4f}"),
                    *(f"{number:.3f}" for number in numbers),
                    f"{result['off'][name]:.1e}",
                ]
            )
