"""torchdistill 1.1.5 beside raydistill: the cost of a distilling step as multiples of the plain student step.

    python -m tests.benchmarks torchdistill RECIPE [section.key=value ...] [--rounds N] [--size N]

One student, one teacher and one batch of images, from the recipe by ``cases``; weights, adapters, optimizer
(learning rate 0) and seed are the same in every step, and the steps are measured in turn within one run:

- ``plain``, ``feature``, ``all_levels``: torchvision's own step, raydistill's with the feature level alone, and with
  every level that the recipe has, as in ``python -m tests.benchmarks step``;
- ``plain_and_backbone``, ``plain_and_detector``: the plain step, and then torchvision's teacher in eval mode, of which
  only the backbone with its FPN runs, or all: what a teacher costs that is asked and compared with nothing;
- ``td_backbone``: torchdistill, teacher in eval mode, of which only the backbone with its FPN runs (``HeadRCNN``);
- ``td_training``: torchdistill, the whole teacher in training mode with the targets, as in stage 2 of torchdistill's
  own example of a distilled Faster R-CNN (factor transfer);
- ``td_detector``: torchdistill, the whole teacher in eval mode: its detections are computed and not used.

torchdistill runs through its ``DistillationBox``: forward hooks on the levels of both FPNs, ``Connector4DAB`` for the
adapters that ``feature.adapter`` asks for (none with ``identity``), ``MSELoss`` per level in a ``WeightedSumLoss``.

Our teacher is what a training makes of it (norms folded into convolutions, channels last, ``bf16`` where the processor
computes with it; ``distillation.teacher_precision=fp32`` forbids that), torchdistill's is torchvision's module.

Not compared: reading of images, Ray and DDP, evaluation, and what is learnt. torchdistill's step does less than ours:
it has no masks, leaves out the FPN's ``pool`` level (a subsample of the one before, not the output of a module), keeps
no metrics and does not look whether the loss is finite. ``all_levels`` has no counterpart in it.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms.v2.functional import to_dtype

from raydistill.config import Config
from raydistill.config.sections import Optimizer
from raydistill.detectors.base import groups_by_dimension
from raydistill.errors import UserError
from raydistill.structures import Target
from raydistill.training.optimizer import build_optimizer
from tests.benchmarks.cases import Bench, CaseOptions
from tests.benchmarks.commands import add_step, parser_of, recipe_of, show, worker_with
from tests.benchmarks.handwritten import tar_settings
from tests.benchmarks.timing import Clock, Spread, clock, in_turn, ratios, table_of
from tests.nets import adapters_of

VERSION = "1.1.5"
OURS = ("plain", "feature", "all_levels")
TEACHERS = ("plain_and_backbone", "plain_and_detector")
LEVEL = "backbone.fpn.layer_blocks"  # its children are the FPN's levels, finest first


@dataclass(frozen=True)
class Variant:
    """What torchdistill's teacher computes."""

    training: bool
    backbone_only: bool


VARIANTS = {
    "td_backbone": Variant(training=False, backbone_only=True),
    "td_training": Variant(training=True, backbone_only=False),
    "td_detector": Variant(training=False, backbone_only=False),
}


def main(arguments: Sequence[str]) -> None:
    """Measure what the command line says.

    Raises:
        UserError: when torchdistill is missing, and as ``measure`` does.
    """
    parser = parser_of("torchdistill", "Time torchdistill's steps beside ours, in turn, on the same nets and images.")
    add_step(parser)
    options = parser.parse_intermixed_args(arguments)
    _torchdistill_version()
    bench = Bench(recipe_of(options), worker_with(options.threads), CaseOptions(options.made_up))
    result = measure(bench, options.rounds, options.clock)
    show(as_text(result), result, options.json)


