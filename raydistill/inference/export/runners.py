"""What runs an exported file, or the net itself, on images: the same call for all, so that they can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from raydistill.detectors.base import Detector
from raydistill.structures import Target

Images = NDArray[np.uint8]
"""[N, H, W, 3], RGB."""


class Runner(Protocol):
    """Something that detects."""

    @property
    def batch_size(self) -> int:
        """How many images it takes at once."""
        ...

    def __call__(self, images: Images) -> list[Target]:
        """Return what is found in each of ``batch_size`` images: labels from 1 on, as torchvision's."""
        ...


@dataclass(frozen=True)
class DetectorRunner:
    """The detector itself, whose answers all others must give."""

    detector: Detector
    batch_size: int

    def __call__(self, images: Images) -> list[Target]:
        """Run ``detect``."""
        with torch.no_grad():
            return self.detector.detect([torch.from_numpy(image).permute(2, 0, 1) for image in images])


@dataclass(frozen=True)
class TorchRunner:
    """A TorchScript, in this process."""

    module: nn.Module
    batch_size: int

    @torch.no_grad()
    def __call__(self, images: Images) -> list[Target]:
        """Run torch."""
        given = torch.from_numpy(images)
        return _targets(self.module(given[0] if self.batch_size == 1 else given), self.batch_size)


@dataclass(frozen=True)
class OnnxRunner:
    """An ONNX file in onnxruntime, on the CPU."""

    session: Any
    batch_size: int

    @staticmethod
    def of(model: bytes | Path, batch_size: int, threads: int) -> OnnxRunner:
        """Open a file, or what it holds."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors
        source = model if isinstance(model, bytes) else str(model)
        session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        return OnnxRunner(session, batch_size)

    def __call__(self, images: Images) -> list[Target]:
        """Run onnxruntime."""
        (given,) = self.session.get_inputs()
        found = self.session.run(None, {given.name: images[0] if self.batch_size == 1 else images})
        return _targets([torch.from_numpy(values) for values in found], self.batch_size)


@dataclass(frozen=True)
class OpenVinoRunner:
    """An OpenVINO model on the CPU."""

    compiled: Any
    batch_size: int

    @staticmethod
    def of(model: Any, batch_size: int, threads: int) -> OpenVinoRunner:
        """Compile a model, or the file of one."""
        import openvino

        settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        return OpenVinoRunner(openvino.Core().compile_model(model, "CPU", settings), batch_size)

    def __call__(self, images: Images) -> list[Target]:
        """Run OpenVINO."""
        found = self.compiled(images[0] if self.batch_size == 1 else images)
        return _targets([torch.from_numpy(found[place].copy()) for place in range(len(found))], self.batch_size)


def _targets(outputs: Sequence[torch.Tensor], batch_size: int) -> list[Target]:
    boxes, class_ids, scores = outputs[:3]
    whole = Target(boxes=boxes, labels=class_ids + 1, scores=scores)
    if batch_size == 1:
        return [whole]
    own = [outputs[3] == number for number in range(batch_size)]
    return [Target(boxes=boxes[rows], labels=class_ids[rows] + 1, scores=scores[rows]) for rows in own]
