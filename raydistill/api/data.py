"""What data hold, and what a detector scores on them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

from raydistill.api.paths import StrPath, text_of
from raydistill.config.loader import Overrides, Recipe, load_config
from raydistill.errors import UserError
from raydistill.storage.mirror import places_named
from raydistill.storage.output import Output

if TYPE_CHECKING:
    from raydistill.config.training import Backend, Evaluation
    from raydistill.detectors.base import Detector
    from raydistill.training.data_report import DataReport


def inspect(
    recipe: Recipe,
    overrides: Overrides | None = None,
    *,
    pictures: StrPath | None = None,
    measure_time: bool = False,
) -> DataReport:
    """Say what the data of a recipe are: counts, sizes of boxes, what looks wrong, how long training on them takes.

    Args:
        recipe: as ``distill`` takes it.
        overrides: likewise; ``data.root`` names a folder as a tool has exported it.
        pictures: where ten images with their boxes go; by default nowhere.
        measure_time: take a step of each net to guess the time that a run needs.

    Raises:
        UserError: where the data cannot be trained on, or it must be said what they are.

    >>> inspect("quickstart", {"data.num_train": 4, "data.num_val": 2}).splits["training"].images
    4
    """
    from raydistill.data.recognise import with_known_data
    from raydistill.runs.worker import Worker, local_device
    from raydistill.training.data_report import report_on

    with places_named():
        config, found = with_known_data(load_config(recipe, overrides or ()))
        said, _, settings = found.removeprefix("data: ").partition("; stands for ")
        worker = Worker(device=local_device()) if measure_time else None
        return report_on(config, said, settings, None if pictures is None else Output.at(os.fspath(pictures)), worker)


def score(
    weights: StrPath | Detector,
    data: StrPath,
    *,
    split: str | None = None,
    images: StrPath | None = None,
    difficult: Literal["ignore", "include"] = "ignore",
    coordinates: Literal["one_based", "zero_based"] = "one_based",
    max_megapixels: float = 179,
    pixel_range: tuple[float, float] | None = None,
    alpha: Literal["over_white", "ignore"] = "over_white",
    max_detections: int = 100,
    area_ranges: tuple[float, float] = (1024.0, 9216.0),
    backend: Backend = "pycocotools",
    batch_size: int = 4,
    num_workers: int = 2,
    download_folder: StrPath | None = None,
    download_gb: float = 50,
) -> dict[str, Any]:
    """Return the COCO scores of a detector on data, from 0 to 1, -1 where there is no object.

    Args:
        weights: a detector, or what ``load`` takes.
        data: a COCO annotations file, or a folder of data as a tool has exported it.
        split: of a folder; by default ``val``.
        images: where the images of an annotations file lie; by default near it.
        difficult: of a PASCAL VOC folder, as ``data.difficult``.
        coordinates: of a PASCAL VOC folder, as ``data.coordinates``.
        max_megapixels: as ``data.max_megapixels``.
        pixel_range: as ``data.pixel_range``.
        alpha: as ``data.alpha``.
        max_detections: as ``evaluation.max_detections``.
        area_ranges: as ``evaluation.area_ranges``.
        backend: who computes the numbers.
        batch_size: images at once.
        num_workers: loader processes.
        download_folder: as ``downloads.folder``, for data on an object store.
        download_gb: as ``downloads.max_gb``.

    Returns:
        ``AP, AP50, AP75, AP_small, AP_medium, AP_large, AR1, ...``, and under ``per_class`` those of each class.

    Raises:
        UserError: when weights or data cannot be read, or do not fit together.
    """
    from raydistill.inference.on_data import DataPath, downloads_to, score_weights
    from raydistill.inference.scoring import Rules, check_backend

    for name, value, least, most in (("batch_size", batch_size, 1, 10**6), ("num_workers", num_workers, 0, 1000)):
        if not least <= value <= most:
            raise UserError(f"{name}: must be {least} to {most}, got {value}")
    if not 0 < max_megapixels <= 100_000:
        raise UserError(f"max_megapixels: must be above 0 and at most 100000, got {max_megapixels}")
    evaluation = _checked_rules(max_detections, area_ranges)
    with places_named():
        check_backend(backend, "backend")
        downloads = downloads_to(text_of(download_folder), download_gb, "download_folder, download_gb")
        place = DataPath(
            os.fspath(data),
            split,
            text_of(images),
            difficult,
            coordinates,
            downloads,
            max_megapixels,
            None if pixel_range is None else (pixel_range[0], pixel_range[1]),
            alpha,
        )
        rules = Rules(evaluation.max_detections, evaluation.area_ranges)
        found = score_weights(
            weights, place, backend=backend, rules=rules, batch_size=batch_size, num_workers=num_workers
        )
    return found.metrics


def _checked_rules(max_detections: int, area_ranges: tuple[float, float]) -> Evaluation:
    from pydantic import ValidationError

    from raydistill.config.training import Evaluation

    try:
        return Evaluation(max_detections=max_detections, area_ranges=(area_ranges[0], area_ranges[1]))
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or "area_ranges"
        raise UserError(f"{where}: {problem['msg']}, got {problem['input']!r}") from error
