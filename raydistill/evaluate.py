"""``python -m raydistill.evaluate``: score weights on a data set, or a file of detections."""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raydistill import VERSION
from raydistill.command import run_command
from raydistill.config.training import AREA_RANGES, MOST_DETECTIONS, MOST_TO_COUNT
from raydistill.errors import printable
from raydistill.runs.scores import exists, points
from raydistill.storage.output import Output

if TYPE_CHECKING:
    from raydistill.inference.columns import Detections
    from raydistill.inference.scoring import Scores


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = command_line()
    options = parser.parse_intermixed_args(arguments)
    with_weights = options.weights is not None and options.data is not None
    with_files = options.annotations is not None and options.detections is not None
    if with_weights == with_files or (with_files and options.weights is not None):
        parser.error("give either WEIGHTS and DATA, or --annotations and --detections")
    if not 1 <= options.batch_size <= 10**6 or not 0 <= options.num_workers <= 1000:
        parser.error("--batch-size must be 1 to 1000000 and --num-workers 0 to 1000")
    if not 0 < options.max_megapixels <= 100_000:
        parser.error("--max-megapixels must be above 0 and at most 100000")
    _check_rules(options, parser)
    if options.pixel_range is not None and not _is_range(options.pixel_range):
        parser.error("--pixel-range must be two numbers, the smaller one first")
    return run_command(lambda: _evaluate(options, with_files))


