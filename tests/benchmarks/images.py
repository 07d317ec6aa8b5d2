"""Images for benchmarks: the recipe's, or noise of the size that its images have in training."""

from __future__ import annotations

from pathlib import Path

import torch

from raydistill.config import Config
from raydistill.config.sections import Input
from raydistill.data.build import build_datasets
from raydistill.data.dataset import AnnotatedImage, AnnotatedObject, DetectionDataset, Record, Records

_OBJECTS = 7  # per image, as in COCO
_CLASSES = 80  # COCO's
_WIDTH = 4 / 3  # of the height, as most images of COCO and PASCAL VOC


def training_images(config: Config, made_up: bool = False) -> tuple[DetectionDataset, str]:
    """Return the recipe's training split, and nothing; or images of noise, and what is to be said about them.

    Args:
        config: its data, and the size of the noise.
        made_up: take noise in any case; otherwise only where the folder of the data is not there.
    """
    root = getattr(config.data, "root", None)
    missing = root is not None and "://" not in root and not Path(root).exists()
    if not (made_up or missing):
        return build_datasets(config.data, config.downloads)[0], ""
    images = made_up_images(config.input, 2 * config.training.batch_size, _CLASSES)
    reason = f"data.root: there is no folder {root}; " if missing and not made_up else ""
    return images, f"{reason}images of noise, {_OBJECTS} objects of {_CLASSES} classes on each"


def made_up_images(image: Input, num_images: int, num_classes: int, seed: int = 0) -> DetectionDataset:
    """Return images of noise at the training size, with objects of 10 to 50 % of the sides."""
    height, width = image.min_size, min(round(_WIDTH * image.min_size), image.max_size)
    sides = torch.tensor([width, height])
    generator = torch.Generator().manual_seed(seed)
    pixels = [
        torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8) for _ in range(num_images)
    ]
    images = []
    for number in range(num_images):
        sizes = (torch.rand(_OBJECTS, 2, generator=generator) * 0.4 + 0.1) * sides
        corners = torch.rand(_OBJECTS, 2, generator=generator) * (sides - sizes)
        labels = torch.randint(1, num_classes + 1, (_OBJECTS,), generator=generator)
        rows = zip(labels.tolist(), torch.cat([corners, sizes], dim=1).tolist(), strict=True)
        objects = [AnnotatedObject(label, (x, y, w, h), w * h, False) for label, (x, y, w, h) in rows]
        images.append(AnnotatedImage(number, str(number), width, height, objects))

    def read(record: Record) -> torch.Tensor:
        return pixels[record.image_id]

    classes = tuple(f"class {label}" for label in range(1, num_classes + 1))
    return DetectionDataset(classes, tuple(range(1, num_classes + 1)), Records.build(images), read)
