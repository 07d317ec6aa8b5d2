"""The steps that are compared: the same nets, images and random numbers, at learning rate 0."""

from __future__ import annotations

import copy
import itertools
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.transforms.v2.functional import to_dtype

from raydistill.config import Config
from raydistill.config.loader import CONFIG
from raydistill.config.tree import nest
from raydistill.data.loading.loaders import MicroBatch, digest_of
from raydistill.detectors.kept.tensors import InMemory, KeptTensors, OnDisk
from raydistill.detectors.teacher import Teacher, TeacherPass, decide_precision
from raydistill.detectors.two_stage.faster_rcnn import FasterRCNNDetector
from raydistill.detectors.two_stage.roi_align import with_pool_regions
from raydistill.errors import UserError
from raydistill.methods.values import StepLosses
from raydistill.runs.directory import RunDirectory
from raydistill.runs.reporter import FileReporter
from raydistill.runs.worker import Worker
from raydistill.storage.kept_files import KeptFiles, remove_source
from raydistill.structures import Batch, Target
from raydistill.training.distiller import Distiller
from raydistill.training.fast_teacher import make_teacher_fast
from raydistill.training.job import Job
from raydistill.training.loop import make_loader, take_step
from raydistill.training.metrics import MetricSums
from raydistill.training.optimizer import build_optimizer
from raydistill.training.state import TrainingState
from tests.benchmarks.handwritten import Nets, handwritten_loss, term_weights, unknown_setting
from tests.benchmarks.images import training_images
from tests.benchmarks.nets import benchmark_net
from tests.nets import adapters_of

_NOWHERE = RunDirectory(Path("benchmark"))  # nothing is written there


@dataclass(frozen=True)
class CaseOptions:
    """Which steps there are, and on what."""

    made_up: bool = False  # images of noise instead of the recipe's data
    students: tuple[int, ...] = ()  # so many at a time against one pass of the teacher


class SharedPass(Teacher):
    """A teacher that looks at a batch once, however many students ask."""

    _seen: TeacherPass | None = None

    def look(self, batch: Batch) -> TeacherPass:
        """Return what was seen before, or look."""
        if self._seen is None:
            self._seen = super().look(batch)
        return self._seen

    def forget(self) -> None:
        """Look anew at the next batch."""
        self._seen = None


