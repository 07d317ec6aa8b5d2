"""How many images per second the training loader alone delivers, and where the time of one image goes."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count as counting
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from raydistill.config import Config, load_config
from raydistill.data.build import build_datasets
from raydistill.data.dataset import DetectionDataset
from raydistill.data.loading.augmentation import build_augmentation
from raydistill.data.loading.decoded import for_training
from raydistill.data.loading.loaders import TrainingLoader
from raydistill.data.loading.packed import MicroBatch, PackedBatch, pack
from tests.benchmarks import feeding
from tests.benchmarks.commands import add_recipe, count, parser_of, show
from tests.benchmarks.feeding import images_per_cpu_second, made_up_photographs
from tests.benchmarks.timing import Spread, turns

T = TypeVar("T")

_SAMPLE = 32  # images whose parts are timed
_REPEATS = 5
_COLD = "cold cache, 0 processes"


def main(arguments: Sequence[str]) -> None:
    """Measure what the command line says."""
    parser = parser_of("data", "Drain the training loader of a recipe without training.")
    add_recipe(parser)
    parser.add_argument("--seconds", type=float, default=3.0, metavar="S", help="time for each case")
    photographs = "made-up JPEGs of this size instead of the recipe's data, such as COCO's 640x480"
    parser.add_argument("--photographs", type=_size, metavar="WxH", help=photographs)
    options = parser.parse_intermixed_args(arguments)
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        drawn = made_up_photographs(Path(folder) / "photographs", *options.photographs) if options.photographs else []
        result = measure_data(load_config(options.recipe, [*options.overrides, *drawn]), seconds=options.seconds)
    show(as_text(result), result, options.json)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return count(width), count(height)


def measure_data(config: Config, seconds: float = 2.0, rounds: int = 3) -> dict[str, Any]:
    """Drain the training loader of ``config`` without training, in turn with 0, 1, 2 and the set number of processes.

    Each is measured without a cache and with a filled one, in a temporary folder (``TMPDIR``) that is removed at the
    end. What the first batch of a loader takes is left out, the starts of later epochs are not.

    Args:
        config: whose data, batches, augmentation and input size are taken, for one worker.
        seconds: how long each case is drained for in a round; a cold cache ends with its first epoch.
        rounds: how often all cases are measured; half of them go backwards.

    Returns:
        ``images_per_second`` (case -> median, low, high), ``microseconds`` (part -> of one image, medians) and
        ``images_per_cpu_second`` of one process without a cache, with what they were measured on.

    Raises:
        UserError: where the data cannot be read or the folder has no room for the cache.
    """
    train, _ = build_datasets(config.data, config.downloads)
    with tempfile.TemporaryDirectory() as folder:
        warm = _cached(train, config, Path(folder) / "warm")
        sizes = [list(warm.load(index)[0].shape[:0:-1]) for index in range(len(warm))]
        speeds = _speeds(train, warm, config, Path(folder), seconds, rounds)
        parts = _parts(train, warm, config)
        per_core = images_per_cpu_second(_batches(_loader(train, config, 0)))
    return {
        "images": len(train),
        "batch_size": config.training.batch_size,
        "num_workers": config.loader.num_workers,
        "image_size": np.median(train.records.sizes, axis=0).astype(int).tolist(),
        "cached_size": np.median(sizes, axis=0).astype(int).tolist(),
        "cpus": os.cpu_count(),
        "rounds": rounds,
        "images_per_second": {name: Spread.of(values).as_dict() for name, values in speeds.items()},
        "microseconds": parts,
        "images_per_cpu_second": per_core,
    }


def as_text(result: dict[str, Any]) -> str:
    """Return what was measured as two small tables."""
    sizes = [" x ".join(map(str, result[name])) for name in ("image_size", "cached_size")]
    lines = [
        f"{result['images']} training images, {sizes[0]} (cached {sizes[1]}), batches of {result['batch_size']}, "
        f"{result['cpus']} CPUs, {result['rounds']} rounds; loader.num_workers={result['num_workers']}",
        "",
        f"{'images/s of the loader alone':<32}{'median':>9}{'lowest':>9}{'highest':>9}",
        *(
            f"{name:<32}{speed['median']:>9.0f}{speed['low']:>9.0f}{speed['high']:>9.0f}"
            for name, speed in result["images_per_second"].items()
        ),
        "",
        f"{'one image, in microseconds':<32}{'median':>9}",
        *(f"{name:<32}{value:>9.0f}" for name, value in result["microseconds"].items()),
        "",
        feeding.as_text(result["images_per_cpu_second"]),
    ]
    return "\n".join(lines)


def _speeds(
    train: DetectionDataset, warm: DetectionDataset, config: Config, folder: Path, seconds: float, rounds: int
) -> dict[str, list[float]]:
    """Return the images per second of each case in each round."""
    loaders = {
        f"{name}, {number} processes": _loader(dataset, config, number)
        for name, dataset in (("no cache", train), ("warm cache", warm))
        for number in sorted({0, 1, 2, config.loader.num_workers})
    }
    speeds: dict[str, list[float]] = {name: [] for name in (*loaders, _COLD)}
    for number, name in turns(speeds, rounds):
        if name == _COLD:
            cold = _cached(train, config, folder / f"cold{number}")
            batches = _batches(_loader(cold, config, 0), epochs=1)
        else:
            batches = _batches(loaders[name])
        speeds[name].append(_images_per_second(batches, seconds))
    return speeds


def _cached(train: DetectionDataset, config: Config, folder: Path) -> DetectionDataset:
    settings = config.loader.model_copy(update={"cache": str(folder)})
    return for_training(train, config.model_copy(update={"loader": settings}))


def _loader(dataset: DetectionDataset, config: Config, num_workers: int) -> TrainingLoader:
    prefetch = config.loader.prefetch if num_workers else None
    settings = config.loader.model_copy(update={"num_workers": num_workers, "prefetch": prefetch})
    training = config.training
    return TrainingLoader(
        dataset,
        training.batch_size,
        config.seed,
        build_augmentation(config.augmentation),
        settings,
        accumulation=training.accumulation,
    )


def _batches(loader: TrainingLoader, epochs: int | None = None) -> Iterator[MicroBatch]:
    """Yield the micro-batches of ``epochs`` epochs, without end where that is None."""
    for epoch in counting() if epochs is None else range(epochs):
        for step in loader.epoch(epoch):
            yield from step


def _images_per_second(batches: Iterator[MicroBatch], seconds: float) -> float:
    """Draw batches for ``seconds`` and return the speed after the first one; 0 where there is only one."""
    next(batches)
    started = now = time.perf_counter()
    images = 0
    for pixels, _ in batches:
        images += len(pixels)
        now = time.perf_counter()
        if now - started >= seconds:
            break
    return images / (now - started) if images else 0.0


def _parts(train: DetectionDataset, warm: DetectionDataset, config: Config) -> dict[str, float]:
    """Return the microseconds that each part of loading takes per image, in this process."""
    augment = build_augmentation(config.augmentation)
    indices = np.linspace(0, len(train) - 1, min(_SAMPLE, len(train)), dtype=int).tolist()
    records = [train.records[index] for index in indices]
    items = [train.load(index) for index in indices]
    generator = torch.Generator()
    batch = items[: config.training.batch_size // config.training.accumulation]
    packed = pack(batch)
    return {
        "annotations": _median(train.records.__getitem__, indices),
        "decoding": _median(train.read_image, records),
        "reading from the cache": _median(warm.read_image, records),
        "augmentation": _median(lambda item: augment(*item, generator.manual_seed(0)), items),
        "packing a batch": _median(pack, [batch] * _REPEATS) / len(batch),
        "unpacking a batch": _median(PackedBatch.unpack, [packed] * _REPEATS) / len(batch),
    }


def _median(run: Callable[[T], object], inputs: Sequence[T]) -> float:
    """Return the median microseconds of ``run`` on each of ``inputs``, after a first time that does not count."""
    run(inputs[0])
    taken = []
    for value in inputs:
        started = time.perf_counter()
        run(value)
        taken.append(time.perf_counter() - started)
    return 1e6 * float(np.median(taken))
