"""What is found out about a teacher that is only scored."""

from __future__ import annotations

from typing import Any

from raydistill.inference.confusion import without_classes
from raydistill.inference.evaluation import EvaluationResult
from raydistill.runs.weak_teacher import CALLED, CLASSES_KNOWN, WITHOUT_CLASSES, is_next_to_nothing
from raydistill.training.job import Job


def findings(job: Job, evaluation: EvaluationResult, classes_known: bool) -> dict[str, Any]:
    """Return what is known of a given teacher's classes, for its result; more where it scores next to nothing.

    Args:
        job: the teacher's.
        evaluation: on the validation split, of the main worker.
        classes_known: whether its file names its classes.
    """
    known: dict[str, Any] = {CLASSES_KNOWN: classes_known}
    if is_next_to_nothing(evaluation.scores.summary):
        found = without_classes(job.val, evaluation.found, job.config.evaluation.backend)
        known |= {WITHOUT_CLASSES: found.ap50, CALLED: dict(found.called)}
    return known
