"""The loop that one would write by hand: the same terms with torchvision's modules, eager, no framework.

It is what the framework is compared with: on the same images, weights and random numbers it gives the same losses.
Written for the default gates, masks and divergence. The teacher is asked in the same precision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import fastrcnn_loss
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.ops import box_iou
from torchvision.transforms.v2.functional import to_dtype

from raydistill.config.methods import Tar
from raydistill.config.precision import Precision
from raydistill.config.sections import Config
from raydistill.detectors.teacher import DTYPES
from raydistill.structures import Features, Target

_BETA = 1 / 9
_KNOWN = {"feature.adapter", "feature.weight", "classification.weight", "regression.weight", "rpn.weight"}


def term_weights(config: Config) -> dict[str, float]:
    """Return the weight of each distillation term."""
    return {name: term.weight for name, term in config.terms.items()}


def tar_settings(config: Config) -> Tar:
    """Return the settings of the method that is written by hand below; its defaults where it does not run."""
    return config.methods.tar or Tar()


def unknown_setting(config: Config) -> str:
    """Name a setting that asks for more than the loop below does, or return nothing."""
    for name, weight in term_weights(config).items():
        if not weight:
            continue
        method, _, term = name.partition(".")
        if method != "tar" or f"{term}.weight" not in _KNOWN:
            return f"methods.{name}.weight"
        section = config.terms[name]
        for key, field in type(section).model_fields.items():
            if getattr(section, key) != field.default and f"{term}.{key}" not in _KNOWN:
                return f"methods.{name}.{key}"
    return ""


@dataclass(frozen=True)
class Nets:
    """What takes part in a step."""

    student: FasterRCNN  # in training mode
    teacher: FasterRCNN  # in eval mode
    adapters: nn.ModuleDict  # from student to teacher channels, by the student's pyramid level
    precision: Precision = "fp32"  # of the teacher

    def asking(self, device: torch.device) -> torch.autocast:
        """Return the context in which the teacher is asked."""
        half = self.precision != "fp32"
        return torch.autocast(device.type, DTYPES[self.precision] if half else None, enabled=half)


@dataclass(frozen=True)
class _Anchors:
    objectness: Tensor  # [A]
    deltas: Tensor  # [A, 4]
    anchors: list[Tensor]  # per image
    proposals: list[Tensor]


@dataclass(frozen=True)
class _Samples:
    boxes: list[Tensor]  # per image [Ri, 4]
    gt_boxes: list[Tensor]  # likewise
    classes: list[Tensor]  # per image [Ri]
    logits: Tensor  # [R, C], the student's
    deltas: Tensor  # [R, 4 C], likewise


def handwritten_loss(nets: Nets, config: Config, images: list[Tensor], targets: Any) -> Tensor:
    """Return the total loss of one step with decay 1.

    Args:
        nets: both nets and the adapters.
        config: for the weights and ``methods.tar.regions.source``.
        images: uint8 [3, H, W] each.
        targets: their objects.
    """
    student, teacher = nets.student, nets.teacher
    batch, targets = student.transform([to_dtype(image, torch.float32, scale=True) for image in images], targets)
    features = student.backbone(batch.tensors)
    tar = tar_settings(config)
    own = _propose(student, batch, features)
    positive, gt_boxes, total = _rpn_losses(student, own, targets)
    samples, detection = _roi_losses(student, batch, features, own.proposals, targets)
    total = total + detection
    with torch.no_grad(), nets.asking(batch.tensors.device):
        teacher_features = teacher.backbone(batch.tensors)
        theirs = _propose(teacher, batch, teacher_features)
    if tar.feature.weight:
        feature_term = _feature_term(features, teacher_features, nets.adapters, batch, targets)
        total = total + tar.feature.weight * feature_term
    if tar.classification.weight or tar.regression.weight:
        shared = [samples] if tar.regions.source != "teacher" else []
        if tar.regions.source != "student":
            shared.append(_teachers_samples(nets, batch, features, theirs.proposals, targets))
        class_term, box_term = _head_terms(nets, batch, teacher_features, shared)
        total = total + tar.classification.weight * class_term + tar.regression.weight * box_term
    if tar.rpn.weight:
        total = total + tar.rpn.weight * _rpn_term(student, own, theirs, positive, gt_boxes)
    return total


def _propose(model: FasterRCNN, batch: ImageList, features: Features) -> _Anchors:
    rpn, levels = model.rpn, list(features.values())
    objectness, deltas = rpn.head(levels)
    per_level = [scores[0].numel() for scores in objectness]
    anchors = rpn.anchor_generator(batch, [level.float() for level in levels])  # it computes in the levels' type
    objectness, deltas = concat_box_prediction_layers(objectness, deltas)
    boxes = rpn.box_coder.decode(deltas.detach().float(), anchors).view(len(anchors), -1, 4)
    proposals, _ = rpn.filter_proposals(boxes, objectness, batch.image_sizes, per_level)
    return _Anchors(objectness.flatten(), deltas, anchors, proposals)


def _rpn_losses(model: FasterRCNN, own: _Anchors, targets: list[Target]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the sampled foreground, its objects, and the loss of the RPN."""
    rpn = model.rpn
    labels, matched = rpn.assign_targets_to_anchors(own.anchors, targets)
    wanted = torch.cat(rpn.box_coder.encode(matched, own.anchors))
    positives, negatives = rpn.fg_bg_sampler(labels)
    positive, negative = torch.where(torch.cat(positives))[0], torch.where(torch.cat(negatives))[0]
    sampled = torch.cat([positive, negative])
    box_loss = F.smooth_l1_loss(own.deltas[positive], wanted[positive], beta=_BETA, reduction="sum") / len(sampled)
    loss = F.binary_cross_entropy_with_logits(own.objectness[sampled], torch.cat(labels)[sampled])
    return positive, torch.cat(matched)[positive], box_loss + loss


