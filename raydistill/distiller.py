"""One forward pass: the student's detection losses plus the distillation terms of METHOD sections 2 to 7."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from raydistill.boxes import box_masks, image_mask
from raydistill.config.sections import Config
from raydistill.detectors.base import Detector
from raydistill.errors import UserError
from raydistill.losses.classification import (
    bce_divergence,
    gated_loss,
    kl_divergence,
    objectness_divergence,
    objectness_gate,
    teacher_better_gate,
)
from raydistill.losses.feature import feature_loss
from raydistill.losses.regression import closer_gate, delta_distance
from raydistill.structures import (
    AnchorOutputs,
    AnchorSample,
    Batch,
    Features,
    Gate,
    HeadOutputs,
    LossDict,
    Regions,
    StepLosses,
    Target,
)


@dataclass(frozen=True)
class _StudentPass:
    """What the student's own training step leaves for the comparison."""

    features: Features
    anchor_outputs: AnchorOutputs
    anchors: AnchorSample
    regions: Regions
    outputs: HeadOutputs


@dataclass(frozen=True)
class TeacherPass:
    """What the teacher makes of a batch, without gradient; several students could be compared with it."""

    features: Features
    anchor_outputs: AnchorOutputs | None
    regions: Regions | None  # sampled from its own proposals