def measure(bench: Bench, rounds: int, kind: Clock) -> dict[str, Any]:
    """Time our steps and torchdistill's in turn.

    Raises:
        UserError: when torchdistill is missing, a loss is not finite, or the two FPNs do not fit.
    """
    config, device = bench.config, bench.worker.device
    seconds = in_turn(build_cases(bench), rounds, clock(kind, device))
    bench.check_losses()
    return {
        "torchdistill": _torchdistill_version(),
        "torch": str(torch.__version__),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "clock": "wall" if device.type == "cuda" else kind,
        "batch_size": len(bench.batch[0]),
        "image_size": [config.input.min_size, config.input.max_size],
        "teacher": config.teacher.short_name,
        "student": config.student.short_name,
        "adapter": tar_settings(config).feature.adapter,
        "our_teacher_precision": bench.precision,
        "regions_source": tar_settings(config).regions.source,
        "data": bench.data_name,
        "notes": bench.notes,
        "rounds": rounds,
        "losses": bench.totals,
        "seconds": {name: Spread.of(values).as_dict() for name, values in seconds.items()},
        "ratios": {name: ratio.as_dict() for name, ratio in ratios(seconds, "plain").items()},
        "ratios_to": {
            base: {name: ratio.as_dict() for name, ratio in ratios(seconds, base).items()}
            for base in (*TEACHERS, "all_levels")
        },
    }


def as_text(result: dict[str, Any]) -> str:
    """Return the measurement as a table."""
    lines = [
        f"{result['teacher']} -> {result['student']}, {result['image_size'][0]} px, {result['batch_size']} images "
        f"({result['data']}), sharing {result['regions_source']}, {result['device']}, {result['threads']} threads, "
        f"{result['clock']} seconds, {result['rounds']} rounds; torchdistill {result['torchdistill']}, adapters "
        f"{result['adapter']}, our teacher in {result['our_teacher_precision']}",
        *result["notes"],
        "",
        *table_of(result["seconds"], {"plain": result["ratios"]} | result["ratios_to"]),
    ]
    return "\n".join(lines)


def build_cases(bench: Bench) -> dict[str, Callable[[], object]]:
    """Return the steps that are timed; ``bench.totals`` gets their losses."""
    ours = bench.cases()
    _register()
    cases = {name: ours[name] for name in OURS}
    for name in TEACHERS:
        cases[name] = _plain_and_teacher(bench, ours["plain"], backbone_only=name == "plain_and_backbone")
    return cases | {name: _torchdistill_step(bench, name, variant) for name, variant in VARIANTS.items()}


def _plain_and_teacher(bench: Bench, plain: Callable[[], object], backbone_only: bool) -> Callable[[], None]:
    """Return a plain step that is followed by the teacher's forward pass, whose result is thrown away."""
    teacher, worker = bench.slow_teacher.model, bench.worker

    def run() -> None:
        plain()
        images, _ = worker.to_device(*bench.batch)
        floats = [to_dtype(image, torch.float32, scale=True) for image in images]
        with torch.no_grad(), worker.autocast(bench.config.training.precision):
            if backbone_only:
                teacher.backbone(teacher.transform(floats)[0].tensors)
            else:
                teacher(floats)

    return run


def _torchdistill_step(bench: Bench, name: str, variant: Variant) -> Callable[[], None]:
    """Return a step of the loop in torchdistill's example of object detection."""
    worker, precision = bench.worker, bench.config.training.precision
    box = build_box(bench, variant)
    box.pre_epoch_process(epoch=0)

    def run() -> None:
        torch.manual_seed(0)
        images, targets = worker.to_device(*bench.batch)
        floats = [to_dtype(image, torch.float32, scale=True) for image in images]
        with worker.autocast(precision):
            loss = box.forward_process(floats, targets, None)
        box.post_forward_process(loss=loss)
        bench.totals[name] = loss.item()

    return run


def build_box(bench: Bench, variant: Variant) -> Any:
    """Return a ``DistillationBox`` over copies of the bench's nets: its hooks must not fire in the other steps."""
    from torchdistill.core.distillation import get_distillation_box

    student, teacher = copy.deepcopy(bench.student.model), copy.deepcopy(bench.slow_teacher.model)
    levels, theirs = (len(model.backbone.fpn.layer_blocks) for model in (student, teacher))
    if levels != theirs:
        raise UserError(f"returned_layers: student and teacher must have as many levels, got {levels} and {theirs}")
    teacher.train(variant.training)  # torchdistill leaves the mode as it is
    adapters = _adapters(bench, levels)
    settings = _train_config(bench.config, variant, levels, adapters)
    box = get_distillation_box(teacher, student, {}, settings, bench.worker.device, None, False, 1)
    for number, adapter in enumerate(adapters):
        box.student_model.connector_dict[f"level{number}"][0].load_state_dict(adapter.state_dict())
    return box


def _adapters(bench: Bench, levels: int) -> list[nn.Conv2d]:
    """Return our adapters of the levels that torchdistill compares; none where they change nothing."""
    adapters = [adapters_of(bench.states["feature"].distiller)[str(number)] for number in range(levels)]
    return [adapter for adapter in adapters if isinstance(adapter, nn.Conv2d)]


