"""Nets and images for benchmarks: random weights that behave, so that nothing has to be downloaded or trained."""

from __future__ import annotations

import torch
from torch import nn

from raydistill.config.sections import NAMED_WEIGHTS, Detector, Input
from raydistill.data.dataset import AnnotatedImage, AnnotatedObject, DetectionDataset, Record, Records
from raydistill.data.loading.loaders import MicroBatch
from raydistill.detectors.build import build_detector
from raydistill.detectors.two_stage.faster_rcnn import FasterRCNNDetector
from raydistill.detectors.weights import load_into

_OBJECTS = 7  # per image, as in COCO


def benchmark_net(
    settings: Detector, image: Input, classes: tuple[str, ...], batch: MicroBatch, role: str
) -> FasterRCNNDetector:
    """Build a net with the weights of a file where ``settings`` name one, else with random ones fit for a benchmark.

    Random ones have the statistics of ``batch`` in their norms: with none at all a deep net's activations grow beyond
    all bounds, and a student of NaN loses its proposals and only looks fast.
    """
    if settings.weights not in NAMED_WEIGHTS:
        detector = build_detector(settings, image, classes)
        load_into(detector, settings, role)
        return detector
    source = build_detector(settings.model_copy(update={"norm": _countable(settings.norm)}), image, classes)
    _calibrate(source, batch)
    if settings.norm != "frozen":
        return source
    detector = build_detector(settings, image, classes)
    detector.load_state_dict(
        {key: value for key, value in source.state_dict().items() if not key.endswith("num_batches_tracked")}
    )
    return detector


def _countable(norm: str) -> str:
    return "batch" if norm == "frozen" else norm


def _calibrate(detector: FasterRCNNDetector, batch: MicroBatch) -> None:
    """Set the running statistics to those of ``batch``."""
    norms = [module for module in detector.modules() if isinstance(module, nn.BatchNorm2d)]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        detector.train().extract_features(detector.prepare(*batch))
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum


def made_up_data(image: Input, num_images: int, num_classes: int, seed: int = 0) -> DetectionDataset:
    """Return square images of noise at the training size, with objects of 10 to 50 % of the side."""
    side = image.min_size
    generator = torch.Generator().manual_seed(seed)
    pixels = [torch.randint(0, 256, (3, side, side), generator=generator, dtype=torch.uint8) for _ in range(num_images)]
    images = []
    for number in range(num_images):
        sizes = (torch.rand(_OBJECTS, 2, generator=generator) * 0.4 + 0.1) * side
        corners = torch.rand(_OBJECTS, 2, generator=generator) * (side - sizes)
        labels = torch.randint(1, num_classes + 1, (_OBJECTS,), generator=generator)
        rows = zip(labels.tolist(), torch.cat([corners, sizes], dim=1).tolist(), strict=True)
        objects = [AnnotatedObject(label, (x, y, w, h), w * h, False) for label, (x, y, w, h) in rows]
        images.append(AnnotatedImage(number, str(number), side, side, objects))

    def read(record: Record) -> torch.Tensor:
        return pixels[record.image_id]

    classes = tuple(f"class {label}" for label in range(1, num_classes + 1))
    return DetectionDataset(classes, tuple(range(1, num_classes + 1)), Records.build(images), read)
