"""The frozen teacher: what a student asks of it, and nothing that it does not ask."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from raydistill.config.precision import Precision, meaning_of_auto, precision_of
from raydistill.config.sections import Config
from raydistill.detectors import frozen
from raydistill.detectors.base import AnswersAt, Detector, Normalization, ProposesRegions, ScoresAnchors
from raydistill.detectors.kept.by_image import Answering, ImageByImage
from raydistill.detectors.values import AnchorAnswers, Answers, Proposals, Regions
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


class Teacher:
    """A detector without gradient, in its own precision whatever the student's autocast is."""

    def __init__(
        self,
        detector: Detector,
        precision: Precision = "fp32",
        given: Normalization | None = None,
        answering: Answering | None = None,
    ) -> None:
        """Freeze ``detector``; ``detectors.frozen.make_fast`` makes it fast beforehand.

        Args:
            detector: the teacher.
            precision: type in which it answers.
            given: how the student normalises the batches that it is shown; None: as the teacher does.
            answering: ask image by image, and keep the answers as this says; None: ask about batches as they are.
        """
        self.detector = detector.eval().requires_grad_(False)
        self.answering = answering
        self._precision = precision
        self._given = detector.normalization if given is None else given

    def look(self, batch: Batch) -> TeacherPass:
        """Return what the teacher makes of a batch, nothing of it computed yet."""
        return TeacherPass(self, renormalized(batch, self._given, self.detector.normalization))

    @contextlib.contextmanager
    def asked(self, device: torch.device) -> Iterator[None]:
        """Compute what is inside without gradient and in the teacher's precision."""
        dtype = DTYPES[self._precision]
        half = dtype != torch.float32
        with torch.no_grad(), torch.autocast(device.type, dtype if half else None, enabled=half):
            yield


class TeacherPass:
    """What the frozen teacher says about one batch, without gradient.

    Each thing is computed when it is first asked for, and kept: several methods need the same, and several students can
    be compared with one pass. What the teacher must be able to do stands in brackets; methods name it in their needs.
    """

    def __init__(self, teacher: Teacher, batch: Batch) -> None:
        self._teacher, self._batch = teacher, batch
        self._answers: list[tuple[Regions, Answers]] = []
        answering = teacher.answering
        self._by_image = (
            None if answering is None else ImageByImage(teacher.detector, self._batch, answering, self._asked)
        )

    @functools.cached_property
    def features(self) -> Features:
        """The feature maps."""
        if self._by_image is not None:
            return self._by_image.features()
        with self._asked():
            found = self._teacher.detector.extract_features(self._batch)
            return {name: level.contiguous() for name, level in found.items()}

    @functools.cached_property
    def proposals(self) -> Proposals:
        """What the teacher itself proposes (``ProposesRegions``)."""
        if self._by_image is not None:
            return Proposals(self._by_image.proposals())
        features, detector = self.features, self._teacher.detector
        assert isinstance(detector, ProposesRegions)
        with self._asked():
            return detector.propose_regions(self._batch, features)

    @functools.cached_property
    def regions(self) -> Regions:
        """Regions sampled from the teacher's proposals as for its own training (``ProposesRegions``)."""
        proposals, detector = self.proposals, self._teacher.detector
        assert isinstance(detector, ProposesRegions)
        with torch.no_grad():
            return detector.sample_regions(self._batch, proposals.boxes)

    def answer(self, regions: Regions) -> Answers:
        """Return what the teacher says about ``regions`` (``AnswersAt``)."""
        for known, answers in self._answers:
            if known is regions:
                return answers
        features, detector = self.features, self._teacher.detector
        assert isinstance(detector, AnswersAt)
        with self._asked():
            answers = detector.answer(self._batch, features, regions)
        self._answers.append((regions, answers))
        return answers

    def answer_anchors(self, indices: Tensor) -> AnchorAnswers:
        """Return what the teacher says about the anchors ``indices`` [F] (``ScoresAnchors``)."""
        outputs = self.proposals.anchor_outputs if "proposals" in self.__dict__ else None
        if outputs is not None:
            return AnchorAnswers(outputs.objectness[indices], outputs.deltas[indices])
        features, detector = self.features, self._teacher.detector
        assert isinstance(detector, ScoresAnchors)
        with self._asked():
            return detector.score_anchors_at(features, indices)

    @property
    def num_anchors(self) -> int:
        """How many anchors the teacher lays over the batch (``ScoresAnchors``)."""
        detector = self._teacher.detector
        assert isinstance(detector, ScoresAnchors)
        return detector.num_anchors(self.features)

    def decode_anchor_boxes(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """Return the boxes [F, 4] that the teacher's ``deltas`` [F, 4] make of ``anchors`` [F, 4]."""
        detector = self._teacher.detector
        assert isinstance(detector, ScoresAnchors)
        return detector.decode_anchor_boxes(deltas, anchors)

    def _asked(self) -> contextlib.AbstractContextManager[None]:
        return self._teacher.asked(self._batch.images.device)


def renormalized(batch: Batch, given: Normalization, wanted: Normalization) -> Batch:
    """Return a batch that was normalised in a ``given`` way as if it had been in the one ``wanted``, padding still 0.

    One affine map per channel; the batch itself where both ways are one.
    """
    if given == wanted:
        return batch
    images = batch.images
    mean, std, other_mean, other_std = (
        images.new_tensor(values).view(1, -1, 1, 1) for values in (given.mean, given.std, wanted.mean, wanted.std)
    )
    mapped = images * (std / other_std) + (mean - other_mean) / other_std
    for image, (height, width) in zip(mapped, batch.image_sizes, strict=True):
        image[:, height:] = 0
        image[:, :, width:] = 0
    return replace(batch, images=mapped)
