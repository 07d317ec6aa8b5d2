"""``python -m raydistill.export``: a student as a file that other programs run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from raydistill import VERSION
from raydistill.command import run_command
from raydistill.errors import printable
from raydistill.runs.scores import points

if TYPE_CHECKING:
    from raydistill.inference.export.export import Exported

_FORMATS = ("onnx", "torchscript", "openvino")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = command_line()
    options = parser.parse_args(arguments)
    if options.split is not None and options.data is None:
        parser.error("--split: names a split of --data; give both or none")
    return run_command(lambda: _export(options))


def _export(options: argparse.Namespace) -> int:
    from raydistill.inference.export.export import Wanted, export
    from raydistill.inference.on_data import DataPath
    from raydistill.runs.notices import log_to_stderr
    from raydistill.storage.mirror import places_named

    log_to_stderr()
    wanted = Wanted(
        format=options.format,
        int8=options.int8,
        batch_size=options.batch,
        threshold=options.threshold,
        output=options.output,
        data=None if options.data is None else DataPath(options.data, options.split),
        num_images=options.num_images,
        num_calibration=options.num_calibration,
    )
    with places_named():
        exported = export(options.weights, wanted, lambda text: sys.stderr.write(f"{printable(text)}\n"))
    sys.stdout.write(f"{printable(as_text(exported), lines=True)}\n")
    return 0


def as_text(exported: Sequence[Exported]) -> str:
    """Return what was measured as a table."""
    first = exported[0]
    threads = list(first.milliseconds)
    head = ["", "AP", "alike", *(f"ms, {number} thread{'s' if number != '1' else ''}" for number in threads), "MB"]
    lines = [head, ["torch", points(first.torch_ap), "", *_times(first, "torch"), ""]]
    for one in exported:
        name = f"{one.format}{'' if one.precision == 'fp32' else ' ' + one.precision}"
        lines.append([name, points(one.ap), f"{100 * one.paired:.1f}%", *_times(one, "file"), f"{one.megabytes:.1f}"])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = "\n".join("  ".join(map(str.rjust, line, widths)).rstrip() for line in lines)
    files = ", ".join(one.file for one in exported)
    return (
        f"{table}\n\n{files}: threshold {first.threshold:.3f}, batch {first.batch_size}; on {first.images}, "
        f"{first.detections} detections"
    )


def _times(one: Exported, who: str) -> list[str]:
    return [f"{times[who]:.1f}" for times in one.milliseconds.values()]


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m raydistill.export",
        description="Write a student as a file that takes an image as bytes and gives boxes, class ids from 0 on and "
        "scores; compare what it finds with torch on real images, and time both. What was measured goes to export.json "
        "beside the file; a file that does not find the same is not written (exit code 2).",
    )
    parser.add_argument("weights", metavar="RUN_OR_WEIGHTS", help="output of train, run directory or weights file")
    parser.add_argument("--format", choices=_FORMATS, default="onnx", help="default: onnx")
    parser.add_argument(
        "--int8", action="store_true", help="ONNX: a quantized file as well, calibrated on training images"
    )
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="images of one size at once (default: 1)")
    parser.add_argument(
        "--threshold", type=float, metavar="SCORE", help="from which on a detection counts (default: the weights' own)"
    )
    parser.add_argument("--output", metavar="FILE", help="the file to write (default: beside the weights)")
    parser.add_argument(
        "--data", metavar="DATA", help="COCO or VOC data to measure on, as for evaluate (default: the run's own)"
    )
    parser.add_argument("--split", help="split of --data (default: val)")
    parser.add_argument("--num-images", type=int, default=100, metavar="N", help="to measure on (default: 100)")
    parser.add_argument("--num-calibration", type=int, default=100, metavar="N", help="for int8 (default: 100)")
    parser.add_argument("--version", action="version", version=VERSION)
    return parser


if __name__ == "__main__":
    sys.exit(main())
