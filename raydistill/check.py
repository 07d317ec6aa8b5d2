"""``python -m raydistill.check``: what a folder of data is, and whether it can be trained on."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from raydistill import VERSION, api
from raydistill.command import run_command
from raydistill.config import RECIPES
from raydistill.config.loader import settings_of_folder
from raydistill.errors import UserError, printable

if TYPE_CHECKING:
    from raydistill.training.data_report import DataReport

LOOK_AT = 1
"""Exit code where the data can be trained on and something may be wrong with them."""
_MOST_CLASSES = 30  # that are shown


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = command_line().parse_intermixed_args(arguments)
    return run_command(lambda: _check(options))


def _check(options: argparse.Namespace) -> int:
    pictures = None if options.no_pictures else options.out or f"runs/check/{Path(options.folder).resolve().name}"
    overrides = [*settings_of_folder(options.recipe, options.folder), *options.overrides]
    try:
        report = api.inspect(options.recipe, overrides, pictures=pictures, measure_time=not options.no_time)
    except UserError as error:
        if options.json:
            sys.stdout.write(f"{json.dumps({'error': str(error)}, indent=1)}\n")
        raise
    if options.json:
        sys.stdout.write(f"{json.dumps(report.to_dict(), indent=1)}\n")
    else:
        sys.stdout.write(printable(as_text(report, options.recipe, options.folder), lines=True))
    return LOOK_AT if report.look_at else 0


def as_text(report: DataReport, recipe: str, folder: str) -> str:
    """Return a report as it is shown."""
    lines = [report.found or folder, f"stands for: {report.settings}", "", *_table(report), ""]
    lines.append(f"boxes in training, as {recipe} resizes images: sides of {report.boxes}")
    for role, share in report.boxes.without_anchor.items():
        lines.append(f"  {100 * (1 - share):.0f} % overlap with an anchor of the {role} by half, at their place")
    lines += [f"note: {note}" for note in report.notes]
    lines += ["look at:", *(f"  - {text}" for text in report.look_at)] if report.look_at else ["nothing looks wrong"]
    if report.pictures:
        lines.append(f"pictures: {len(report.pictures)} with boxes in {Path(report.pictures[0]).parent}/")
    if report.time is not None:
        lines.append(f"time: {report.time}")
    lines.append(f"train on them: python -m raydistill.train {recipe} {folder}")
    return "\n".join([*lines, ""])


def _table(report: DataReport) -> Iterator[str]:
    """Yield the lines of the counts: images, and objects of each class by split."""
    splits = report.splits
    names = list(next(iter(splits.values())).classes)
    rows = {
        "images": [counts.images for counts in splits.values()],
        "without objects": [counts.without_objects for counts in splits.values()],
        "objects": [counts.objects for counts in splits.values()],
    }
    rows |= {f"  {name}": [counts.classes[name] for counts in splits.values()] for name in names[:_MOST_CLASSES]}
    reasons = {reason for counts in splits.values() for reason in counts.left_out}
    rows |= {f"left out {r}": [c.left_out.get(r, 0) for c in splits.values()] for r in sorted(reasons)}
    width = max(map(len, rows))
    yield f"{'':<{width}}" + "".join(f"{name:>12}" for name in splits)
    for name, numbers in rows.items():
        yield f"{name:<{width}}" + "".join(f"{number:>12,}" for number in numbers)
    if len(names) > _MOST_CLASSES:
        yield f"  and {len(names) - _MOST_CLASSES} classes more (--json has all)"


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m raydistill.check",
        description="Say what a folder of data is, what is in it, what looks wrong and how long training on it takes; "
        "draw ten of its images with boxes.",
        epilog=f"Exit code: 0 where nothing looks wrong, {LOOK_AT} where there is something to look at, 2 where data "
        "cannot be trained on as they are (--json: an error).",
    )
    parser.add_argument("folder", metavar="FOLDER", help="COCO, YOLO, PASCAL VOC or LabelMe data")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings: data.classes=[a,b]")
    parser.add_argument(
        "--recipe",
        default="finetune",
        metavar="NAME",
        help=f"whose nets and image sizes count: {', '.join(RECIPES)}, or a YAML file (default: finetune)",
    )
    parser.add_argument("--out", metavar="DIR", help="where the pictures go (default: runs/check/NAME of the folder)")
    parser.add_argument("--no-pictures", action="store_true", help="draw none")
    parser.add_argument("--no-time", action="store_true", help="take no steps to guess the time")
    parser.add_argument("--json", action="store_true", help="write all of it to stdout as JSON")
    parser.add_argument("--version", action="version", version=VERSION)
    return parser


if __name__ == "__main__":
    sys.exit(main())