class Bench:
    """One student and one teacher; a distiller, optimizer and loop state for each case.

    ``notes`` are sentences on what is measured otherwise than the recipe says.
    """

    def __init__(self, config: Config, worker: Worker, options: CaseOptions) -> None:
        self.config, self.worker = config, worker
        train, note = training_images(config, options.made_up)
        self.data_name = "noise" if note else config.data.format
        self.notes = [note] if note else []
        self.notes += [
            f"{role}.weights: random ones instead of {weights}, with the norms of the images"
            for role, weights in (("teacher", config.teacher.weights), ("student", config.student.weights))
            if weights in ("imagenet", "coco")
        ]
        self.job = Job("distilled", config, config.student, 1, _NOWHERE, train, train)
        self.loader = make_loader(self.job, worker)
        batch = self.loader.sample_batch()
        if batch is None:
            raise UserError("data: the first batches must show an object, got none")
        self.batch: MicroBatch = batch
        torch.manual_seed(config.seed)
        self.student = benchmark_net(config.student, config.input, train.classes, batch, "student").to(worker.device)
        self.teacher = benchmark_net(config.teacher, config.input, train.classes, batch, "teacher").to(worker.device)
        self.student.fast_roi_align = self.teacher.fast_roi_align = config.training.roi_align == "fast"
        self.slow_teacher = copy.deepcopy(self.teacher).eval().requires_grad_(False)
        self.precision = decide_precision(config, worker)
        make_teacher_fast(self.teacher, config, self.precision, worker)
        self.students = options.students
        self._folder = tempfile.TemporaryDirectory(prefix="raydistill-bench-")
        self.totals: dict[str, float] = {}
        self.states: dict[str, TrainingState] = {}

    def cases(self) -> dict[str, Callable[[], object]]:
        """Return what is timed."""
        weights = term_weights(self.config)
        on = {name: weight or 1.0 for name, weight in weights.items()}
        cases: dict[str, Callable[[], object]] = {
            "plain": self._plain,
            **({"plain_fast_roi": self._plain_fast_roi} if self.student.fast_roi_align else {}),
            "terms_off": self._distilling("terms_off", _with_weights(self.config, on), decay=0.0),
        }
        for name, weight in weights.items():
            alone = _with_weights(self.config, dict.fromkeys(weights, 0.0) | {name: on[name]})
            short = name.rpartition(".")[2]
            case = self._distilling(short, alone)
            if weight or self._possible(short, case):
                cases[short] = case
        cases["all_levels"] = self._distilling("all_levels", self.config)
        cases["filling"] = self._with_cache("filling", self._on_disk("filled"), known=False)
        cases["known_memory"] = self._with_cache("known_memory", InMemory(10**11))
        cases["known_disk"] = self._with_cache("known_disk", self._on_disk("known"))
        if unknown := unknown_setting(self.config):
            self.notes.append(f"handwritten is left out: the loop does not know {unknown}")
        else:
            cases["handwritten"] = self._handwritten
        cases |= {f"{number}_students": self._together(number) for number in self.students}
        return cases

    def check_losses(self) -> None:
        """Make sure that every loss was finite.

        Raises:
            UserError: where one was not.
        """
        if not math.isfinite(sum(self.totals.values())):
            raise UserError(f"losses: must be finite, got {self.totals}; a net that is broken would be measured")

    def begin(self, distiller: Distiller) -> TrainingState:
        """Return the state in which ``distiller`` takes steps, at learning rate 0."""
        distiller.to(self.worker.device)
        optimizer = build_optimizer(self.config.training.optimizer, distiller.parameter_groups())
        for group in optimizer.param_groups:
            group["lr"] = 0.0
        scaler = torch.amp.GradScaler(self.worker.device.type, enabled=self.config.training.precision == "fp16")
        reporter = FileReporter(_NOWHERE, self.worker, lambda _: None)
        return TrainingState(self.job, self.worker, reporter, distiller, distiller, optimizer, scaler, self.loader)

    def _possible(self, name: str, case: Callable[[], object]) -> bool:
        """Say whether a term that the recipe leaves out can be measured all the same."""
        try:
            case()
        except UserError as error:
            reason = str(error).partition(";")[0]
            self.notes.append(f"{name} is not measured alone: {reason}")
            return False
        return True

    def _distilling(
        self, name: str, config: Config, decay: float = 1.0, student: FasterRCNNDetector | None = None
    ) -> Callable[[], object]:
        torch.manual_seed(config.seed)
        distiller = Distiller(student or self.student, self.teacher, config, self.precision)
        state, sums = self.begin(distiller), MetricSums()
        self.states[name] = state

        def run() -> StepLosses:
            torch.manual_seed(0)
            distiller.train()
            losses = take_step(state, [self.batch], decay, 0, sums)
            self.totals[name] = losses.total.item()
            return losses

        return run

    def _on_disk(self, source: str) -> OnDisk:
        return OnDisk(KeptFiles(Path(self._folder.name), source, {}, 10**11))

    def _with_cache(self, name: str, kept: KeptTensors, known: bool = True) -> Callable[[], object]:
        """Take steps whose teacher's answers are kept, but for the first one; images are recognised each time anew.

        Where they are not to be ``known``, each step computes and keeps them; those before it are removed.
        """
        step = self._distilling(name, _with_cache(self.config))
        teacher, counted = self.states[name].distiller.teacher, itertools.count()
        assert teacher is not None
        assert teacher.answering is not None
        teacher.answering.kept = kept

        def run() -> object:
            new = "" if known else str(next(counted))
            if new and isinstance(kept, OnDisk):
                remove_source(kept.files.path)
            for image, target in zip(*self.batch, strict=True):
                target["digest"] = digest_of(image) + new
            return step()

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
        self._step_of("plain", self.student.model)

    def _plain_fast_roi(self) -> None:
        """Take torchvision's own step with our RoIAlign."""
        self._step_of("plain_fast_roi", with_pool_regions(self.student.model))

    def _step_of(self, name: str, model: FasterRCNN) -> None:
        if "plain" not in self.states:
            self.states["plain"] = self.begin(Distiller(self.student, None, self.config))

        def loss(images: list[Tensor], targets: list[Target]) -> Tensor:
            floats = [to_dtype(image, torch.float32, scale=True) for image in images]
            return torch.stack(list(model(floats, targets).values())).sum()

        self._step_without_us(name, self.states["plain"].optimizer, loss)

    def _handwritten(self) -> None:
        state = self.states["all_levels"]
        nets = Nets(self.student.model, self.slow_teacher.model, adapters_of(state.distiller), self.precision)

        def loss(images: list[Tensor], targets: list[Target]) -> Tensor:
            return handwritten_loss(nets, self.config, images, targets)

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
        if self.config.training.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.student.parameters(), self.config.training.clip_grad_norm)
        optimizer.step()
        self.totals[name] = loss.item()


def _with_cache(config: Config) -> Config:
    teacher = config.teacher.model_copy(update={"cache": "memory"})
    return config.model_copy(update={"teacher": teacher})


def _with_weights(config: Config, weights: dict[str, float]) -> Config:
    """Return ``config`` with other weights of its terms."""
    raw = config.model_dump(mode="json")
    for name, weight in weights.items():
        raw = CONFIG.merge(raw, nest(f"methods.{name}.weight", weight))
    return Config.model_validate(raw)
