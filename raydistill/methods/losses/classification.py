"""The classification head level: gate and divergences (METHOD section 4), and the same for objectness (section 6)."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from raydistill.methods.losses.precision import lifted
from raydistill.methods.losses.reduction import normalized_sum

_LARGEST = 1e4  # stands in for infinity where a difference of two infinities would be NaN


def teacher_better_gate(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """Return where the teacher gives the true class a higher probability than the student, [R] bool, no gradient.

    Args:
        student_logits: [R, C].
        teacher_logits: [R, C].
        labels: true classes [R].
    """
    index = labels.unsqueeze(1)
    student = lifted(student_logits.detach()).log_softmax(dim=1).gather(1, index)
    teacher = lifted(teacher_logits).log_softmax(dim=1).gather(1, index)
    return (teacher > student).squeeze(1)


def bce_divergence(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return the binary cross-entropy between class probabilities less the teacher's entropy, summed over classes, [R].

    The entropy does not depend on the student, so gradients are those of the cross-entropy alone; without it the term
    is 0 where both agree and its size says how much there is left to learn. Both logits are [R, C].
    """
    teacher, not_teacher = _log_probabilities(lifted(teacher_logits))
    student, not_student = _log_probabilities(lifted(student_logits))
    divergence = teacher.exp() * (teacher - student) + not_teacher.exp() * (not_teacher - not_student)
    return divergence.sum(dim=1)


def kl_divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(teacher || student) of the softened distributions, [R] (Hinton et al. 2015); logits are [R, C]."""
    student = (lifted(student_logits) / temperature).log_softmax(dim=1)
    teacher = (lifted(teacher_logits) / temperature).log_softmax(dim=1)
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=1) * temperature**2


def objectness_gate(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return where the teacher is surer of an object than the student, [F] bool, no gradient; logits are [F]."""
    return teacher_logits > student_logits.detach()


def objectness_divergence(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return the binary cross-entropy of the objectness less the teacher's entropy, [F]; logits are [F]."""
    student_logits, teacher_logits = lifted(student_logits), lifted(teacher_logits)
    probability = teacher_logits.sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(student_logits, probability, reduction="none")
    return cross_entropy - F.binary_cross_entropy_with_logits(teacher_logits, probability, reduction="none")


def gated_loss(divergence: Tensor, gate: Tensor, num_foreground: Tensor) -> Tensor:
    """Return sum g D / max(1, number of foreground regions), a scalar; no region gives an attached 0."""
    return normalized_sum(divergence, gate.to(divergence.dtype), num_foreground)


def _log_probabilities(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return log p and log(1 - p) of every class [R, C], finite and exact for extreme logits.

    1 - p of the likeliest class is the sum of the others; every other p is at most 1/2, where log1p is exact.
    """
    log_p = logits.log_softmax(dim=1)
    top = logits.argmax(dim=1, keepdim=True)
    is_top = torch.zeros_like(logits, dtype=torch.bool).scatter(1, top, True)
    of_top = logits.masked_fill(is_top, -torch.inf).logsumexp(dim=1, keepdim=True) - logits.logsumexp(
        dim=1, keepdim=True
    )
    of_others = torch.log1p(-log_p.masked_fill(is_top, -1.0).exp())
    return log_p.clamp(min=-_LARGEST), torch.where(is_top, of_top, of_others).clamp(min=-_LARGEST)
