"""``python -m raydistill.evaluate``: score weights on a data set, or a file of detections."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raydistill import VERSION
from raydistill.errors import UserError
from raydistill.runs.directory import RunDirectory
from raydistill.storage.mirror import fetched, folder, named, place_of
from raydistill.storage.store import is_remote

if TYPE_CHECKING:
    from raydistill.config import Downloads
    from raydistill.data.dataset import DetectionDataset
    from raydistill.inference.columns import Detections
    from raydistill.inference.scoring import Scores


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = _parser()
    options = parser.parse_intermixed_args(arguments)
    with_weights = options.weights is not None and options.data is not None
    with_files = options.annotations is not None and options.detections is not None
    if with_weights == with_files or (with_files and options.weights is not None):
        parser.error("give either WEIGHTS and DATA, or --annotations and --detections")
    if options.batch_size < 1 or options.num_workers < 0:
        parser.error("--batch-size must be at least 1 and --num-workers at least 0")
    try:
        _check_backend(options.backend)
        scores, detections = (_score_files(options), None) if with_files else _score_weights(options)
        sys.stdout.write(as_text(scores) + "\n")  # first: nothing that fails below may cost it
        if options.json:
            _write_json(folder(options.json, reading=True), {**scores.summary, "per_class": scores.per_class})
        if detections is not None:
            _write_json(_detections_file(options), detections)
    except UserError as error:
        sys.stderr.write(f"{named(str(error))}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    return 0


def as_text(scores: Scores) -> str:
    """Return the table per class and overall, in points of 100."""
    import pandas as pd

    columns = list(next(iter(scores.per_class.values()), {})) or ["AP"]
    rows = {**scores.per_class, "all": {name: scores.summary[name] for name in columns}}
    shown = {
        name: ["-" if values[column] < 0 else f"{100 * values[column]:.1f}" for column in columns]
        for name, values in rows.items()
    }
    table = pd.DataFrame.from_dict(shown, orient="index", columns=[column.replace("_", " ") for column in columns])
    recalls = [(name, value) for name, value in scores.summary.items() if name.startswith("AR") and value >= 0]
    return f"{table.to_string()}\n\n{', '.join(f'{name} {100 * value:.1f}' for name, value in recalls)}"


def _check_backend(backend: str) -> None:
    from raydistill.inference.scoring import check_backend

    check_backend(backend, "--backend")


def _score_files(options: argparse.Namespace) -> Scores:
    from raydistill.data.formats.coco_results import read_detections, read_ground_truth
    from raydistill.inference.scoring import score

    ground_truth = read_ground_truth(Path(options.annotations))
    return score(ground_truth, read_detections(Path(options.detections), ground_truth), options.backend)


def _score_weights(options: argparse.Namespace) -> tuple[Scores, Detections]:
    """Run the net that the weights file describes on the data."""
    import torch

    from raydistill.config import Loader
    from raydistill.config.sections import Input
    from raydistill.data.checks import check_sides
    from raydistill.data.discover import open_dataset
    from raydistill.data.loading.loaders import evaluation_loader
    from raydistill.detectors.restore import restore_detector
    from raydistill.inference.evaluation import evaluate
    from raydistill.runs.worker import Worker

    logging.basicConfig(format="%(message)s")
    logging.getLogger("raydistill").setLevel(logging.INFO)
    weights = _weights_here(options.weights)
    detector = restore_detector(weights)
    dataset = open_dataset(
        options.data,
        options.split,
        options.images,
        detector.classes,
        options.difficult,
        options.coordinates,
        _downloads(options),
    )
    _check_classes(dataset, detector.classes, weights)
    resizing: Any = detector.exported().transform
    check_sides(dataset, Input(min_size=resizing.min_size[0], max_size=resizing.max_size))
    worker = Worker(device=torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu"))
    batches = evaluation_loader(dataset, options.batch_size, 0, 1, Loader(num_workers=options.num_workers))
    result = evaluate(detector.to(worker.device), dataset, batches, worker, backend=options.backend)
    speed = f"{result.images_per_second:.1f} images/s"
    sys.stderr.write(f"{len(result.found)} detections into {place_of(_detections_file(options))}, {speed}\n")
    return result.scores, dataset.file_ids.restored(result.detections)


def _downloads(options: argparse.Namespace) -> Downloads:
    from pydantic import ValidationError

    from raydistill.config import Downloads

    try:
        return Downloads(folder=options.download_folder, max_gb=options.download_gb)
    except ValidationError as error:
        problem = error.errors()[0]
        raise UserError(f"--download-folder, --download-gb: {problem['msg']}, got {problem['input']}") from error


def _detections_file(options: argparse.Namespace) -> Path:
    """Return where the detections go: beside the weights, named after the data."""
    if options.output:
        return folder(options.output, reading=True)
    weights, data = folder(options.weights, reading=True), Path(options.data).resolve().stem
    run = weights if weights.is_dir() else weights.parent
    return run / f"detections_{data}{'_' + options.split if options.split else ''}.json"


def _weights_here(weights: str) -> Path:
    """Return the weights file or run directory, fetched where it is on an object store."""
    path = folder(weights, reading=True)
    if is_remote(weights) and not fetched(path).is_file():
        for file in (RunDirectory(path).best, RunDirectory(path).last):
            if fetched(file).is_file():
                break
    return path


def _check_classes(dataset: DetectionDataset, classes: tuple[str, ...], weights: Path) -> None:
    if set(dataset.classes) != set(classes):
        raise UserError(
            f"{weights}: must know the data's classes, got a net for {', '.join(classes)} and data with "
            f"{', '.join(dataset.classes)}; name weights that were trained on these classes"
        )


def _write_json(path: Path, value: dict[str, Any] | Detections) -> None:
    from raydistill.storage.atomic import write_text

    write_text(path, json.dumps(value))


def _parser() -> argparse.ArgumentParser:
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
    parser.add_argument("--download-folder", metavar="DIR", help="as downloads.folder, for data on an object store")
    parser.add_argument("--download-gb", type=float, default=50, metavar="N", help="as downloads.max_gb (default: 50)")
    parser.add_argument("--batch-size", type=int, default=4, metavar="N")
    parser.add_argument("--num-workers", type=int, default=2, metavar="N", help="loader processes")
    parser.add_argument("--version", action="version", version=VERSION)
    return parser


if __name__ == "__main__":
    sys.exit(main())
