"""Nets for benchmarks: random weights that behave, so that nothing has to be downloaded or trained."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from raydistill.config.sections import NAMED_WEIGHTS, AnyDetector, Detector, Input
from raydistill.data.loading.loaders import MicroBatch
from raydistill.detectors.two_stage.build import build_faster_rcnn
from raydistill.detectors.two_stage.faster_rcnn import FasterRCNNDetector
from raydistill.detectors.weights import load_into
from raydistill.errors import UserError


def benchmark_net(
    settings: AnyDetector, image: Input, classes: tuple[str, ...], batch: MicroBatch, role: str
) -> FasterRCNNDetector:
    """Build a net with the weights of a file where ``settings`` name one, else with random ones fit for a benchmark.

    Random ones have the statistics of ``batch`` in their norms: with none at all a deep net's activations grow beyond
    all bounds, and a student of NaN loses its proposals and only looks fast.
    """
    if not isinstance(settings, Detector):
        raise UserError(f"{role}.detector: the benchmark times Faster R-CNNs, got {settings.detector}")
    if settings.weights not in NAMED_WEIGHTS:
        detector = build_faster_rcnn(settings, image, classes)
        load_into(detector, settings, role)
        return detector
    source = build_faster_rcnn(settings.model_copy(update={"norm": _countable(settings.norm)}), image, classes)
    source.train()
    calibrate(source, lambda: source.extract_features(source.prepare(*batch)))
    if settings.norm != "frozen":
        return source
    detector = build_faster_rcnn(settings, image, classes)
    detector.load_state_dict(
        {key: value for key, value in source.state_dict().items() if not key.endswith("num_batches_tracked")}
    )
    return detector


def _countable(norm: str) -> str:
    return "batch" if norm == "frozen" else norm


def calibrate(net: nn.Module, run: Callable[[], object]) -> None:
    """Set the running statistics of the norms of ``net`` to those of what ``run`` lets pass through them."""
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    usual = [(norm.momentum, norm.training) for norm in norms]
    for norm in norms:
        norm.train().momentum = 1.0
    with torch.no_grad():
        run()
    for norm, (momentum, training) in zip(norms, usual, strict=True):
        norm.train(training).momentum = momentum
