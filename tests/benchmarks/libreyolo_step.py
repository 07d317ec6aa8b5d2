"""LibreYOLO 1.6.0: the cost of its distilling step as multiples of its own plain step.

    python -m tests.benchmarks libreyolo FAMILY STUDENT TEACHER [--size N] [--batch N] [--rounds N]

Its own nets with random weights (the teacher's norms have the statistics of the images, so that its answers are of
ordinary size), one batch from its own loader: images of noise with seven objects each, under its default
augmentation. Every step is one pass of its own training loop over that batch, on a CPU, at learning rate 0, with all
that it does by default: the moving average of the weights, and for YOLOv9 the auxiliary branch of the student.

- ``plain``: a step without ``distill_model``;
- ``plain_and_teacher``: the same, and the forward pass of the teacher, which is compared with nothing;
- ``mgd``: a step with ``distill_model``, whose default loss lets the student's masked maps of three strides, through
  two convolutions of the teacher's width, come near the teacher's (masked generative distillation, Yang et al. 2022);
- ``cwd``: a step with ``distill_model`` and ``distill_loss_type="cwd"``, where the maps of each channel are compared as
  distributions over the image (channel-wise distillation, Shu et al. 2021).

LibreYOLO's trainer has no public function for one step: ``_train_epoch`` is called with a loader of one batch, hence
the one version. Left out are reading of images, validation and checkpoints.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor
from torchvision.io import write_png

from raydistill.config.sections import Input
from raydistill.errors import UserError
from tests.benchmarks.commands import add_threads, add_timing, count, parser_of, show
from tests.benchmarks.images import made_up_images
from tests.benchmarks.nets import calibrate
from tests.benchmarks.timing import Clock, Spread, clock, in_turn, ratios, table_of

VERSION = "1.6.0"
LOSSES = ("mgd", "cwd")
_CLASSES = 80
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Family:
    """Where LibreYOLO has a family of nets."""

    net: str
    trainer_module: str
    trainer: str


FAMILIES = {
    "yolo9": Family("LibreYOLO9", "libreyolo.models.yolo9.trainer", "YOLO9Trainer"),
    "yolox": Family("LibreYOLOX", "libreyolo.models.yolox.trainer", "YOLOXTrainer"),
}


@dataclass(frozen=True)
class Nets:
    """Which nets are trained on which images: sizes as LibreYOLO calls them, and pixels of the square images."""

    family: str
    student: str
    teacher: str
    image_size: int
    batch_size: int


def main(arguments: Sequence[str]) -> None:
    """Measure what the command line says.

    Raises:
        UserError: when libreyolo is missing, and as ``measure`` does.
    """
    parser = parser_of("libreyolo", "Time LibreYOLO's plain and distilling steps in turn, with its own nets.")
    parser.add_argument("family", choices=list(FAMILIES), help="the nets' family")
    parser.add_argument("student", help="size of the student: t, s, m, c of yolo9; n, t, s, m, l, x of yolox")
    parser.add_argument("teacher", help="size of the teacher, of the same family")
    parser.add_argument("--size", type=count, default=320, metavar="N", help="pixels of the images' sides")
    parser.add_argument("--batch", type=count, default=2, metavar="N", help="images of a step")
    add_threads(parser)
    add_timing(parser)
    options = parser.parse_args(arguments)
    check_version()
    torch.set_num_threads(options.threads)
    nets = Nets(options.family, options.student, options.teacher, options.size, options.batch)
    result = measure(nets, options.rounds, options.clock)
    show(as_text(result), result, options.json)


def measure(nets: Nets, rounds: int, kind: Clock) -> dict[str, Any]:
    """Time LibreYOLO's steps in turn.

    Raises:
        UserError: when libreyolo is missing or another version, has no such net, or a loss is not finite.
    """
    version = check_version()
    with silence():
        bench = Bench(nets)
        seconds = in_turn(bench.cases, rounds, clock(kind, _CPU))
    bench.check_losses()
    return {
        "libreyolo": version,
        "torch": str(torch.__version__),
        "device": str(_CPU),
        "threads": torch.get_num_threads(),
        "clock": kind,
        "batch_size": nets.batch_size,
        "image_size": list(bench.batch[0].shape[-2:]),
        "teacher": f"{nets.family}-{nets.teacher}",
        "student": f"{nets.family}-{nets.student}",
        "boxes": bench.num_boxes,
        "rounds": rounds,
        "losses": bench.totals,
        "distilling_losses": bench.distilling,
        "seconds": {name: Spread.of(values).as_dict() for name, values in seconds.items()},
        "ratios": {name: ratio.as_dict() for name, ratio in ratios(seconds, "plain").items()},
        "ratios_to": {
            "plain_and_teacher": {name: ratio.as_dict() for name, ratio in ratios(seconds, "plain_and_teacher").items()}
        },
    }


def as_text(result: dict[str, Any]) -> str:
    """Return the measurement as a table."""
    height, width = result["image_size"]
    lines = [
        f"{result['teacher']} -> {result['student']}, {height} x {width} px, {result['batch_size']} images with "
        f"{result['boxes']} boxes, {result['device']}, {result['threads']} threads, {result['clock']} seconds, "
        f"{result['rounds']} rounds; libreyolo {result['libreyolo']}",
        "",
        *table_of(result["seconds"], {"plain": result["ratios"]} | result["ratios_to"]),
    ]
    return "\n".join(lines)


class Bench:
    """LibreYOLO's trainers over equal students, one for each step, and one batch for all of them.

    ``totals`` and ``distilling`` have the losses of each step, and the distilling part of them.
    """

    def __init__(self, nets: Nets) -> None:
        self.nets = nets
        self.totals: dict[str, float] = {}
        self.distilling: dict[str, float] = {}
        for role in ("student", "teacher"):
            self._check_size(role, getattr(nets, role))
        with tempfile.TemporaryDirectory() as folder:
            data = write_images(Path(folder), nets)
            teacher = self._new_net(nets.teacher)
            path = teacher.save(str(Path(folder) / "teacher.pt"))
            plain = self._new_trainer(data)
            self.batch: tuple[Tensor, ...] = next(iter(plain.train_loader))
            teacher.model.eval()
            calibrate(teacher.model, lambda: teacher.model(self.batch[0]))
            teacher.save(path)
            distilling = {loss: self._new_trainer(data, path, loss) for loss in LOSSES}
        self.trainers = {"plain": plain} | distilling
        for trainer in self.trainers.values():
            trainer.train_loader = [self.batch]
        self.cases = {
            "plain": self._step("plain", plain),
            "plain_and_teacher": self._plain_and_teacher,
            **{loss: self._step(loss, trainer) for loss, trainer in distilling.items()},
        }

    @property
    def num_boxes(self) -> int:
        """Return how many objects the batch has."""
        return int(self.batch[1][..., 1:].amax(dim=-1).gt(0).sum())  # boxes of the other rows are 0 or -1

    def check_losses(self) -> None:
        """Make sure that every loss was finite.

        Raises:
            UserError: where one was not.
        """
        if not math.isfinite(sum(self.totals.values())):
            raise UserError(f"losses: must be finite, got {self.totals}; a net that is broken would be measured")

    def _check_size(self, role: str, size: str) -> None:
        sizes = list(self._net_class().INPUT_SIZES)
        if size not in sizes:
            raise UserError(f"{role}: {self.nets.family} has the sizes {', '.join(sizes)}, got {size}")

    def _net_class(self) -> Any:
        return getattr(importlib.import_module("libreyolo"), FAMILIES[self.nets.family].net)

    def _new_net(self, size: str) -> Any:
        torch.manual_seed(0)
        return self._net_class()(None, size=size, nb_classes=_CLASSES, device=str(_CPU))

    def _new_trainer(self, data: Path, teacher: str | None = None, loss: str = "mgd") -> Any:
        """Return what LibreYOLO's ``train`` makes of a new student and these settings, ready for the first step."""
        net = self._new_net(self.nets.student)
        family = FAMILIES[self.nets.family]
        trainer_class = getattr(importlib.import_module(family.trainer_module), family.trainer)
        if self.nets.family == "yolo9":
            net.model.enable_aux(weight=trainer_class._config_class().aux_weight)
        trainer = trainer_class(
            net.model,
            net,
            size=self.nets.student,
            num_classes=_CLASSES,
            data=str(data),
            project=str(data.parent),
            batch=self.nets.batch_size,
            imgsz=self.nets.image_size,
            workers=0,
            device=str(_CPU),
            epochs=1,
            lr0=0.0,
            val=False,
            distill_model=teacher,
            distill_loss_type=loss,
        )
        trainer.setup()
        return trainer

    def _step(self, name: str, trainer: Any) -> Callable[[], None]:
        def run() -> None:
            torch.manual_seed(0)
            loss, _, parts, _ = trainer._train_epoch(0)
            self.totals[name] = loss
            if "distill" in parts:
                self.distilling[name] = parts["distill"]

        return run

    def _plain_and_teacher(self) -> None:
        self.cases["plain"]()
        distiller = self.trainers["mgd"].distiller
        distiller.teacher_forward(self.batch[0])
        distiller.step()


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keep LibreYOLO, which sets up its own logging, from writing lines and bars for each step."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(level)


