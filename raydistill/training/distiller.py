"""One forward pass: the student's detection losses plus the distillation terms of METHOD sections 2 to 7."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from raydistill.config.precision import Precision
from raydistill.config.sections import Config
from raydistill.detectors.base import Detector
from raydistill.detectors.teacher import Teacher, TeacherPass
from raydistill.detectors.two_stage.values import AnchorOutputs, AnchorSample, HeadOutputs, Regions
from raydistill.errors import UserError
from raydistill.methods.losses.classification import (
    bce_divergence,
    gated_loss,
    kl_divergence,
    objectness_divergence,
    objectness_gate,
    teacher_better_gate,
)
from raydistill.methods.losses.feature import feature_loss
from raydistill.methods.losses.regression import closer_gate, delta_distance
from raydistill.methods.quality import answer_quality
from raydistill.methods.tar.masks import feature_masks
from raydistill.methods.values import Gate, StepLosses
from raydistill.structures import Batch, Features, LossDict, Target


@dataclass(frozen=True)
class _StudentPass:
    """What the student's own training step leaves for the comparison."""

    features: Features
    anchor_outputs: AnchorOutputs
    anchors: AnchorSample
    regions: Regions
    outputs: HeadOutputs


@dataclass(frozen=True)
class _Shared:
    """The regions on which both heads are compared, and which rows of all regions they are."""

    regions: Regions
    rows: Tensor  # [R'], into the rows of all regions


@dataclass(frozen=True)
class _Compared:
    """What comparing teacher and student gives."""

    terms: LossDict = field(default_factory=dict)  # raw
    gates: dict[str, Gate] = field(default_factory=dict)
    quality: dict[str, Gate] = field(default_factory=dict)

    def add(self, other: _Compared) -> None:
        self.terms.update(other.terms)
        self.gates.update(other.gates)
        self.quality.update(other.quality)


