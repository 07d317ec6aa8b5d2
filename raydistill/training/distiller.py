"""One forward pass: the student's detection losses, and what the methods make of student and teacher."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from raydistill.config.asking import asks_by_image
from raydistill.config.course import at_epoch, largest_weights, with_settings
from raydistill.config.precision import Precision
from raydistill.config.sections import Config
from raydistill.detectors.base import Detector, ParameterGroup, groups_by_dimension
from raydistill.detectors.kept.by_image import Answering
from raydistill.detectors.teacher import Teacher
from raydistill.methods.base import Compared, Method
from raydistill.methods.catalogue import build_methods
from raydistill.methods.values import StepLosses, metric_path
from raydistill.structures import LossDict, Target


class Distiller(nn.Module):
    """Student, methods with what they train, and frozen teacher; DDP wraps this.

    The teacher is no submodule: it is not trained, not saved and not switched to training mode with the student.
    """

    def __init__(
        self, student: Detector, teacher: Detector | None, config: Config, precision: Precision = "fp32"
    ) -> None:
        """Take a student, and a teacher that is asked in ``precision``.

        Raises:
            UserError: where one of them cannot do what a method needs.
        """
        super().__init__()
        self.student = student
        self.methods = nn.ModuleDict()
        self.weights: dict[str, float] = {}
        self._largest_weights = largest_weights(config)
        self.teacher: Teacher | None = None
        self.precision: Precision | None = None
        if teacher is not None and config.distills:
            answering = Answering(half=config.teacher.cache_half) if asks_by_image(config) else None
            self.teacher = Teacher(teacher, precision, student.normalization, answering)
            self.precision = precision
            self.methods.update(build_methods(self._with_all_terms(config), student, teacher))
            if answering is not None:
                narrow = all(method.reads_objects_only for method in self._all_methods())
                answering.objects_only = narrow and not config.schedule
        self.follow(at_epoch(config, 0))

    def follow(self, config: Config) -> None:
        """Go on with the weights, and what else may change on the way, of ``config``."""
        self.weights = {name: term.weight for name, term in config.terms.items()}
        settings = self._with_all_terms(config).methods.named()
        for name, method in self.methods.items():
            assert isinstance(method, Method)
            method.follow(settings[name])

    def _with_all_terms(self, config: Config) -> Config:
        """Return ``config`` with a weight for every term that ever has one: what they train is there from the start."""
        return with_settings(config, self._largest_weights) if config.schedule else config

    @property
    def distills(self) -> bool:
        """Whether there is a teacher to learn from."""
        return self.teacher is not None

    @property
    def measures_quality(self) -> bool:
        """Whether the methods say how good both nets' answers are."""
        return any(method.measures_quality for method in self._all_methods())

    @measures_quality.setter
    def measures_quality(self, wanted: bool) -> None:
        for method in self._all_methods():
            method.measures_quality = wanted

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return what learns: the student's parameters, and the methods' own."""
        return [*self.student.parameter_groups(), *groups_by_dimension(self.methods)]

    def _all_methods(self) -> list[Method]:
        return [method for method in self.methods.values() if isinstance(method, Method)]

    def forward(self, images: list[Tensor], targets: list[Target], decay: float) -> StepLosses:
        """Return every loss of one step on this worker's images.

        Args:
            images: [3, Hi, Wi] each, uint8 or float in [0, 1].
            targets: their objects.
            decay: d(t); 0 leaves the teacher out.
        """
        batch = self.student.prepare(images, targets)
        outcome = self.student.train_step(batch, self.student.extract_features(batch))
        compared = Compared()
        if self.teacher is not None and decay:
            seen = self.teacher.look(batch)
            for name, method in self.methods.items():
                assert isinstance(method, Method)
                compared.add(method.compare(batch, self.student, outcome, seen).of_method(name))
        return self._combine(outcome.losses, compared, decay)

    def _combine(self, detection: LossDict, compared: Compared, decay: float) -> StepLosses:
        """METHOD section 7: the only place where weights and decay multiply."""
        terms = compared.terms
        weighted = {name: decay * self.weights[name] * term for name, term in terms.items()}
        detection_total = torch.stack([loss.float() for loss in detection.values()]).sum()
        total = detection_total
        for loss in weighted.values():
            total = total + loss
        compared_by = {name.partition(".")[0] for name in terms}
        for name, method in self.methods.items():
            for parameter in method.parameters() if name not in compared_by else ():
                total = total + 0.0 * parameter.sum()  # DDP waits for every parameter's gradient
        metrics = {"total": total, "detection/total": detection_total}
        metrics |= {f"detection/{name}": loss for name, loss in detection.items()}
        metrics |= {metric_path("distillation", name): loss for name, loss in terms.items()}
        metrics |= {metric_path("weighted", name): loss for name, loss in weighted.items()}
        detached = {name: loss.detach() for name, loss in metrics.items()}
        return StepLosses(total, detection_total, weighted, detached, compared.gates, compared.quality)
