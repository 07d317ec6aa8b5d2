"""``python -m raydistill.predict``: detect objects in images."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from raydistill import VERSION, api
from raydistill.command import run_command
from raydistill.errors import counted, printable

if TYPE_CHECKING:
    from raydistill.detectors.predictions import Prediction

LEFT_OUT = 1
"""Exit code where images were left out because they cannot be read."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = command_line().parse_intermixed_args(arguments)
    return run_command(lambda: _predict(options))


def _predict(options: argparse.Namespace) -> int:
    from raydistill.runs.notices import log_to_stderr

    log_to_stderr()
    start = time.perf_counter()
    found = api.detect(
        options.weights,
        options.images,
        output=options.out,
        threshold=options.threshold,
        batch_size=options.batch,
        pictures=not options.no_pictures,
        on_image=_tell,
    )
    seconds = time.perf_counter() - start
    for problem in found.left_out:
        sys.stderr.write(f"left out: {printable(problem)}\n")
    objects = counted(sum(map(len, found)), "object")
    left_out = f", {len(found.left_out)} left out" if found.left_out else ""
    into = printable(options.out.rstrip("/") or "/")
    sys.stderr.write(f"{objects} in {counted(len(found), 'image')}{left_out}; into {into}/ in {seconds:.1f} s\n")
    return LEFT_OUT if found.left_out else 0


def _tell(found: Prediction, number: int, total: int | None) -> None:
    """Say in a line what was found in an image."""
    named = Counter(found.names)
    objects = ", ".join(f"{named[name]} {name}" for name in found.classes if named[name]) or "nothing"
    sys.stdout.write(f"{number}{'' if total is None else f'/{total}'} {printable(found.image)}: {printable(objects)}\n")
    sys.stdout.flush()


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m raydistill.predict",
        description="Detect objects in images: pictures with boxes, a COCO data set with scores (annotations.json) and "
        "COCO's results (detections.json).",
        epilog=f"Exit code: 0, {LEFT_OUT} where images that cannot be read were left out, 2 where nothing can be done.",
    )
    parser.add_argument("weights", metavar="RUN_OR_WEIGHTS", help="output of train, run directory or weights file")
    parser.add_argument(
        "images", nargs="+", metavar="IMAGES", help="images, folders, quoted patterns ('*.jpg'), videos (extra `video`)"
    )
    parser.add_argument("--out", default="predictions", metavar="DIR", help="where the files go (default: predictions)")
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="SCORE",
        help="from which on a detection counts, 0 to 1 (default: that of the best F1 on the validation split)",
    )
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="images at once (default: 1)")
    parser.add_argument("--no-pictures", action="store_true", help="the two files only")
    parser.add_argument("--version", action="version", version=VERSION)
    return parser


if __name__ == "__main__":
    sys.exit(main())
