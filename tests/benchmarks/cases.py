"""The steps that are compared: the same nets, images and random numbers, at learning rate 0."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import to_dtype

from raydistill.config import Config
from raydistill.data.build import build_datasets
from raydistill.data.dataset import DetectionDataset
from raydistill.data.loading.loaders import MicroBatch
from raydistill.detectors.frozen import make_fast
from raydistill.detectors.teacher import DTYPES, Teacher, TeacherPass, precision_on
from raydistill.detectors.two_stage.faster_rcnn import FasterRCNNDetector
from raydistill.errors import UserError
from raydistill.methods.values import StepLosses
from raydistill.runs.directory import RunDirectory
from raydistill.runs.worker import Worker
from raydistill.structures import Batch, Target
from raydistill.training.distiller import Distiller
from raydistill.training.job import Job
from raydistill.training.loop import make_loader, take_step
from raydistill.training.metrics import MetricSums
from raydistill.training.optimizer import build_optimizer
from raydistill.training.state import TrainingState
from tests.benchmarks.handwritten import handwritten_loss, unknown_setting
from tests.benchmarks.nets import benchmark_net, made_up_data

TERMS = ("feature", "classification", "regression", "rpn")
_MADE_UP_CLASSES = 80  # COCO's


@dataclass(frozen=True)
class CaseOptions:
    """Which steps there are, and on what."""

    made_up: bool = False  # images of noise instead of the recipe's data
    students: tuple[int, ...] = ()  # so many at a time against one pass of the teacher


class SharedPass(Teacher):
    """A teacher that looks at a batch once, however many students ask."""

    _seen: TeacherPass | None = None

    def look(self, batch: Batch, with_proposals: bool) -> TeacherPass:
        """Return what was seen before, or look."""
        if self._seen is None:
            self._seen = super().look(batch, with_proposals)
        return self._seen

    def forget(self) -> None:
        """Look anew at the next batch."""
        self._seen = None


class Bench:
    """One student and one teacher; a distiller, optimizer and loop state for each case."""

    def __init__(self, config: Config, worker: Worker, options: CaseOptions) -> None:
        self.config, self.worker = config, worker
        self.train, self.data_name = _data(config, options.made_up)
        self.job = Job("distilled", config, config.student, 1, RunDirectory(Path("bench")), self.train, self.train)
        self.loader = make_loader(self.job, worker)
        batch = self.loader.sample_batch()
        if batch is None:
            raise UserError("data: the first batches must show an object, got none")
        self.batch: MicroBatch = batch
        classes = self.train.classes
        torch.manual_seed(config.seed)
        self.student = benchmark_net(config.student, config.input, classes, batch, "student").to(worker.device)
        self.teacher = benchmark_net(config.teacher, config.input, classes, batch, "teacher").to(worker.device)
        self.slow_teacher = benchmark_net(config.teacher, config.input, classes, batch, "teacher").to(worker.device)
        self.slow_teacher.load_state_dict(self.teacher.state_dict())
        self.slow_teacher.eval().requires_grad_(False)
        self.precision = precision_on(config, worker.device)
        make_fast(self.teacher, DTYPES[self.precision], config.distillation.compile_teacher)
        self.students = options.students
        self.totals: dict[str, float] = {}
        self.states: dict[str, TrainingState] = {}

    def cases(self) -> dict[str, Callable[[], object]]:
        """Return what is timed."""
        full = _with_weights(self.config, dict.fromkeys(TERMS, 1.0))
        cases: dict[str, Callable[[], object]] = {
            "plain": self._plain,
            "terms_off": self._distilling("terms_off", full, decay=0.0),
        }
        for name in TERMS:
            if name != "rpn" or self.config.rpn.weight:
                cases[name] = self._distilling(name, _with_weights(self.config, {name: 1.0}, others=0.0))
        cases["all_levels"] = self._distilling("all_levels", self.config)
        if not unknown_setting(self.config):
            cases["handwritten"] = self._handwritten
        cases |= {f"{number}_students": self._together(number) for number in self.students}
        return cases

    def _state(self, name: str, distiller: Distiller) -> TrainingState:
        optimizer = build_optimizer(self.config.training.optimizer, distiller)
        for group in optimizer.param_groups:
            group["lr"] = 0.0
        scaler = torch.amp.GradScaler(self.worker.device.type, enabled=self.config.training.precision == "fp16")
        state = TrainingState(
            self.job, self.worker, None, distiller, distiller, optimizer, scaler, self.loader  # type: ignore[arg-type]
        )  # fmt: skip
        self.states[name] = state
        return state

    def _distilling(
        self, name: str, config: Config, decay: float = 1.0, student: FasterRCNNDetector | None = None
    ) -> Callable[[], object]:
        torch.manual_seed(config.seed)
        distiller = Distiller(student or self.student, self.teacher, config, self.precision).to(self.worker.device)
        state, sums = self._state(name, distiller), MetricSums()

        def run() -> StepLosses:
            torch.manual_seed(0)
            distiller.train()
            losses = take_step(state, [self.batch], decay, 0, sums)
            self.totals[name] = losses.total.item()
            return losses

        return run

    def _together(self, number: int) -> Callable[[], object]:
        """Take a step of ``number`` students, one after the other, with one pass of the teacher for all."""
        teacher = SharedPass(self.teacher, self.precision)
        runs = []
        for student in range(number):
            name = f"student {student + 1} of {number}"
            runs.append(self._distilling(name, self.config, student=copy.deepcopy(self.student)))
            self.states[name].distiller.teacher = teacher

        def run() -> None:
            teacher.forget()
            for one in runs:
                one()

        return run

    def _plain(self) -> None:
        """Take torchvision's own step."""
        if "plain" not in self.states:
            self._state("plain", Distiller(self.student, None, self.config))
        model = self.student.model

        def loss(images: list[Tensor], targets: list[Target]) -> Tensor:
            floats = [to_dtype(image, torch.float32, scale=True) for image in images]
            return torch.stack(list(model(floats, targets).values())).sum()

        self._step_without_us("plain", self.states["plain"].optimizer, loss)

    def _handwritten(self) -> None:
        state, models = self.states["all_levels"], (self.student.model, self.slow_teacher.model)

        def loss(images: list[Tensor], targets: list[Target]) -> Tensor:
            return handwritten_loss(models, state.distiller.adapters, self.config, images, targets)

        self._step_without_us("handwritten", state.optimizer, loss)

    def _step_without_us(
        self, name: str, optimizer: torch.optim.Optimizer, loss_of: Callable[[list[Tensor], list[Target]], Tensor]
    ) -> None:
        """Take an optimizer step on the loss of the batch, without the engine."""
        self.student.train()
        torch.manual_seed(0)
        images, targets = self.worker.to_device(*self.batch)
        optimizer.zero_grad(set_to_none=True)
        with self.worker.autocast(self.config.training.precision):
            loss = loss_of(images, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        self.totals[name] = loss.item()


def _data(config: Config, made_up: bool) -> tuple[DetectionDataset, str]:
    """Return the recipe's training data, or images of noise where they are asked for."""
    if not made_up:
        return build_datasets(config.data)[0], config.data.format
    return made_up_data(config.input, 2 * config.training.batch_size, _MADE_UP_CLASSES), "noise"


def _with_weights(config: Config, least: dict[str, float], others: float | None = None) -> Config:
    """Return ``config`` with the named terms on, by their own weight or the given one, and the others as told."""
    updates = {}
    for name in TERMS:
        section = getattr(config, name)
        weight = section.weight or least[name] if name in least else section.weight if others is None else others
        updates[name] = section.model_copy(update={"weight": weight})
    return config.model_copy(update=updates)