def _sample(model: FasterRCNN, proposals: list[Tensor], targets: list[Target]) -> tuple[Any, Any, Any, Any]:
    boxes, matches, classes, wanted = model.roi_heads.select_training_samples(list(proposals), targets)
    gt_boxes = [
        target["boxes"][match] if len(target["boxes"]) else torch.zeros_like(region)
        for target, match, region in zip(targets, matches, boxes, strict=True)
    ]
    return boxes, gt_boxes, classes, wanted


def _heads(model: FasterRCNN, batch: ImageList, features: Features, boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
    heads = model.roi_heads
    logits, deltas = heads.box_predictor(heads.box_head(heads.box_roi_pool(features, boxes, batch.image_sizes)))
    return logits, deltas


def _roi_losses(
    model: FasterRCNN, batch: ImageList, features: Features, proposals: list[Tensor], targets: list[Target]
) -> tuple[_Samples, Tensor]:
    boxes, gt_boxes, classes, wanted = _sample(model, proposals, targets)
    logits, deltas = _heads(model, batch, features, boxes)
    class_loss, box_loss = fastrcnn_loss(logits, deltas, classes, wanted)
    return _Samples(boxes, gt_boxes, classes, logits, deltas), class_loss + box_loss


def _teachers_samples(
    nets: Nets, batch: ImageList, features: Features, proposals: list[Tensor], targets: list[Target]
) -> _Samples:
    """Sample the teacher's proposals and let the student answer the foreground among them."""
    boxes, gt_boxes, classes, _ = _sample(nets.teacher, proposals, targets)
    foreground = [labels > 0 for labels in classes]
    boxes, gt_boxes, classes = (
        [values[keep] for values, keep in zip(lists, foreground, strict=True)] for lists in (boxes, gt_boxes, classes)
    )
    return _Samples(boxes, gt_boxes, classes, *_heads(nets.student, batch, features, boxes))


def _feature_term(
    features: Features, teacher_features: Features, adapters: nn.ModuleDict, batch: ImageList, targets: list[Target]
) -> Tensor:
    losses = []
    for level, own in features.items():
        rows, columns = own.shape[2:]
        mask = torch.zeros(len(targets), rows, columns, device=own.device)
        y_step, x_step = batch.tensors.shape[2] / rows, batch.tensors.shape[3] / columns
        y = (torch.arange(rows, device=own.device) + 0.5) * y_step
        x = (torch.arange(columns, device=own.device) + 0.5) * x_step
        for number, target in enumerate(targets):
            for x1, y1, x2, y2 in target["boxes"]:
                profile = _profile(y, y1, y2, y_step)[:, None] * _profile(x, x1, x2, x_step)[None, :]
                mask[number] = torch.maximum(mask[number], profile)
        distance = (adapters[level](own) - _same_size(level, own, teacher_features)).pow(2).mean(dim=1) / 2
        losses.append((mask * distance).sum() / mask.sum().clamp(min=1))
    return torch.stack(losses).mean()


def _same_size(level: str, own: Tensor, teacher_features: Features) -> Tensor:
    """Return the teacher's map of the student's size: the level of that name where it fits, else the coarsest."""
    fitting = {name: theirs.float() for name, theirs in teacher_features.items() if theirs.shape[2:] == own.shape[2:]}
    return fitting.get(level, [*fitting.values()][-1])


def _profile(centers: Tensor, low: Tensor, high: Tensor, step: float) -> Tensor:
    middle, half = (low + high) / 2, (high - low) / 2
    if high - low < step:
        cell = (middle / step).floor().clamp(0, len(centers) - 1)
        return (torch.arange(len(centers), device=centers.device) == cell).float()
    return torch.exp(-(((centers - middle) / half) ** 2) / 2) * ((centers >= low) & (centers <= high))


def _head_terms(
    nets: Nets, batch: ImageList, teacher_features: Features, shared: list[_Samples]
) -> tuple[Tensor, Tensor]:
    teacher = nets.teacher
    class_sums, box_sums, count = [], [], 0
    for samples in shared:
        labels = torch.cat(samples.classes)
        keep = labels > 0
        boxes = [region[own > 0] for region, own in zip(samples.boxes, samples.classes, strict=True)]
        with torch.no_grad(), nets.asking(batch.tensors.device):
            teacher_logits, teacher_deltas = (said.float() for said in _heads(teacher, batch, teacher_features, boxes))
        labels, logits, flat = labels[keep], samples.logits[keep], torch.cat(boxes)
        gt_boxes = torch.cat(samples.gt_boxes)[keep]
        rows = torch.arange(len(labels), device=labels.device)
        deltas = samples.deltas[keep].view(len(labels), -1, 4)[rows, labels]
        teacher_deltas = teacher_deltas.view(len(labels), -1, 4)[rows, labels]
        p, q = logits.softmax(dim=1), teacher_logits.softmax(dim=1)
        better = q[rows, labels] > p[rows, labels]
        divergence = F.binary_cross_entropy(p, q, reduction="none") - F.binary_cross_entropy(q, q, reduction="none")
        class_sums.append((divergence.sum(dim=1) * better).sum())
        decode = teacher.roi_heads.box_coder.decode_single
        closer = _closer(decode(teacher_deltas, flat), decode(deltas.detach(), flat), gt_boxes)
        distance = F.smooth_l1_loss(deltas, teacher_deltas, beta=_BETA, reduction="none").sum(dim=1)
        box_sums.append((distance * closer).sum())
        count += len(labels)
    return torch.stack(class_sums).sum() / max(1, count), torch.stack(box_sums).sum() / max(1, count)


def _rpn_term(model: FasterRCNN, own: _Anchors, theirs: _Anchors, positive: Tensor, gt_boxes: Tensor) -> Tensor:
    objectness, teacher_objectness = own.objectness[positive], theirs.objectness[positive].float()
    deltas, teacher_deltas = own.deltas[positive], theirs.deltas[positive].float()
    q = teacher_objectness.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(teacher_objectness, q, reduction="none")
    divergence = F.binary_cross_entropy_with_logits(objectness, q, reduction="none") - entropy
    decode, anchors = model.rpn.box_coder.decode_single, torch.cat(own.anchors)[positive]
    closer = _closer(decode(teacher_deltas, anchors), decode(deltas.detach(), anchors), gt_boxes)
    distance = F.smooth_l1_loss(deltas, teacher_deltas, beta=_BETA, reduction="none").sum(dim=1)
    total = (divergence * (teacher_objectness > objectness)).sum() + (distance * closer).sum()
    return total / max(1, len(positive))


def _closer(teacher_boxes: Tensor, student_boxes: Tensor, gt_boxes: Tensor) -> Tensor:
    closer: Tensor = box_iou(teacher_boxes, gt_boxes).diagonal() > box_iou(student_boxes, gt_boxes).diagonal()
    return closer
