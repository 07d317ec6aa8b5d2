"""``python -m raydistill.train``: teacher, student alone and distilled student, and the table that compares them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from raydistill import VERSION
from raydistill.config import RECIPES, Config, dump, load_config
from raydistill.errors import UserError
from raydistill.runs.stopping import Stop, Stopped, stoppable
from raydistill.storage import mirror

if TYPE_CHECKING:
    from raydistill.runs.events import Listener


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_intermixed_args(arguments)
    try:
        config = load_config(options.recipe, _overrides(options))
        if options.print_config:
            sys.stdout.write(dump(config))
            return 0
        with stoppable() as stop:
            train(config, options.local, stop)
    except UserError as error:
        sys.stderr.write(f"{mirror.named(str(error))}\n")
        return 2
    except Stopped:
        sys.stderr.write("interrupted; the same command goes on where it stopped\n")
        return 130
    except (KeyboardInterrupt, SystemExit):
        sys.stderr.write("interrupted; the same command goes on after the last finished epoch\n")
        return 130
    return 0


def train(config: Config, local: bool, stop: Stop) -> None:
    """Run what is missing of ``config``, in this process or on Ray workers, and print the comparison.

    Raises:
        Stopped: when ``stop`` was asked for and a checkpoint is written.
    """
    from raydistill.inference.scoring import check_backend
    from raydistill.reports import write_report
    from raydistill.runs.comparison import as_text, comparison
    from raydistill.runs.directory import RunDirectory, planned, unfinished
    from raydistill.runs.progress import Display
    from raydistill.runs.settings import refuse_other_settings
    from raydistill.runs.trackers import tracked
    from raydistill.storage.output import Output

    with Output.at(config.output).opened() as output:
        refuse_other_settings(config)
        check_backend(config.evaluation.backend)
        display = Display()
        listener = tracked(config, display)
        try:
            if local or not unfinished(config):  # Ray takes half a minute to start: not for nothing
                _run_here(config, listener, stop)
            else:
                from raydistill.on_ray.run import run_on_ray

                run_on_ray(config, listener, stop)
        finally:
            display.close()
        output.pull()  # what workers on other machines have written
    table = comparison(output.folder)
    if not table:
        raise UserError(
            f"{output.folder}: holds no results here; the workers must write to storage that this machine shares"
        )
    sys.stdout.write(f"\n{as_text(table)}\n\n")
    best = RunDirectory(output.folder / planned(config)[-1]).best
    sys.stdout.write(f"Student's weights: {output.place_of(best)}\n")
    sys.stdout.flush()  # the report takes some seconds more
    write_report(output.folder)
    sys.stdout.write(f"Report: {output.place_of(output.folder / 'report' / 'report.html')}\n")


def _run_here(config: Config, listener: Listener, stop: Stop) -> None:
    """Run the stages in this process, without Ray."""
    import torch

    from raydistill.runs.directory import unfinished
    from raydistill.runs.events import Note
    from raydistill.runs.reporter import FileReporter
    from raydistill.runs.worker import Worker
    from raydistill.training.stages import run_stages

    there, to_do = torch.cuda.is_available(), unfinished(config)
    if config.scaling.use_gpu is True and not there and to_do:
        raise UserError("scaling.use_gpu: must not be true on a machine without a GPU; leave it out")
    if config.scaling.num_workers > 1 and to_do:
        listener(Note(f"--local: one process instead of scaling.num_workers={config.scaling.num_workers}"))
    use_gpu = config.scaling.use_gpu and there
    worker = Worker(device=torch.device("cuda", 0) if use_gpu else torch.device("cpu"), stop=stop)
    run_stages(config, worker, lambda run: FileReporter(run, worker, listener, config.logging.tensorboard))


def _overrides(options: argparse.Namespace) -> list[str]:
    overrides: list[str] = options.overrides
    return [*overrides, f"output={options.output}"] if options.output else overrides


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m raydistill.train",
        description="Train a teacher, a student alone and a distilled student, and compare them. Repeating the command "
        "goes on where it stopped.",
    )
    parser.add_argument(
        "recipe",
        help=f"one of {', '.join(RECIPES)}, or a YAML file; a file here that is called like one of them: ./NAME",
    )
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings to change")
    parser.add_argument("--local", action="store_true", help="run in this process, without Ray")
    parser.add_argument("--output", metavar="DIR", help="where the results go (default: runs/RECIPE)")
    parser.add_argument("--print-config", action="store_true", help="print every setting and stop")
    parser.add_argument("--version", action="version", version=VERSION)
    return parser


if __name__ == "__main__":
    sys.exit(main())