class Distiller(nn.Module):
    """Student, adapters and frozen teacher; DDP wraps this.

    The teacher is no submodule: it is not trained, not saved and not switched to training mode with the student.
    """

    def __init__(
        self, student: Detector, teacher: Detector | None, config: Config, precision: Precision = "fp32"
    ) -> None:
        """Take a student, and a teacher that is asked in ``precision``."""
        super().__init__()
        self.student = student
        self.adapters = nn.ModuleDict()
        self.measures_quality = False
        self.weights = {name: term.weight for name, term in config.terms.items()}
        self._config = config
        self.teacher: Teacher | None = None
        self.precision: Precision | None = None
        if teacher is not None and config.distills:
            self.teacher, self.precision = Teacher(teacher, precision), precision
            if config.feature.weight:
                self.adapters.update({level: self._adapter(student, teacher) for level in student.feature_levels})

    @property
    def distills(self) -> bool:
        """Whether there is a teacher to learn from."""
        return self.teacher is not None

    def _adapter(self, student: Detector, teacher: Detector) -> nn.Module:
        kind = self._config.feature.adapter
        if kind == "identity":
            return nn.Identity()
        size = 1 if kind == "conv1x1" else 3
        return nn.Conv2d(student.feature_channels, teacher.feature_channels, size, padding=size // 2)

    def forward(self, images: list[Tensor], targets: list[Target], decay: float) -> StepLosses:
        """Return every loss of one step on this worker's images.

        Args:
            images: [3, Hi, Wi] each, uint8 or float in [0, 1].
            targets: their objects.
            decay: d(t); 0 leaves the teacher out.
        """
        student, teacher = self.student, self.teacher if decay else None
        batch = student.prepare(images, targets)
        features = student.extract_features(batch)
        anchor_outputs = student.score_anchors(batch, features)
        anchor_losses, anchors = student.anchor_losses(batch, anchor_outputs)
        regions = student.sample_regions(batch, student.propose(batch, anchor_outputs))
        outputs = student.predict(batch, features, regions)
        detection = student.detection_losses(outputs, regions) | anchor_losses
        if teacher is None:
            return self._combine(detection, _Compared(), 0.0)
        own = _StudentPass(features, anchor_outputs, anchors, regions, outputs)
        return self._combine(detection, self._distillation(teacher, batch, own), decay)

    def _distillation(self, teacher: Teacher, batch: Batch, own: _StudentPass) -> _Compared:
        """Return the raw terms that have a weight, and their gates."""
        found = _Compared()
        # Where the sizes of what follows are read from the device, before the teacher's work is queued there.
        shared = self._carrying(own.regions) if self._uses_heads and self._source != "teacher" else None
        seen = teacher.look(batch, with_proposals=self._uses_heads and self._source != "student")
        if self.weights["feature"]:
            found.terms["feature"] = self._feature_term(batch, own.features, seen.features)
        if self._uses_heads:
            found.add(self._head_terms(teacher, batch, own, seen, shared))
        if self.weights["rpn"]:
            found.add(self._rpn_term(teacher, own, seen))
        return found

    @property
    def _uses_heads(self) -> bool:
        return self.weights["classification"] > 0 or self.weights["regression"] > 0

    @property
    def _compares_background(self) -> bool:
        """Whether the class term may count background regions too."""
        return self._config.classification.gate in ("all", "teacher_better_all")

    @property
    def _source(self) -> str:
        return self._config.regions.source

    def _feature_term(self, batch: Batch, own: Features, theirs: Features) -> Tensor:
        """METHOD section 3: the masked distance, averaged over the pyramid levels."""
        settings = self._config.feature
        objects, background = feature_masks(batch, list(own.values()), settings, self.student.assign_levels)
        scale_free = settings.normalization == "teacher_variance"
        losses = []
        for number, (level, student_map) in enumerate(own.items()):
            teacher_map = theirs[_matching_level(level, student_map, theirs)]
            adapted = self.adapters[level](student_map)
            loss = feature_loss(adapted, teacher_map, objects[number], scale_free)
            if background is not None:
                outside = feature_loss(adapted, teacher_map, background[number], scale_free)
                loss = loss + settings.background_weight * outside
            losses.append(loss)
        return torch.stack(losses).mean()

    def _carrying(self, regions: Regions) -> _Shared:
        """Choose the regions that the teacher's head has to answer at all."""
        if self._compares_background and self.weights["classification"]:
            return _Shared(regions, torch.arange(len(regions.labels), device=regions.labels.device))
        return _Shared(*regions.select(regions.foreground))

    def _head_terms(
        self, teacher: Teacher, batch: Batch, own: _StudentPass, seen: TeacherPass, shared: _Shared | None
    ) -> _Compared:
        """METHOD sections 2, 4 and 5: both heads on the shared regions; one normaliser over all of them."""
        sets: list[tuple[Regions, HeadOutputs]] = []
        if shared is not None:
            sets.append((shared.regions, own.outputs.select(shared.rows)))
        if seen.proposals is not None:
            theirs = self._carrying(teacher.sample_regions(batch, seen.proposals)).regions
            sets.append((theirs, self.student.predict(batch, own.features, theirs)))
        regions, outputs = sets[0]
        if len(sets) == 2:  # one set of both: one pass of the teacher's head
            regions, order = regions.join(sets[1][0])
            outputs = outputs.join(sets[1][1], order)
        answers = teacher.answer(batch, seen.features, regions)
        compared = self._compare_heads(regions, outputs, answers)
        num_foreground = regions.foreground.sum()
        found = _Compared()
        for name, gate_name in (("classification", "class_open"), ("regression", "box_open")):
            if self.weights[name]:
                found.terms[name] = gated_loss(compared[name], compared[gate_name], num_foreground)
                on_foreground = regions.foreground & compared[gate_name]
                found.gates[gate_name] = Gate(on_foreground.sum(), num_foreground)
        if self.measures_quality:
            for who, said in (("student", outputs), ("teacher", answers)):
                quality = answer_quality(said, regions, self.student.decode_region_boxes)
                found.quality.update({f"{who}_{name}": value for name, value in quality.items()})
        return found

    def _compare_heads(self, regions: Regions, student: HeadOutputs, teacher: HeadOutputs) -> dict[str, Tensor]:
        """Return divergence and gate of every region and level, [R] each."""
        settings = self._config.classification
        if settings.divergence == "bce":
            divergence = bce_divergence(student.class_logits, teacher.class_logits)
        else:
            divergence = kl_divergence(student.class_logits, teacher.class_logits, settings.temperature)
        class_open = torch.ones_like(regions.foreground) if self._compares_background else regions.foreground
        if settings.gate in ("teacher_better", "teacher_better_all"):
            class_open = class_open & teacher_better_gate(student.class_logits, teacher.class_logits, regions.labels)
        student_deltas = student.true_class_deltas(regions.labels)
        teacher_deltas = teacher.true_class_deltas(regions.labels)
        boxes = torch.cat(regions.boxes)
        decode = self.student.decode_region_boxes
        box_open = regions.foreground & _box_gate(
            self._config.regression.reference,
            decode(student_deltas.detach().float(), boxes),
            decode(teacher_deltas.float(), boxes),
            boxes,
            regions.gt_boxes,
        )
        return {
            "classification": divergence,
            "class_open": class_open,
            "regression": delta_distance(student_deltas, teacher_deltas),
            "box_open": box_open,
        }

    def _rpn_term(self, teacher: Teacher, own: _StudentPass, seen: TeacherPass) -> _Compared:
        """METHOD section 6: objectness and deltas on the foreground anchors that the student's RPN sampled."""
        settings, sample = self._config.rpn, own.anchors
        if teacher.num_anchors(seen) != len(own.anchor_outputs.objectness):
            raise UserError(
                "rpn.weight: teacher and student must have the same anchors, got "
                f"{teacher.num_anchors(seen)} and {len(own.anchor_outputs.objectness)} on this batch; set rpn.weight=0"
            )
        answers = teacher.answer_anchors(seen, sample.indices)
        objectness, teacher_objectness = own.anchor_outputs.objectness[sample.indices], answers.objectness
        surer = objectness_gate(objectness, teacher_objectness)
        objectness_open = surer if settings.gate == "teacher_better" else torch.ones_like(surer)
        deltas = own.anchor_outputs.deltas[sample.indices]
        teacher_deltas = answers.deltas
        decode = self.student.decode_anchor_boxes
        box_open = _box_gate(
            settings.reference,
            decode(deltas.detach().float(), sample.anchors),
            decode(teacher_deltas.float(), sample.anchors),
            sample.anchors,
            sample.gt_boxes,
        )
        num_foreground = torch.tensor(len(sample.indices), device=objectness.device)
        loss = gated_loss(
            objectness_divergence(objectness, teacher_objectness), objectness_open, num_foreground
        ) + gated_loss(delta_distance(deltas, teacher_deltas), box_open, num_foreground)
        gates = {
            "rpn_objectness_open": Gate(objectness_open.sum(), num_foreground),
            "rpn_box_open": Gate(box_open.sum(), num_foreground),
        }
        return _Compared({"rpn": loss}, gates)

    def _combine(self, detection: LossDict, compared: _Compared, decay: float) -> StepLosses:
        """METHOD section 7: the only place where weights and decay multiply."""
        terms = compared.terms
        weighted = {name: decay * self.weights[name] * term for name, term in terms.items()}
        detection_total = torch.stack([loss.float() for loss in detection.values()]).sum()
        total = detection_total
        for loss in weighted.values():
            total = total + loss
        if not terms:
            for parameter in self.adapters.parameters():  # DDP waits for every parameter's gradient
                total = total + 0.0 * parameter.sum()
        metrics = {"total": total, "detection/total": detection_total}
        metrics |= {f"detection/{name}": loss for name, loss in detection.items()}
        metrics |= {f"distillation/{name}": loss for name, loss in terms.items()}
        metrics |= {f"weighted/{name}": loss for name, loss in weighted.items()}
        detached = {name: loss.detach() for name, loss in metrics.items()}
        return StepLosses(total, detection_total, weighted, detached, compared.gates, compared.quality)


def _box_gate(reference: str, student: Tensor, teacher: Tensor, undecoded: Tensor, gt_boxes: Tensor) -> Tensor:
    """Return where the teacher's box beats the reference's, [R] bool; all boxes are [R, 4]."""
    if reference == "none":
        return torch.ones(len(gt_boxes), dtype=torch.bool, device=gt_boxes.device)
    return closer_gate(teacher, student if reference == "student" else undecoded, gt_boxes)


def _matching_level(level: str, student_map: Tensor, teacher: Features) -> str:
    """Return the teacher's level of the student's size: the one of that name if it fits, else the coarsest."""
    fitting = [name for name, features in teacher.items() if features.shape[2:] == student_map.shape[2:]]
    if not fitting:
        sizes = {name: list(features.shape[2:]) for name, features in teacher.items()}
        raise UserError(
            f"feature.weight: every pyramid level of the student needs one of the teacher's of the same size, got none "
            f"for level {level} of {list(student_map.shape[2:])} cells among {sizes}; change returned_layers or set "
            "feature.weight=0"
        )
    return level if level in fitting else fitting[-1]