def write_images(folder: Path, nets: Nets) -> Path:
    """Write images of noise and their objects as LibreYOLO reads them, and return the file that describes them."""
    side = nets.image_size
    images = made_up_images(Input(min_size=side, max_size=side), 4 * nets.batch_size, _CLASSES)
    for kind in ("images", "labels"):
        (folder / kind / "train").mkdir(parents=True)
    for index in range(len(images)):
        pixels, target = images.load(index)
        write_png(pixels, str(folder / "images" / "train" / f"{index}.png"), compression_level=1)
        boxes = target["boxes"] / side
        rows = torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], dim=1).tolist()
        text = [
            " ".join(map(str, [label - 1, *row])) for label, row in zip(target["labels"].tolist(), rows, strict=True)
        ]
        (folder / "labels" / "train" / f"{index}.txt").write_text("\n".join(text))
    description = {"path": str(folder), "train": "images/train", "val": "images/train", "names": list(images.classes)}
    path = folder / "data.yaml"
    path.write_text(yaml.safe_dump(description))
    return path


def check_version() -> str:
    """Return the installed version.

    Raises:
        UserError: when there is none, or another one.
    """
    install = f"install it with: pip install libreyolo=={VERSION}"
    try:
        version = str(importlib.import_module("libreyolo").__version__)
    except ImportError as error:
        raise UserError(f"libreyolo is missing; {install}") from error
    if version != VERSION:
        raise UserError(f"libreyolo must be {VERSION}, got {version}; {install}")
    return version