class Distiller(nn.Module):
    """Student, adapters and frozen teacher; DDP wraps this.

    The teacher is no submodule: it is not trained, not saved and not switched to training mode with the student.
    """

    def __init__(self, student: Detector, teacher: Detector | None, config: Config) -> None:
        super().__init__()
        self.student = student
        self.adapters = nn.ModuleDict()
        self.weights = {
            "feature": config.feature.weight,
            "classification": config.classification.weight,
            "regression": config.regression.weight,
            "rpn": config.rpn.weight,
        }
        self._config = config
        self._teacher: tuple[Detector, ...] = ()
        if teacher is not None and config.distills:
            self._teacher = (teacher.eval().requires_grad_(False),)
            if config.feature.weight:
                self.adapters.update({level: self._adapter(student, teacher) for level in student.feature_levels})

    @property
    def distills(self) -> bool:
        """Whether there is a teacher to learn from."""
        return bool(self._teacher)

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
        student = self.student
        batch = student.prepare(images, targets)
        features = student.extract_features(batch)
        anchor_outputs = student.score_anchors(batch, features)
        anchor_losses, anchors = student.anchor_losses(batch, anchor_outputs)
        regions = student.sample_regions(batch, student.propose(batch, anchor_outputs))
        outputs = student.predict(batch, features, regions)
        detection = student.detection_losses(outputs, regions) | anchor_losses
        if not self._teacher or decay == 0:
            return self._combine(detection, {}, {}, 0.0)
        own = _StudentPass(features, anchor_outputs, anchors, regions, outputs)
        terms, gates = self._distillation(batch, own, self._ask_teacher(batch))
        return self._combine(detection, terms, gates, decay)

    @torch.no_grad()
    def _ask_teacher(self, batch: Batch) -> TeacherPass:
        """Run the teacher as far as the terms need it."""
        (teacher,) = self._teacher
        features = teacher.extract_features(batch)
        own_regions = self._uses_heads and self._config.regions.source != "student"
        if not (own_regions or self.weights["rpn"]):
            return TeacherPass(features, None, None)
        anchor_outputs = teacher.score_anchors(batch, features)
        regions = teacher.sample_regions(batch, teacher.propose(batch, anchor_outputs)) if own_regions else None
        return TeacherPass(features, anchor_outputs, regions)

    def _distillation(self, batch: Batch, own: _StudentPass, teacher: TeacherPass) -> tuple[LossDict, dict[str, Gate]]:
        """Return the raw terms that have a weight, and their gates."""
        terms: LossDict = {}
        gates: dict[str, Gate] = {}
        if self.weights["feature"]:
            terms["feature"] = self._feature_term(batch, own.features, teacher.features)
        if self._uses_heads:
            head_terms, head_gates = self._head_terms(batch, own, teacher)
            terms |= head_terms
            gates |= head_gates
        if self.weights["rpn"] and teacher.anchor_outputs is not None:
            terms["rpn"], rpn_gates = self._rpn_term(own, teacher.anchor_outputs)
            gates |= rpn_gates
        return terms, gates

    @property
    def _uses_heads(self) -> bool:
        return self.weights["classification"] > 0 or self.weights["regression"] > 0

    def _feature_term(self, batch: Batch, own: Features, theirs: Features) -> Tensor:
        """METHOD section 3: the masked distance, averaged over the pyramid levels."""
        settings = self._config.feature
        boxes = torch.cat([target["boxes"] for target in batch.targets])
        image_indices = _image_indices(batch.targets, boxes.device)
        box_levels = self.student.assign_levels(boxes) if settings.levels == "assigned" else None
        losses = []
        for number, (level, student_map) in enumerate(own.items()):
            teacher_map = theirs[_matching_level(level, student_map, theirs)]
            chosen = slice(None) if box_levels is None else box_levels == number
            masks = self._masks(batch, boxes[chosen], image_indices[chosen], student_map)
            adapted = self.adapters[level](student_map)
            scale_free = settings.normalization == "teacher_variance"
            loss = feature_loss(adapted, teacher_map, masks[0], scale_free)
            if settings.background_weight:
                background = feature_loss(adapted, teacher_map, masks[1], scale_free)
                loss = loss + settings.background_weight * background
            losses.append(loss)
        return torch.stack(losses).mean()

    def _masks(self, batch: Batch, boxes: Tensor, image_indices: Tensor, feature_map: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mask of the objects and that of the background of one level, [N, h, w] each."""
        settings = self._config.feature
        cells = (feature_map.shape[2], feature_map.shape[3])
        stride = (batch.images.shape[2] / cells[0], batch.images.shape[3] / cells[1])
        if settings.mask == "full":
            inside = image_mask(batch.image_sizes, cells, stride).to(feature_map.device)
            return inside, torch.zeros_like(inside)
        num_images = len(batch.targets)
        of_boxes = box_masks(boxes, image_indices, num_images, cells, stride, settings.mask, settings.sigma_squared)
        if not settings.background_weight:
            return of_boxes, torch.zeros_like(of_boxes)
        inside = image_mask(batch.image_sizes, cells, stride).to(feature_map.device)
        covered = box_masks(boxes, image_indices, num_images, cells, stride, "box", settings.sigma_squared)
        return of_boxes, inside * (1 - covered)

    def _head_terms(self, batch: Batch, own: _StudentPass, teacher: TeacherPass) -> tuple[LossDict, dict[str, Gate]]:
        """METHOD sections 2, 4 and 5: both heads on the shared regions; one normaliser over all of them."""
        source = self._config.regions.source
        shared: list[tuple[Regions, HeadOutputs]] = []
        if source in ("student", "both"):
            keep = self._carries_a_term(own.regions)
            shared.append((own.regions.select(keep), own.outputs.select(keep)))
        if teacher.regions is not None:
            regions = teacher.regions.select(self._carries_a_term(teacher.regions))
            shared.append((regions, self.student.predict(batch, own.features, regions)))
        comparisons = [
            self._compare_heads(regions, outputs, self._ask_head(batch, teacher.features, regions))
            for regions, outputs in shared
        ]
        merged = {name: torch.cat([comparison[name] for comparison in comparisons]) for name in comparisons[0]}
        num_foreground = torch.stack([regions.foreground.sum() for regions, _ in shared]).sum()
        terms = {}
        gates = {}
        for name, gate_name in (("classification", "class_open"), ("regression", "box_open")):
            if self.weights[name]:
                terms[name] = gated_loss(merged[name], merged[gate_name], num_foreground)
                on_foreground = merged["foreground"] & merged[gate_name]
                gates[gate_name] = Gate(on_foreground.sum(), num_foreground)
        return terms, gates

    def _carries_a_term(self, regions: Regions) -> Tensor:
        """Return which regions the teacher's head has to answer at all, [R] bool."""
        if self._config.classification.gate == "all" and self.weights["classification"]:
            return torch.ones_like(regions.foreground)
        return regions.foreground

    @torch.no_grad()
    def _ask_head(self, batch: Batch, features: Features, regions: Regions) -> HeadOutputs:
        (teacher,) = self._teacher
        return teacher.predict(batch, features, regions)

    def _compare_heads(self, regions: Regions, student: HeadOutputs, teacher: HeadOutputs) -> dict[str, Tensor]:
        """Return divergence and gate of every region and level, [R] each."""
        settings = self._config.classification
        if settings.divergence == "bce":
            divergence = bce_divergence(student.class_logits, teacher.class_logits)
        else:
            divergence = kl_divergence(student.class_logits, teacher.class_logits, settings.temperature)
        if settings.gate == "all":
            class_open = torch.ones_like(regions.foreground)
        elif settings.gate == "foreground":
            class_open = regions.foreground
        else:
            better = teacher_better_gate(student.class_logits, teacher.class_logits, regions.labels)
            class_open = regions.foreground & better
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
            "foreground": regions.foreground,
            "classification": divergence,
            "class_open": class_open,
            "regression": delta_distance(student_deltas, teacher_deltas),
            "box_open": box_open,
        }

    def _rpn_term(self, own: _StudentPass, teacher: AnchorOutputs) -> tuple[Tensor, dict[str, Gate]]:
        """METHOD section 6: objectness and deltas on the foreground anchors that the student's RPN sampled."""
        settings, sample = self._config.rpn, own.anchors
        if teacher.objectness.shape != own.anchor_outputs.objectness.shape:
            raise UserError(
                "rpn.weight: teacher and student must have the same anchors, got "
                f"{len(teacher.objectness)} and {len(own.anchor_outputs.objectness)} on this batch; set rpn.weight=0"
            )
        objectness = own.anchor_outputs.objectness[sample.indices]
        teacher_objectness = teacher.objectness[sample.indices]
        surer = objectness_gate(objectness, teacher_objectness)
        objectness_open = surer if settings.gate == "teacher_better" else torch.ones_like(surer)
        deltas = own.anchor_outputs.deltas[sample.indices]
        teacher_deltas = teacher.deltas[sample.indices]
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
        return loss, {
            "rpn_objectness_open": Gate(objectness_open.sum(), num_foreground),
            "rpn_box_open": Gate(box_open.sum(), num_foreground),
        }

    def _combine(self, detection: LossDict, terms: LossDict, gates: dict[str, Gate], decay: float) -> StepLosses:
        """METHOD section 7: the only place where weights and decay multiply."""
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
        return StepLosses(total, {name: loss.detach() for name, loss in metrics.items()}, gates)


def _box_gate(reference: str, student: Tensor, teacher: Tensor, undecoded: Tensor, gt_boxes: Tensor) -> Tensor:
    """Return where the teacher's box beats the reference's, [R] bool; all boxes are [R, 4]."""
    if reference == "none":
        return torch.ones(len(gt_boxes), dtype=torch.bool, device=gt_boxes.device)
    return closer_gate(teacher, student if reference == "student" else undecoded, gt_boxes)


def _image_indices(targets: list[Target], device: torch.device) -> Tensor:
    counts = torch.tensor([len(target["boxes"]) for target in targets], device=device)
    return torch.arange(len(targets), device=device).repeat_interleave(counts)


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