def _check_rules(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    if not 1 <= options.max_detections <= MOST_TO_COUNT:
        parser.error(f"--max-detections must be at least 1 and at most {MOST_TO_COUNT}")
    if not _is_range(options.area_ranges) or options.area_ranges[0] <= 0:
        parser.error("--area-ranges must be two numbers above 0, the smaller one first")


def _is_range(pair: Sequence[float]) -> bool:
    return all(map(math.isfinite, pair)) and pair[0] < pair[1]


def _evaluate(options: argparse.Namespace, with_files: bool) -> int:
    from raydistill.inference.scoring import check_backend

    check_backend(options.backend, "--backend")
    scores, detections = (_score_files(options), None) if with_files else _score_weights(options)
    sys.stdout.write(as_text(scores) + "\n")  # first: nothing that fails below may cost it
    if options.json:
        _write_json(Output.to_read(options.json), {**scores.summary, "per_class": scores.per_class})
    if detections is not None:
        _write_json(_detections_file(options), detections)
    return 0


def as_text(scores: Scores) -> str:
    """Return the table per class and overall, in points of 100."""
    import pandas as pd

    columns = list(next(iter(scores.per_class.values()), {})) or ["AP"]
    overall = "all"
    while overall in scores.per_class:  # a class may be called so
        overall = f"({overall})"
    rows = [*scores.per_class.items(), (overall, scores.summary)]
    shown = [[points(values[column]) for column in columns] for _, values in rows]
    headline = [column.replace("_", " ") for column in columns]
    table = pd.DataFrame(shown, index=[printable(name) for name, _ in rows], columns=headline, dtype=object)
    recalls = [(name, value) for name, value in scores.summary.items() if name.startswith("AR") and exists(value)]
    return f"{table.to_string()}\n\n{', '.join(f'{name} {points(value)}' for name, value in recalls)}"


def _score_files(options: argparse.Namespace) -> Scores:
    from raydistill.data.counting import crowded_in_words
    from raydistill.data.formats.coco_results import read_detections, read_ground_truth
    from raydistill.inference.scoring import Rules, score

    ground_truth = read_ground_truth(Path(options.annotations))
    rules = Rules(options.max_detections, tuple(options.area_ranges))
    most = Counter((item["image_id"], item["category_id"]) for item in ground_truth["annotations"])
    if words := crowded_in_words(list(most.values()), rules.max_detections, "images and classes"):
        logging.getLogger("raydistill").warning("%s: %s: --max-detections raises that", options.annotations, words)
    return score(ground_truth, read_detections(Path(options.detections), ground_truth), options.backend, rules)


def _score_weights(options: argparse.Namespace) -> tuple[Scores, Detections]:
    """Run the net that the weights file describes on the data."""
    from raydistill.inference.on_data import DataPath, downloads_to, score_weights
    from raydistill.inference.scoring import Rules
    from raydistill.runs.notices import log_to_stderr

    log_to_stderr()
    downloads = downloads_to(options.download_folder, options.download_gb, "--download-folder, --download-gb")
    data = DataPath(
        options.data,
        options.split,
        options.images,
        options.difficult,
        options.coordinates,
        downloads,
        options.max_megapixels,
        None if options.pixel_range is None else tuple(options.pixel_range),
        options.alpha,
    )
    scored = score_weights(
        options.weights,
        data,
        backend=options.backend,
        rules=Rules(options.max_detections, tuple(options.area_ranges)),
        batch_size=options.batch_size,
        num_workers=options.num_workers,
    )
    speed = f"{scored.images_per_second:.1f} images/s"
    place = printable(str(_detections_file(options).place))
    sys.stderr.write(f"{len(scored.detections)} detections into {place}, {speed}\n")
    return scored.scores, scored.detections


def _detections_file(options: argparse.Namespace) -> Output:
    """Return where the detections go: beside the weights, named after the data."""
    if options.output:
        return Output.to_read(options.output)
    weights, data = Output.to_read(options.weights), Path(options.data).resolve().stem
    run = weights.folder if weights.folder.is_dir() else weights.folder.parent
    return weights.part(run / f"detections_{data}{'_' + options.split if options.split else ''}.json")


def _write_json(file: Output, value: dict[str, Any] | Detections) -> None:
    file.write_text(file.folder, json.dumps(value))


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m raydistill.evaluate",
        description="Score weights on a data set and write the detections in COCO's format, or score such detections.",
    )
    parser.add_argument("weights", nargs="?", metavar="WEIGHTS_OR_RUN", help="weights file or run directory")
    parser.add_argument(
        "data",
        nargs="?",
        metavar="DATA",
        help="COCO annotations.json, COCO folder or VOC folder, also on an object store",
    )
    parser.add_argument("--split", help="split of a folder (default: val)")
    parser.add_argument("--images", metavar="DIR", help="where the images of an annotations.json lie")
    parser.add_argument("--difficult", choices=["ignore", "include"], default="ignore", help="VOC: as data.difficult")
    parser.add_argument(
        "--coordinates", choices=["one_based", "zero_based"], default="one_based", help="VOC: as data.coordinates"
    )
    parser.add_argument(
        "--max-megapixels", type=float, default=179, metavar="N", help="as data.max_megapixels (default: 179)"
    )
    parser.add_argument(
        "--pixel-range", type=float, nargs=2, metavar=("LOW", "HIGH"), help="as data.pixel_range (default: full range)"
    )
    parser.add_argument(
        "--alpha", choices=["over_white", "ignore"], default="over_white", help="as data.alpha (default: over_white)"
    )
    parser.add_argument("--annotations", metavar="GT.json", help="COCO annotations to score --detections against")
    parser.add_argument("--detections", metavar="FILE.json", help="detections in COCO's results format")
    parser.add_argument("--json", metavar="OUT", help="write the numbers, 0 to 1, -1 where there is no object")
    parser.add_argument("--output", metavar="FILE", help="where the detections go (default: beside the weights)")
    parser.add_argument(
        "--backend",
        choices=["pycocotools", "faster_coco_eval"],
        default="pycocotools",
        help="who computes the numbers (default: pycocotools)",
    )
    parser.add_argument(
        "--max-detections",
        type=int,
        default=MOST_DETECTIONS,
        metavar="N",
        help="detections of an image that count, as evaluation.max_detections (default: 100)",
    )
    parser.add_argument(
        "--area-ranges",
        type=float,
        nargs=2,
        default=AREA_RANGES,
        metavar=("MEDIUM", "LARGE"),
        help="areas at which medium and large objects begin, as evaluation.area_ranges (default: 1024 9216)",
    )
    parser.add_argument("--download-folder", metavar="DIR", help="as downloads.folder, for data on an object store")
    parser.add_argument("--download-gb", type=float, default=50, metavar="N", help="as downloads.max_gb (default: 50)")
    parser.add_argument("--batch-size", type=int, default=4, metavar="N")
    parser.add_argument("--num-workers", type=int, default=2, metavar="N", help="loader processes")
    parser.add_argument("--version", action="version", version=VERSION)
    return parser


if __name__ == "__main__":
    sys.exit(main())
