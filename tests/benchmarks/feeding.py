"""How many cores it takes to feed GPUs: what one core loads, beside what the GPUs train."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from raydistill.data.loading.packed import MicroBatch

GPUS = 8
RATES = (10, 20, 40)
"""Images that a GPU trains on in a second, where nobody has measured it: a Faster R-CNN at 800 px, old to new ones."""
_OBJECTS = 7  # per image, as in COCO
_GRAIN = 40.0  # of 255: 0.16 MB at 640 x 480, as COCO's photographs
_DETAIL = 8  # pixels


def made_up_photographs(folder: Path, width: int, height: int, number: int = 64) -> list[str]:
    """Write JPEGs with about as much detail as photographs, and return the settings that name them."""
    rng = np.random.default_rng(0)
    images, annotations = list[dict[str, object]](), list[dict[str, object]]()
    (folder / "images").mkdir(parents=True)
    for image_id in range(number):
        coarse = rng.integers(0, 256, (height // _DETAIL + 1, width // _DETAIL + 1, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.float32)
        pixels = np.clip(smooth + rng.normal(0, _GRAIN / 4, smooth.shape), 0, 255).astype(np.uint8)
        name = f"{image_id}.jpg"
        Image.fromarray(pixels).save(folder / "images" / name, quality=90)
        images.append({"id": image_id, "file_name": name, "width": width, "height": height})
        for place in range(_OBJECTS):
            box = [place * width // 16, place * height // 16, width // 4, height // 4]
            known = {"image_id": image_id, "category_id": 1, "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, "bbox": box, "area": box[2] * box[3], **known})
    listed = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    (folder / "annotations.json").write_text(json.dumps(listed))
    splits = [f"data.{split}_{what}" for split in ("train", "val") for what in ("images", "annotations")]
    places = ["images", "annotations.json"] * 2
    settings = [f"{setting}={place}" for setting, place in zip(splits, places, strict=True)]
    return ["data.format=coco", f"data.root={folder}", *settings]


def images_per_cpu_second(batches: Iterable[MicroBatch], least: int = 3) -> float:
    """Return what this process loads in a second of its own computing, from ``least`` batches after the first."""
    rest = iter(batches)
    next(rest)
    started, images = time.process_time(), 0
    for pixels, _ in islice(rest, least):
        images += len(pixels)
    return images / max(time.process_time() - started, 1e-9)


def cores_for(rate: float, per_core: float, gpus: int = GPUS) -> int:
    """Return how many cores load what ``gpus`` train on, each ``rate`` images a second."""
    return math.ceil(gpus * rate / per_core)


def as_text(per_core: float, rates: Iterable[float] = RATES) -> str:
    """Say it in a line."""
    cores = ", ".join(f"{cores_for(rate, per_core)} at {rate:.3g}" for rate in rates)
    return (
        f"one core loads {per_core:.0f} images a second (of its computing); cores that feed {GPUS} GPUs: {cores} "
        "images a second and GPU"
    )
