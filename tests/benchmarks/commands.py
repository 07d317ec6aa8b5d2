"""What the command lines of the benchmarks have in common."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raydistill.config import RECIPES, Config, load_config

if TYPE_CHECKING:
    from raydistill.runs.worker import Worker


def parser_of(verb: str, description: str) -> argparse.ArgumentParser:
    """Return the parser of ``python -m tests.benchmarks VERB``, with ``--json``."""
    parser = argparse.ArgumentParser(prog=f"python -m tests.benchmarks {verb}", description=description)
    parser.add_argument("--json", metavar="OUT", help="write the numbers")
    return parser


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Add a recipe, changes to it, and torch's threads."""
    parser.add_argument("recipe", help=f"one of {', '.join(RECIPES)}, or a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings to change")
    add_threads(parser)


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add torch's threads."""
    parser.add_argument("--threads", type=count, default=1, metavar="N", help="torch's threads")


def add_step(parser: argparse.ArgumentParser) -> None:
    """Add how steps are measured, and on what."""
    add_recipe(parser)
    add_timing(parser)
    parser.add_argument("--made-up", action="store_true", help="images of noise instead of the recipe's data")
    parser.add_argument(
        "--size", type=count, metavar="N", help="input.min_size, and input.max_size in the recipe's proportion"
    )


def add_timing(parser: argparse.ArgumentParser) -> None:
    """Add how often steps are measured, and by which clock."""
    parser.add_argument("--rounds", type=count, default=5, metavar="N", help="times each step is measured")
    parser.add_argument(
        "--clock", choices=["cpu", "wall"], default="cpu", help="CPU seconds of the process, or the user's time"
    )


def recipe_of(options: argparse.Namespace) -> Config:
    """Return the recipe that the command line names, with its changes and at its size."""
    config = load_config(options.recipe, options.overrides)
    if options.size is None:
        return config
    longer = round(options.size * config.input.max_size / config.input.min_size)
    return load_config(
        options.recipe, [*options.overrides, f"input.min_size={options.size}", f"input.max_size={longer}"]
    )


def worker_with(threads: int) -> Worker:
    """Set torch's threads, and return a worker alone, on the GPU where there is one."""
    import torch

    from raydistill.runs.worker import Worker

    torch.set_num_threads(threads)
    return Worker(device=torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu"))


def count(text: str) -> int:
    """Read a number of things.

    Raises:
        argparse.ArgumentTypeError: for less than one.
    """
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def show(text: str, result: dict[str, Any], path: str | None) -> None:
    """Print ``text``, and write ``result`` where a file is named."""
    from raydistill.storage.atomic import write_json

    sys.stdout.write(f"{text}\n")
    if path:
        write_json(Path(path), result)