def _train_config(config: Config, variant: Variant, levels: int, adapters: list[nn.Conv2d]) -> dict[str, Any]:
    """Return what torchdistill reads from a YAML file."""
    inner = "seq." if variant.backbone_only else ""
    teacher_paths = [f"{inner}{LEVEL}.{number}" for number in range(levels)]
    student_paths = [f"connector_dict.level{number}" if adapters else f"{LEVEL}.{number}" for number in range(levels)]
    pairs = zip(student_paths, teacher_paths, strict=True)
    return {
        "num_epochs": 1,
        "teacher": _teacher_config(variant, teacher_paths),
        "student": _student_config(student_paths, adapters),
        "optimizer": {
            "key": "raydistill",
            "kwargs": {"settings": config.training.optimizer},
            "filters_params": False,
            "max_grad_norm": config.training.clip_grad_norm,
        },
        "criterion": {
            "key": "WeightedSumLoss",
            "kwargs": {
                "model_term": {"weight": 1.0},
                "sub_terms": {path: _term(path, theirs, 1 / levels) for path, theirs in pairs},
            },
        },
    }


def _teacher_config(variant: Variant, paths: list[str]) -> dict[str, Any]:
    teacher: dict[str, Any] = {
        "forward_proc": "forward_batch_target" if variant.training else "forward_batch_only",
        "forward_hook": {"output": paths},
        "requires_grad": False,  # which is also what makes torchdistill ask it under no_grad
    }
    if variant.backbone_only:
        teacher["auxiliary_model_wrapper"] = {"key": "HeadRCNN", "kwargs": {"head_rcnn": {"sequential": ["backbone"]}}}
    return teacher


def _student_config(paths: list[str], adapters: list[nn.Conv2d]) -> dict[str, Any]:
    if not adapters:
        return {"forward_proc": "forward_batch_target", "forward_hook": {"output": paths}}
    inside = [f"student_model.{LEVEL}.{number}" for number in range(len(adapters))]
    connectors = {
        f"level{number}": {"conv2d_kwargs": _shape(adapter), "io": "output", "path": inside[number]}
        for number, adapter in enumerate(adapters)
    }
    return {
        "forward_proc": "past_the_connectors",
        "auxiliary_model_wrapper": {"key": "Connector4DAB", "kwargs": {"connectors": connectors}},
        "forward_hook": {"output": inside + paths},
    }


def _shape(adapter: nn.Conv2d) -> dict[str, Any]:
    names = ("in_channels", "out_channels", "kernel_size", "padding")
    return {name: getattr(adapter, name) for name in names}


def _term(student_path: str, teacher_path: str, weight: float) -> dict[str, Any]:
    """Return the configuration of one level's loss."""
    wrapper = {
        "input": {"is_from_teacher": False, "module_path": student_path, "io": "output"},
        "target": {"is_from_teacher": True, "module_path": teacher_path, "io": "output"},
    }
    return {
        "criterion": {"key": "MSELoss", "kwargs": {"reduction": "mean"}},
        "criterion_wrapper": {"key": "SimpleLossWrapper", "kwargs": wrapper},
        "weight": weight,
    }


def _register() -> None:
    """Give torchdistill what it is asked for by name and does not have."""
    from torchdistill.core.interfaces.registry import register_forward_proc_func
    from torchdistill.optim.registry import register_optimizer

    register_forward_proc_func(_past_the_connectors, key="past_the_connectors")
    register_optimizer(_optimizer_at_rest, key="raydistill")


def _past_the_connectors(model: Any, images: list[Tensor], targets: list[Target], supp_dict: object = None) -> Any:
    """Ask the student inside: ``Connector4DAB.forward`` takes no targets. The box runs the connectors afterwards."""
    return model.student_model(images, targets)


def _optimizer_at_rest(module: nn.Module, settings: Optimizer) -> torch.optim.Optimizer:
    """Return the optimizer of our steps, at learning rate 0."""
    optimizer = build_optimizer(settings, groups_by_dimension(module))
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    return optimizer


def _torchdistill_version() -> str:
    """Return the installed version.

    Raises:
        UserError: when there is none.
    """
    try:
        return str(importlib.import_module("torchdistill").__version__)
    except ImportError as error:
        raise UserError(f"torchdistill is missing; install it with: pip install torchdistill=={VERSION}") from error
