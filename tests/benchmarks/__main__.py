"""``python -m tests.benchmarks step|data|eval``: how fast this machine distils, and where the time goes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raydistill.config import RECIPES, load_config
from raydistill.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_intermixed_args(arguments)
    try:
        result, text = {"step": _step, "data": _data, "eval": _eval}[options.what](options)
        sys.stdout.write(f"{text}\n")
        if options.json:
            _write(Path(options.json), result)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    return 0


def _step(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    import torch

    from raydistill.runs.worker import Worker
    from tests.benchmarks.cases import CaseOptions
    from tests.benchmarks.step import StepOptions, as_text, measure_step

    config = load_config(_recipe(options), options.overrides)
    torch.set_num_threads(options.threads)
    worker = Worker(device=torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu"))
    trace = Path(options.trace) if options.trace else None
    measured = StepOptions(options.rounds, options.clock, trace, CaseOptions(options.made_up, tuple(options.students)))
    result = measure_step(config, worker, measured)
    return result, as_text(result)


def _data(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    import torch

    from tests.benchmarks.data import as_text, measure_data

    torch.set_num_threads(options.threads)
    result = measure_data(load_config(_recipe(options), options.overrides), seconds=options.seconds)
    return result, as_text(result)


def _eval(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from tests.benchmarks.evaluation import as_text, measure_evaluation

    size = (options.images, options.detections, options.classes)
    result = measure_evaluation(*size, rounds=options.rounds, workers=options.workers)
    return result, as_text(result)


def _recipe(options: argparse.Namespace) -> str:
    if options.recipe is None:
        raise UserError(f"bench {options.what}: must be given a recipe ({', '.join(RECIPES)}) or a YAML file")
    recipe: str = options.recipe
    return recipe


def _write(path: Path, result: dict[str, Any]) -> None:
    from raydistill.storage.atomic import write_json

    write_json(path, result)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Time the distillation step, the data loader or the evaluation. What is compared is measured in "
        "turn (A B A B ...); ratios with their spread are what counts.",
    )
    parser.add_argument("what", choices=["step", "data", "eval"])
    parser.add_argument("recipe", nargs="?", help=f"one of {', '.join(RECIPES)}, or a YAML file (step, data)")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings to change")
    parser.add_argument("--json", metavar="OUT", help="write the numbers")
    parser.add_argument(
        "--rounds", type=_count, default=5, metavar="N", help="times each case is measured (step, eval)"
    )
    parser.add_argument("--threads", type=_count, default=1, metavar="N", help="torch's threads (step, data)")
    parser.add_argument(
        "--clock", choices=["cpu", "wall"], default="cpu", help="CPU seconds of the process, or the user's time (step)"
    )
    parser.add_argument("--made-up", action="store_true", help="images of noise instead of the recipe's data (step)")
    parser.add_argument("--trace", metavar="OUT", help="write a torch.profiler trace of one step (step)")
    parser.add_argument(
        "--students",
        type=_count,
        nargs="*",
        default=[],
        metavar="K",
        help="also K students per pass of the teacher (step)",
    )
    parser.add_argument("--seconds", type=float, default=3.0, metavar="S", help="time for each case (data)")
    parser.add_argument("--images", type=_count, default=5000, metavar="N", help="images (eval)")
    parser.add_argument("--detections", type=_count, default=100, metavar="N", help="detections per image (eval)")
    parser.add_argument("--workers", type=_count, default=1, metavar="N", help="also spread over N workers (eval)")
    parser.add_argument("--classes", type=_count, default=80, metavar="N", help="classes (eval)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
