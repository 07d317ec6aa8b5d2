"""Every setting, its default and its range. The names are torchvision's where torchvision has one.

Each section is a frozen pydantic model that forbids unknown keys. Sections that come in kinds (``data``, ``decay``,
``training.schedule``) are unions told apart by a tag, so that a setting of another kind is an error and not silence.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, get_args

from pydantic import model_validator

from raydistill.config.base import Section, Seed, Text
from raydistill.config.data import (
    AutoData,
    CocoData,
    Data,
    FilesData,
    OwnData,
    ShapesData,
    VocData,
    format_by_keys,
)
from raydistill.config.detector import NAMED_WEIGHTS, RESNETS, AnyDetector, AnyStudent, AnyTeacher, Detector, Teacher
from raydistill.config.distillation import (
    OF_DISTILLATION,
    Decay,
    Distillation,
    DistillationSections,
)
from raydistill.config.loading import Augmentation, Downloads, Input, Loader
from raydistill.config.logging import Logging
from raydistill.config.methods import Methods, settings_of_method
from raydistill.config.own import Carried
from raydistill.config.training import (
    MOST_DETECTIONS,
    Change,
    Checkpoint,
    Evaluation,
    Optimizer,
    Scaling,
    Schedule,
    Training,
)
from raydistill.storage.store import problem_with

__all__ = [
    "NAMED_WEIGHTS",
    "OF_DISTILLATION",
    "RESNETS",
    "AnyDetector",
    "Augmentation",
    "AutoData",
    "Change",
    "Checkpoint",
    "CocoData",
    "Config",
    "Data",
    "Decay",
    "Detector",
    "Distillation",
    "Downloads",
    "Evaluation",
    "FilesData",
    "Input",
    "Loader",
    "Logging",
    "Methods",
    "Optimizer",
    "OwnData",
    "Scaling",
    "Schedule",
    "ShapesData",
    "Teacher",
    "Training",
    "VocData",
    "conflicts",
    "defaults",
]


class _NetsAndData(Section):
    """What is trained on what."""

    output: Text
    """Directory of the results, or a place on an object store (``s3://``, ``gs://``); one run directory per stage below
    it."""
    seed: Seed = 0
    data: Data
    input: Input = Input()
    augmentation: Augmentation = Augmentation()
    loader: Loader = Loader()
    downloads: Downloads = Downloads()
    teacher: AnyTeacher
    student: AnyStudent


class Config(DistillationSections, _NetsAndData):  # fields are in the order of the bases, the last one first
    """A complete run: teacher, student alone, student distilled."""

    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    checkpoint: Checkpoint = Checkpoint()
    logging: Logging = Logging()
    scaling: Scaling = Scaling()
    schedule: tuple[Change, ...] = ()
    """Settings of both students that change while they are trained, after so many epochs each; the recipe of the best
    student of a population (``scheduler: pbt``) has one. The learning rate's own course is ``training.schedule``."""

    @property
    def distills(self) -> bool:
        """Whether any distillation term has a weight, from the start or later."""
        later = {name for change in self.schedule for name, value in change.settings.items() if value > 0}
        return super().distills or not later.isdisjoint(self.weights)

    @model_validator(mode="before")
    @classmethod
    def _data_have_a_format(cls, raw: Any) -> Any:
        """Let settings that name files of one format stand for that format."""
        data = raw.get("data") if isinstance(raw, Mapping) else None
        return {**raw, "data": format_by_keys(data)} if isinstance(data, Mapping) else raw

    @model_validator(mode="before")
    @classmethod
    def _nets_find_as_many_as_count(cls, raw: Any) -> Any:
        """Let the nets give as many detections of an image as are scored, where these are more than COCO's."""
        evaluation = raw.get("evaluation") if isinstance(raw, Mapping) else None
        most = evaluation.get("max_detections") if isinstance(evaluation, Mapping) else None
        if isinstance(most, bool) or not isinstance(most, int | float) or most <= MOST_DETECTIONS:
            return raw
        limit = "box_detections_per_img"
        nets = {role: raw[role] for role in ("teacher", "student") if isinstance(raw.get(role), Mapping)}
        lower = {role: net for role, net in nets.items() if "detector" not in net and _below(net.get(limit), most)}
        return {**raw, **{role: {**net, limit: most} for role, net in lower.items()}}

    def __getstate__(self) -> dict[Any, Any]:
        """Take along the objects that settings name and that another process cannot import."""
        return {**super().__getstate__(), "carried": Carried.named_in(self.model_dump(mode="json"))}


def _below(limit: Any, most: float) -> bool:
    return limit is None or (isinstance(limit, int | float) and limit < most)


WITHOUT_INFLUENCE = (
    *("evaluation.batch_size", "evaluation.backend", "loader.num_workers", "loader.prefetch", "loader.cache"),
    *("distillation.baseline", "distillation.preflight", "downloads.folder", "downloads.max_gb"),
    *("data.max_megapixels", "teacher.cache_folder", "teacher.cache_max_gb"),
)
"""Settings that change how a result is reached, not the result."""


def defaults(methods: Collection[str] = ("tar",)) -> dict[str, Any]:
    """Return what a setting was before it existed: its default, also in ``data``, which must be given itself.

    Who pools regions is the exception: there was torchvision only.

    Args:
        methods: those that ran; their settings have defaults too.
    """
    fields = Config.model_fields.items()
    known = {
        name: field.default.model_dump(mode="json") for name, field in fields if isinstance(field.default, Section)
    }
    known["training"] |= {"roi_align": "exact"}
    of_data = {name: value for kind in get_args(get_args(Data)[0]) for name, value in _defaults_of(kind).items()}
    of_methods = {name: _defaults_of(settings_of_method(name)) for name in methods}
    return known | {"data": of_data, "methods": of_methods, "schedule": []}


def _defaults_of(settings: type[Section]) -> dict[str, Any]:
    """Return the defaults of a section, as they are written."""
    fields = {name: field for name, field in settings.model_fields.items() if not field.is_required()}
    values = {name: field.get_default(call_default_factory=True) for name, field in fields.items()}
    return {
        name: value.model_dump(mode="json") if isinstance(value, Section) else value for name, value in values.items()
    }


def conflicts(config: Config) -> list[str]:
    """Say what does not fit together between sections, as ``section.key: what must hold, got value``."""
    problems = [
        f"{where}: {problem_with(path)}; a path that all workers share is right too"
        for where, path in (
            ("output", config.output),
            ("data.root", getattr(config.data, "root", "")),
            ("teacher.weights", config.teacher.weights),
            ("student.weights", config.student.weights),
        )
        if "://" in path and problem_with(path)
    ]
    if config.distillation.initialize_from_teacher and not config.distills:
        problems.append("distillation.initialize_from_teacher: has no effect when every distillation weight is 0")
    training, teacher, student = config.training, config.teacher, config.student
    parts = config.scaling.num_workers * training.accumulation
    if training.batch_size % parts:
        problems.append(
            "training.batch_size: must be a multiple of scaling.num_workers x training.accumulation = "
            f"{parts}, got {training.batch_size}"
        )
    if training.precision == "fp16" and config.scaling.use_gpu is False:
        problems.append("training.precision: fp16 needs a GPU and scaling.use_gpu is false; use bf16 or fp32")
    if config.distillation.teacher_precision == "fp16" and config.scaling.use_gpu is False:
        problems.append("distillation.teacher_precision: fp16 needs a GPU and scaling.use_gpu is false; use bf16")
    problems += _engine_conflicts(config)
    for name, settings in config.methods.named().items():
        problems += [f"methods.{name}.{problem}" for problem in settings.conflicts(teacher, student)]
    return problems


def _engine_conflicts(config: Config) -> list[str]:
    """Say what does not fit to a teacher in another engine than torch."""
    distillation = config.distillation
    engine, precision = distillation.teacher_engine, distillation.teacher_precision
    if engine == "torch":
        return []
    problems, beside = [], f"with distillation.teacher_engine={engine}"
    if precision not in ("auto", "fp32", *(("bf16",) if engine == "openvino" else ())):
        known = "fp32 or bf16" if engine == "openvino" else "fp32"
        problems.append(f"distillation.teacher_precision: must be {known} {beside}, got {precision}")
    if distillation.compile_teacher:
        problems.append(f"distillation.compile_teacher: must be false {beside}, got true; leave one of them out")
    if config.scaling.use_gpu is True:
        problems.append(f"scaling.use_gpu: must not be true {beside}, which is for a processor; use torch")
    return problems
