"""The frozen teacher: what a student asks of it, and nothing that it does not ask."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from raydistill.config.precision import Precision, meaning_of_auto, precision_of
from raydistill.config.sections import Config
from raydistill.detectors import frozen
from raydistill.detectors.base import Detector
from raydistill.detectors.two_stage.values import AnchorAnswers, AnchorOutputs, HeadOutputs, Regions
from raydistill.errors import UserError
from raydistill.runs.worker import Worker
from raydistill.structures import Batch, Features

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def decide_precision(config: Config, worker: Worker) -> Precision:
    """Return the type in which the teacher answers on every worker of the group; all of them call it together.

    Raises:
        UserError: for fp16 without a GPU.
    """
    wanted, device = precision_of(config), worker.device.type
    if wanted == "fp16" and device != "cuda":
        raise UserError("distillation.teacher_precision: fp16 needs a GPU, got none; use bf16 or fp32")
    if wanted is not None:
        return wanted
    return meaning_of_auto(config, all(worker.gather(device == "cpu" and frozen.computes_bf16())))


@dataclass(frozen=True)
class TeacherPass:
    """What the teacher makes of a batch, without gradient; several students can be compared with it."""

    features: Features
    anchor_outputs: AnchorOutputs | None  # only where the teacher's own proposals are wanted
    proposals: list[Tensor] | None  # likewise, per image [Ri, 4]


class Teacher:
    """A detector without gradient, in its own precision whatever the student's autocast is."""

    def __init__(self, detector: Detector, precision: Precision = "fp32") -> None:
        """Freeze ``detector``; ``detectors.frozen.make_fast`` makes it fast beforehand."""
        self.detector = detector.eval().requires_grad_(False)
        self._precision = precision

    def look(self, batch: Batch, with_proposals: bool) -> TeacherPass:
        """Run the teacher as far as it does not depend on the student."""
        with self._asked(batch.images.device):
            features = {name: level.contiguous() for name, level in self.detector.extract_features(batch).items()}
            if not with_proposals:
                return TeacherPass(features, None, None)
            anchor_outputs = self.detector.score_anchors(batch, features)
            return TeacherPass(features, anchor_outputs, self.detector.propose(batch, anchor_outputs))

    @torch.no_grad()
    def sample_regions(self, batch: Batch, proposals: list[Tensor]) -> Regions:
        """Sample regions from the teacher's ``proposals`` as for its own training."""
        return self.detector.sample_regions(batch, proposals)

    def answer(self, batch: Batch, features: Features, regions: Regions) -> HeadOutputs:
        """Return what the teacher's box head says about ``regions``."""
        with self._asked(batch.images.device):
            return self.detector.predict(batch, features, regions)

    def answer_anchors(self, seen: TeacherPass, indices: Tensor) -> AnchorAnswers:
        """Return what the teacher's RPN says about the anchors ``indices`` [F]."""
        outputs = seen.anchor_outputs
        if outputs is not None:
            return AnchorAnswers(outputs.objectness[indices], outputs.deltas[indices])
        with self._asked(indices.device):
            return self.detector.score_anchors_at(seen.features, indices)

    def num_anchors(self, seen: TeacherPass) -> int:
        """Return how many anchors the teacher lays over the batch."""
        return self.detector.num_anchors(seen.features)

    @contextlib.contextmanager
    def _asked(self, device: torch.device) -> Any:
        half = self._precision != "fp32"
        autocast = torch.autocast(device.type, DTYPES[self._precision], enabled=True) if half else _no_autocast(device)
        with torch.no_grad(), autocast:
            yield


def _no_autocast(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, enabled=False)
