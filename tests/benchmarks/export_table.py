"""``python -m tests.benchmarks.export_table RUN FILE.csv``: a trained student in every format, compared and timed."""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from raydistill.detectors.restore import restore_detector
from raydistill.inference.export.export import Exported, Wanted, export
from raydistill.inference.export.formats import FORMATS, FormatName
from raydistill.inference.on_data import student_place, weights_here


def rows(run: str, num_images: int, formats: Sequence[FormatName]) -> list[dict[str, object]]:
    """Return a row per format and precision of what was measured of the student in ``run``."""
    family = type(restore_detector(weights_here(student_place(run)))).__name__.removesuffix("Detector")
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name in formats:
            file = str(Path(folder) / f"net{FORMATS[name].suffix}")
            wanted = Wanted(format=name, int8=name == "onnx", output=file, num_images=num_images)
            found += [_row(family, one) for one in export(run, wanted, lambda text: sys.stderr.write(f"{text}\n"))]
    return found


def _row(family: str, one: Exported) -> dict[str, object]:
    times = {
        f"ms_{who}_{threads}_threads": value
        for threads, both in one.milliseconds.items()
        for who, value in both.items()
    }
    ratios = {f"torch_over_file_{n}_threads": round(t["torch"] / t["file"], 2) for n, t in one.milliseconds.items()}
    return {
        "family": family,
        "format": one.format,
        "precision": one.precision,
        "images": one.images,
        "threshold": round(one.threshold, 4),
        "detections": one.detections,
        "paired": round(one.paired, 5),
        "AP_torch": round(100 * one.torch_ap, 3),
        "AP": round(100 * one.ap, 3),
        "MB": round(one.megabytes, 1),
        **times,
        **ratios,
        "repeats": one.repeats,
        **one.machine,
    }


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.export_table", description=__doc__)
    parser.add_argument("run")
    parser.add_argument("file", metavar="FILE.csv")
    parser.add_argument("--num-images", type=int, default=100)
    parser.add_argument("--formats", nargs="+", choices=[*FORMATS], default=[*FORMATS])
    options = parser.parse_args(arguments)
    table = rows(options.run, options.num_images, options.formats)
    names = list(dict.fromkeys(name for row in table for name in row))
    with Path(options.file).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
